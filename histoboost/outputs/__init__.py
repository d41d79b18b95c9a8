"""Predictions and stored slides as files that people open."""
