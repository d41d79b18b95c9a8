"""What people bring, read as slides: pixels, spots, abundances and scale."""
