"""Microsoft's own Kusto language service, asked what it thinks of a query over given tables."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from patchwave.azure import claims
from patchwave.base.errors import Failed
from patchwave.config.settings import load_stack
from sandbox.config import cache_folder
from tests.unit.engine import declare_stack

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
QUERIES = sorted(
    path for path in PROJECT.rglob("*.kql") if not any(part.startswith(".") for part in path.relative_to(PROJECT).parts)
)
# https://learn.microsoft.com/azure/governance/resource-graph/concepts/query-language
_RESOURCE = {
    "id": "string", "name": "string", "type": "string", "tenantId": "string", "kind": "string", "location": "string",
    "resourceGroup": "string", "subscriptionId": "string", "managedBy": "string", "sku": "dynamic", "plan": "dynamic",
    "properties": "dynamic", "tags": "dynamic", "identity": "dynamic", "zones": "dynamic",
    "extendedLocation": "dynamic",
}  # fmt: skip
RESOURCE_GRAPH = dict.fromkeys(
    ("resources", "resourcecontainers", "computeresources", "networkresources", "authorizationresources",
     "maintenanceresources", "patchassessmentresources", "patchinstallationresources", "alertsmanagementresources"),
    _RESOURCE,
)  # fmt: skip
PACKAGE = ("package.json", "package-lock.json", ".npmrc")
Tables = Mapping[str, Mapping[str, str]]


class Query(NamedTuple):
    """A query and the database, among those given, whose tables it may name."""

    file: str
    database: str
    text: str


class Complaint(NamedTuple):
    """One diagnostic; lines and columns count from 1."""

    file: str
    code: str
    line: int
    column: int
    message: str


@cache
def log_analytics() -> Tables:
    """The tables that the program declares, as Azure is asked for them."""
    kinds = {"dateTime": "datetime", "boolean": "bool"}
    schemas = [d.props["schema"] for d in declare_stack("dev") if d.type == "azure-native:operationalinsights:Table"]
    return {
        schema["name"]: {one["name"]: kinds.get(one["type"], one["type"]) for one in schema["columns"]}
        for schema in schemas
    }


def database(path: Path) -> str:
    """Which service a query of this repository is for: components ask Log Analytics, the core asks Resource Graph."""
    return {"components": "log-analytics", "patchwave": "resource-graph"}[path.relative_to(PROJECT).parts[0]]


def asked(path: Path) -> Query:
    """A query of this repository as it is sent; the inventory's has its conditions filled in."""
    text = path.read_text(encoding="utf-8")
    if text == claims.QUERY:
        text = claims.Claims("dev", load_stack(PROJECT, "dev").settings, "00000000-0000-0000-0000-000000000000").query
    return Query(str(path), database(path), text)


def databases() -> Mapping[str, Tables]:
    """The tables of each service."""
    return {"log-analytics": log_analytics(), "resource-graph": RESOURCE_GRAPH}


def printed_client() -> str:
    """The lines of Python that the page of queries shows."""
    found = re.search(r"```python\n(.+?)```", (PROJECT / "docs" / "queries.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def check(databases: Mapping[str, Tables], queries: Sequence[Query]) -> list[Complaint]:
    """What is wrong with these queries; tables are given as column names with their types."""
    request = {"databases": databases, "queries": [query._asdict() for query in queries]}
    command = [_tool("node"), str(HERE / "check.js"), str(_language_service())]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"node tests/kusto/check.js: {' '.join(done.stderr.split())[-500:]}")
    return [Complaint(**one) for one in json.loads(done.stdout)]


def _language_service() -> Path:
    """A folder with the locked package in it, installed once."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in PACKAGE)).hexdigest()[:16]
    home = cache_folder() / f"kusto-{digest}"
    if not home.exists():
        draft = home.with_name(f".{home.name}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for name in PACKAGE:
            shutil.copy(HERE / name, draft)
        command = [_tool("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=draft, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"`npm ci` in {draft}: {' '.join(done.stderr.split())[-500:]}")
        draft.rename(home)
    return home


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Failed(f"{name} is not on PATH: run `apt-get install nodejs npm` (`make test` does)")
    return path
