"""What people decide in files: the standard, a stack's settings, its calendar, and the calendar compiled for Update Manager."""
