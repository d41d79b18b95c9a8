"""Frozen networks that embed patches."""
