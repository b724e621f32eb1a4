"""What exists: kinds, ids, the store and its rows, built-in roles, the errors of the service."""
