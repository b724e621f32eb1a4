"""What everything else stands on: errors and exit codes, the base model, names, the clock, documents on disk."""
