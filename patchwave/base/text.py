"""Text from outside on its way to a terminal, a record or a page."""

import unicodedata


def one_line(text: object, limit: int = 500) -> str:
    """Any text on one line of bounded length, without control characters, escapes and marks that turn text around."""
    flat = " ".join(str(text).split())
    plain = "".join(char for char in flat if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co"))
    return plain if len(plain) <= limit else f"{plain[: limit - 1]}…"
