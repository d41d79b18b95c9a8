"""End-to-end CNNs, trained, scored and used like any other model."""
