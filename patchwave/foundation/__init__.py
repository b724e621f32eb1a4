"""What everything else stands on: errors and their exit codes, the base model, names, the clock, documents read from disk."""
