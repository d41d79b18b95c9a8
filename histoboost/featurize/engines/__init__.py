"""Inference engines: run a backbone on batches of patches, on a CPU or a GPU."""
