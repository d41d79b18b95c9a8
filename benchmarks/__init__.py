"""Speed, memory and accuracy against common alternatives; run all with `python -m benchmarks`."""
