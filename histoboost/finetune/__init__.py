"""End-to-end CNNs as models: trained, scored and asked for predictions like any other.

Stands above `featurize`, which trains the networks, and `regress`, which knows targets, folds
and scores; neither knows of the other.
"""
