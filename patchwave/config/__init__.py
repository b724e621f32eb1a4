"""What people decide in files: the standard, stacks' settings, calendars, and what Update Manager makes of them."""
