"""Windows' names of time zones, as far as schedules here use them: CLDR's windowsZones, territory 001."""

from __future__ import annotations

from zoneinfo import ZoneInfo

_ZONES = {
    "UTC": "Etc/UTC",
    "GMT Standard Time": "Europe/London",
    "W. Europe Standard Time": "Europe/Berlin",
    "Romance Standard Time": "Europe/Paris",
    "Eastern Standard Time": "America/New_York",
    "Central Standard Time": "America/Chicago",
    "Pacific Standard Time": "America/Los_Angeles",
    "India Standard Time": "Asia/Kolkata",
    "Tokyo Standard Time": "Asia/Tokyo",
    "AUS Eastern Standard Time": "Australia/Sydney",
}


def zone_of(name: str) -> ZoneInfo | None:
    """The zone whose clock a Windows zone keeps; None for a name that Windows does not have."""
    return ZoneInfo(_ZONES[name]) if name in _ZONES else None
