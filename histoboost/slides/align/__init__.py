"""Alignment of spots with tissue: registration, tables of shifts and overlays."""
