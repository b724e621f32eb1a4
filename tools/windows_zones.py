"""Renews the table of Windows zone names from a version of Unicode CLDR: `python tools/windows_zones.py 48.2.0`."""

import json
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parent.parent / "patchwave" / "calendar" / "windows_zones.json"


def main(version: str) -> None:
    """Writes the table, and the licence of its data beside it."""
    with tempfile.TemporaryDirectory() as scratch:
        core, bcp47 = (_package(name, version, Path(scratch)) for name in ("cldr-core", "cldr-bcp47"))
        rows = json.loads((core / "supplemental/windowsZones.json").read_text(encoding="utf-8"))
        keys = json.loads((bcp47 / "bcp47/timezone.json").read_text(encoding="utf-8"))
        licence = (core / "LICENSE").read_text(encoding="utf-8")
    zones = _zones([row["mapZone"] for row in rows["supplemental"]["windowsZones"]["mapTimezones"]], _aliases(keys))
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(zones[name])}" for name in sorted(zones))
    TABLE.write_text(
        f'{{\n  "source": "Unicode CLDR {version}: windowsZones, with the aliases of bcp47/timezone",\n'
        f'  "zones": {{\n{lines}\n  }}\n}}\n',
        encoding="utf-8",
    )
    TABLE.with_suffix(".license").write_text(licence, encoding="utf-8")


def _package(name: str, version: str, scratch: Path) -> Path:
    packed = subprocess.run(
        ["npm", "pack", "--silent", f"{name}@{version}"], cwd=scratch, check=True, capture_output=True, text=True
    )
    with tarfile.open(scratch / packed.stdout.strip()) as archive:
        archive.extractall(scratch / name, filter="data")
    return scratch / name / "package"


def _aliases(keys: Any) -> dict[str, list[str]]:
    """Every name of a zone, by each of them."""
    entries = [value for value in keys["keyword"]["u"]["tz"].values() if isinstance(value, dict)]
    groups = [entry["_alias"].split() for entry in entries if "_alias" in entry]
    return {name: group for group in groups for name in group}


def _zones(rows: list[dict[str, str]], aliases: dict[str, list[str]]) -> dict[str, list[str]]:
    """The IANA names of each Windows name; the first is the zone whose rules the Windows name stands for."""
    main_zone = {row["_other"]: row["_type"] for row in rows if row["_territory"] == "001"}
    others: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for zone in row["_type"].split():
            others[row["_other"]].update(aliases.get(zone, [zone]))
    return {name: [first, *sorted(others[name] - {first})] for name, first in main_zone.items()}


if __name__ == "__main__":
    main(sys.argv[1])
