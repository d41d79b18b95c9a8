"""The embedding store: all that the two stages share."""
