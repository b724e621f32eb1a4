"""The one place that reads the clock; a rehearsal moves it, and only against the sandbox."""

import ipaddress
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from patchwave.base.errors import Refused, UsageError

SHIFT = "PATCHWAVE_CLOCK_SHIFT"


def shift(environ: Mapping[str, str] = os.environ) -> timedelta | None:
    """How far a rehearsal moves the clock, or None when this is no rehearsal.

    Raises Refused unless the resource manager's address is a loopback literal, which Azure's never is.
    """
    text = environ.get(SHIFT)
    if text is None:
        return None
    try:
        moved = timedelta(seconds=int(text))
    except ValueError:
        raise UsageError(f"{SHIFT}={text!r}: write a whole number of seconds") from None
    if not is_sandbox(environ):
        raise Refused(f"{SHIFT} is set but ARM_ENDPOINT is not the sandbox: unset it, the real clock rules in Azure")
    return moved


def is_sandbox(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the resource manager is a loopback address."""
    host = urlsplit(environ.get("ARM_ENDPOINT", "")).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def now(environ: Mapping[str, str] = os.environ) -> datetime:
    """The time by which permission is judged and evidence is dated, in UTC."""
    return datetime.now(UTC) + (shift(environ) or timedelta(0))


def iso(at: datetime) -> str:
    """An instant as every JSON object and record spells it: ISO 8601 in UTC, to the second, with a Z."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def spell(at: datetime) -> str:
    """An instant as a message spells it."""
    return f"{at.astimezone(UTC):%a %Y-%m-%d %H:%M} UTC"


def hours(span: timedelta) -> str:
    """A length of time as a message spells it."""
    return f"{span.total_seconds() / 3600:.1f} h"
