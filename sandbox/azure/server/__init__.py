"""The HTTPS endpoint, identity, and the conditions under which it answers."""
