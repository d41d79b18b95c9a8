"""The models that learn composition from features, behind one protocol."""
