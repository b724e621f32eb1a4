"""Small, valid pieces for tests to start from."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from patchwave.advisories import NOTHING
from patchwave.calendar import Monthly, Weekly, Window
from patchwave.inventory import Host
from patchwave.release import Package, Pending, Release, Sealed, seal
from patchwave.settings import Settings, load_stack
from patchwave.standard import Standard, load_standard
from tests.fast.engine import PROJECT

STANDARD: Standard = load_standard(PROJECT)
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def settings(stack: str = "dev") -> Settings:
    return load_stack(PROJECT, stack).settings


def weekly(*days: str, starts: time = time(9), lasts: timedelta = timedelta(hours=2), zone: str = "Etc/UTC") -> Window:
    recurs = Weekly(every="week", weekdays=tuple(days))  # type: ignore[arg-type]  # a wrong day fails the test
    return Window(recurs=recurs, starts=starts, lasts=lasts, zone=zone)


def patch_sunday(lasts: timedelta = timedelta(hours=4)) -> Window:
    recurs = Monthly(every="month", week="second", weekday="Tuesday", offset_days=5)
    return Window(recurs=recurs, starts=time(2), lasts=lasts, zone="Etc/UTC")


def host(name: str, *, live: bool = False, ring: str = "rest", source: str = "vmss") -> Host:
    return Host.model_validate(
        {
            "id": f"/h/{name}",
            "name": name,
            "address": "10.0.0.1",
            "source": source,
            "fleet": "web",
            "ring": ring,
            "slot": None,
            "os": "Linux",
            "live": live,
        }
    )


def pending(name: str = "openssl", to: str = "3.0.20-1~deb12u2", **changed: Any) -> Pending:
    fields = {
        "name": name,
        "arch": "amd64",
        "from": "3.0.19-1~deb12u2",
        "to": to,
        "origin": "Debian",
        "label": "Debian-Security",
        "suite": "stable-security",
        "size": 1000,
        "sha256": "a" * 64,
        "source": name,
    }
    return Pending.model_validate(fields | changed)


def release(*updates: Pending, release_id: str = "2026-11-22.1") -> Release:
    chosen = updates or (pending(),)
    sealed = Sealed(stack="dev", at=NOW, hosts=("dev-blue-0",))
    return seal(release_id, sealed, chosen, {update.name: [] for update in chosen}, STANDARD, NOTHING)


def package(release_: Release, name: str) -> Package:
    return next(p for p in release_.packages if p.name == name)
