"""Text of hosts and of other people's services, before a terminal or a record gets it."""

import re
import unicodedata
from typing import Any

_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]*[0-~]?)")
_KEPT = "\n\t"


def printable(value: Any) -> Any:
    """The value with every text in it freed of terminal escapes, control and direction characters."""
    if isinstance(value, str):
        return "".join(
            one for one in _ESCAPE.sub("", value) if one in _KEPT or unicodedata.category(one) not in ("Cc", "Cf", "Cs")
        )
    if isinstance(value, dict):
        return {printable(key): printable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(part) for part in value]
    return value


def one_line(text: object, limit: int = 500) -> str:
    """Any text on one line of bounded length that is fit to be printed."""
    flat = " ".join(str(printable(str(text))).split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"
