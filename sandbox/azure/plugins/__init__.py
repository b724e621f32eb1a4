"""What the engine runs in place of the official plugins, and how it is installed."""
