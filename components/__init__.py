"""What Azure holds, one component a file; `Stack` is the root of them."""

from components.stack import Stack

__all__ = ["Stack"]
