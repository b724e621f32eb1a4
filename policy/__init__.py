"""The organisation's rules for patching, and the pack that enforces them."""
