"""End-to-end CNNs: the recipes that the field starts from, trained and compared fairly.

This room trains networks and knows nothing of scores: what a good prediction is comes in as a
function. `histoboost.endtoend` puts both together.
"""
