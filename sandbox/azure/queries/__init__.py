"""Queries over many resources at once: Resource Graph, logs, and rows that come in."""
