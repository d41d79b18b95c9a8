"""Slides: images, spots, abundances and scale, read from many formats."""
