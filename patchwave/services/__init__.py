"""Drivers of services that act from the runner."""
