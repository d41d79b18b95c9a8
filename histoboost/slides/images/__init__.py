"""Pixels of a slide, one file per source."""
