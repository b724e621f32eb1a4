#!/usr/bin/python
"""Reads from the packages themselves what their new versions fix."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils import patchwave_methods
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_host import count, serve
from ansible.module_utils.patchwave_versions import exact

DOCUMENTATION = """
module: patchwave_changelog
short_description: Reads from the packages themselves what their new versions fix
description:
  - Downloads each package and returns the changelog entries newer
    than C(from).
options:
  method: {description: How the host is patched., type: str, choices: [apt, dnf], required: true}
  packages: {description: "Packages as name, arch, from and to.", type: list, elements: dict, required: true}
  timeout: {description: Seconds for all downloads., type: int, default: 600}
author: Patchwave
"""
EXAMPLES = """
- patchwave_changelog:
    method: apt
    packages: [{name: openssl, arch: amd64, from: 3.0.15-1, to: 3.0.16-1}]
"""
RETURN = """
packages: {description: "By name: the source and its entries, newest first.", type: dict, returned: success}
"""


def work(params: dict[str, Any]) -> dict[str, Any]:
    packages = patchwave_methods.of(params["method"])
    spelling, native = packages.SPELLING, packages.native_architecture()
    wanted = {
        exact(spelling.name, row.get("name"), "package name"): (
            exact(spelling.arch, row.get("arch") or native, "architecture"),
            exact(spelling.version, row.get("from"), "version"),
            exact(spelling.version, row.get("to"), "version"),
        )
        for row in params["packages"]
    }
    folder = Path(tempfile.mkdtemp(prefix="patchwave-changelogs-"))
    try:
        found = packages.changelogs(wanted, folder, params["timeout"]) if wanted else {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    cves = {cve for row in found.values() for entry in row["entries"] for cve in entry["cves"]}
    return {"packages": found, "summary": f"{count(len(found), 'package')}, {count(len(cves), 'CVE')}"}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": {"type": "str", "choices": ["apt", "dnf"], "required": True},
            "packages": {"type": "list", "elements": "dict", "required": True},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    serve(module, "changelog", work)


if __name__ == "__main__":
    main()
