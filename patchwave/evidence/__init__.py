"""Records that are chained and signed, so that a changed one is found."""
