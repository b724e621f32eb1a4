"""The HTTPS door, identity, and the conditions under which it answers."""
