"""Embeddings to composition: features, targets, models and their honest scores."""
