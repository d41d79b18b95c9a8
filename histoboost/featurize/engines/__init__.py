"""What runs a backbone on a batch of patches, and on which device."""
