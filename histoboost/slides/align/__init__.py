"""Do the spots lie on the tissue? Registration, the table of shifts and pictures."""
