"""Pixels to embeddings: read slides, crop patches, run a frozen CNN, fill the store."""
