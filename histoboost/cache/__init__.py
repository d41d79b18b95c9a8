"""The only thing the two stages share: what was computed, from what, and is it whole."""
