"""Frozen networks that turn a patch into a row of numbers."""
