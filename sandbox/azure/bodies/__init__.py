"""Bodies of resources: their shapes, how they travel and are read back, where two differ."""
