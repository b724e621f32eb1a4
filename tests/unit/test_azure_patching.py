"""Update Manager's operations on demand: the answers are those of a host's apt, and no host is no answer."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.azure.arm.patching import Patch, available, chosen
from sandbox.lab.hosts import HostError
from tests.unit.azure_bodies import CONFIGURATION, in_guest
from tests.unit.azure_emulator import BLUE, GROUP, MACHINE, Emulator, declare, emulator
from tests.unit.test_azure_graph import ask

Json = Any
LISTING = """\
Reading package lists...
The following packages will be upgraded:
  base-files libssl3 openssl
Inst base-files [12.4+deb12u5] (12.4+deb12u8 Debian:12.8/stable [amd64])
Inst libssl3:i386 [3.0.14-1] (3.0.15-1~deb12u1 Debian:12.8/stable, Debian-Security:12/stable-security [i386]) []
Inst openssl [3.0.14-1] (3.0.15-1~deb12u1 Debian-Security:12/stable-security [amd64])
Inst linux-image-6.1.0-28-amd64 (6.1.119-1 Debian-Security:12/stable-security [amd64])
Conf base-files (12.4+deb12u8 Debian:12.8/stable [amd64])
"""
PATCHES = [
    Patch("base-files", "12.4+deb12u8", "Other"),
    Patch("libssl3:i386", "3.0.15-1~deb12u1", "Security"),
    Patch("openssl", "3.0.15-1~deb12u1", "Security"),
]
# an apt that lists what is pending, and takes from it what it is told to install
APT = """\
#!/bin/sh
for word; do last=$word; case $word in install) install=1;; *=*) if [ -n "${install-}" ]; then
  case $word in -*) ;; *) [ "${word%%=*}" != broken ] || { echo 'E: broken' >&2; exit 100; }
  grep -v "^Inst ${word%%=*} " "$PENDING" > "$PENDING.new"; mv "$PENDING.new" "$PENDING";; esac; fi;; esac; done
[ "$last" != dist-upgrade ] || cat "$PENDING"
"""


@pytest.fixture
def azure() -> Iterator[Emulator]:
    with emulator() as made:
        declare(made)
        yield made


@pytest.fixture
def pending(azure: Emulator, tmp_path: Path) -> Path:
    """What the machines' apt has pending; their scripts run for real."""
    stub, pending = tmp_path / "apt-get", tmp_path / "pending"
    stub.write_text(APT)
    stub.chmod(0o755)
    pending.write_text(LISTING)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PENDING": str(pending)}

    def system(name: str, script: str) -> str:
        done = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostError(f"{name}: {done.stderr.strip()}")
        return done.stdout

    azure.hosts.system = system
    return pending


def request(azure: Emulator, path: str, body: Json = None) -> Json:
    """The end of an operation as its status tells it."""
    answer = azure.ask("POST", path, body)
    assert answer.status_code == 202, answer.text
    assert azure.ended(answer)
    place = answer.headers["Azure-AsyncOperation"].removeprefix(azure.sandbox.endpoint)
    return azure.azure("GET", place, headers=azure.bearer).json()


def found(azure: Emulator, query: str) -> list[Json]:
    data: list[Json] = ask(azure, query).json()["data"]
    return data


def test_what_apt_lists_are_the_updates_of_what_is_installed() -> None:
    assert available(LISTING) == PATCHES
    assert available("") == []


names = st.sampled_from(["openssl", "libc6", "linux-image", "nginx", "base-files"])
masks = st.lists(st.sampled_from(["openssl", "lib*", "*", "nginx", "linux-*"]), max_size=2)


@given(
    st.lists(st.builds(Patch, names, st.just("1"), st.sampled_from(["Security", "Other"])), unique=True),
    st.lists(st.sampled_from(["Critical", "Security", "Other"]), max_size=2),
    masks,
    masks,
)
def test_nothing_excluded_is_installed_and_nothing_that_nobody_asked_for(
    patches: list[Patch], classes: list[str], include: list[str], exclude: list[str]
) -> None:
    wanted = {
        "classificationsToInclude": classes, "packageNameMasksToInclude": include, "packageNameMasksToExclude": exclude,
    }  # fmt: skip
    selected, excluded = chosen(patches, {"linuxParameters": wanted})
    assert not set(selected) & set(excluded)
    assert bool(exclude) or not excluded
    assert all(patch.classification in classes or include for patch in selected)
    assert set(patches) == set(selected) | set(excluded) or "*" not in include


def test_an_assessment_tells_what_the_hosts_apt_has_and_resource_graph_shows_it(azure: Emulator, pending: Path) -> None:
    output = request(azure, f"{MACHINE}/assessPatches")["properties"]["output"]
    assert (output["criticalAndSecurityPatchCount"], output["otherPatchCount"]) == (2, 1)
    assert [one["name"] for one in output["availablePatches"]] == [patch.name for patch in PATCHES]
    query = (
        "patchassessmentresources | where type {} 'softwarepatches' | project id, type, properties | order by id asc"
    )
    (summary,) = found(azure, query.format("!has"))
    assert summary["id"].lower() == f"{MACHINE}/patchAssessmentResults/latest".lower()
    assert summary["properties"]["availablePatchCountByClassification"]["security"] == 2
    assert len(found(azure, query.format("has"))) == 3
    pending.write_text("")
    assert request(azure, f"{MACHINE}/assessPatches")["properties"]["output"]["otherPatchCount"] == 0
    assert found(azure, query.format("has")) == []


def test_an_installation_brings_what_was_asked_for_and_nothing_else(azure: Emulator, pending: Path) -> None:
    linux = {"classificationsToInclude": ["Security"], "packageNameMasksToExclude": ["lib*"]}
    wanted = {"rebootSetting": "Never", "maximumDuration": "PT1H", "linuxParameters": linux}
    output = request(azure, f"{MACHINE}/installPatches", wanted)["properties"]["output"]
    counts = ("installedPatchCount", "excludedPatchCount", "notSelectedPatchCount", "failedPatchCount")
    assert [output[name] for name in counts] == [1, 1, 1, 0]
    assert (output["status"], output["rebootStatus"]) == ("Succeeded", "NotNeeded")
    assert [patch.name for patch in available(pending.read_text())] == ["base-files", "libssl3:i386"]
    query = "patchinstallationresources | where type has 'softwarepatches' | project p = properties"
    states = {row["p"]["patchName"]: row["p"]["installationState"] for row in found(azure, query)}
    assert states == {"base-files": "NotSelected", "libssl3:i386": "Excluded", "openssl": "Installed"}
    assert ("restart", "dev-vm-0") not in azure.hosts.calls
    again = request(azure, f"{MACHINE}/installPatches", wanted | {"rebootSetting": "Always"})["properties"]["output"]
    assert (again["installedPatchCount"], again["rebootStatus"]) == (0, "Completed")
    assert ("restart", "dev-vm-0") in azure.hosts.calls


def test_an_installation_that_fails_says_so_of_what_is_still_pending(azure: Emulator, pending: Path) -> None:
    pending.write_text("Inst broken [1] (2 Debian:12/stable-security [all])\n")
    linux = {"packageNameMasksToInclude": ["broken"]}
    wanted = {"rebootSetting": "IfRequired", "linuxParameters": linux}
    output = request(azure, f"{MACHINE}/installPatches", wanted)["properties"]["output"]
    assert (output["status"], output["failedPatchCount"], output["installedPatchCount"]) == ("Failed", 1, 0)
    assert "broken" in output["error"]["message"]


def test_without_a_host_to_ask_there_are_no_numbers(azure: Emulator) -> None:
    ended = request(azure, f"{MACHINE}/assessPatches")
    assert (ended["status"], ended["error"]["code"]) == ("Failed", "VMGuestPatchInternalError")
    assert found(azure, "patchassessmentresources | project id | order by id asc") == []
    assert azure.ask("GET", MACHINE).json()["properties"]["provisioningState"] == "Succeeded"


def test_what_the_operations_do_not_take_is_refused(azure: Emulator) -> None:
    good = {"rebootSetting": "IfRequired", "maximumDuration": "PT2H"}
    for wrong in (
        {"maximumDuration": "PT2H"},
        good | {"rebootSetting": "Sometimes"},
        good | {"maximumDuration": "2 hours"},
        good | {"windowsParameters": {"classificationsToInclude": ["Security"]}},
        good | {"linuxParameters": {"classificationsToInclude": ["Urgent"]}},
        good | {"colour": "red"},
    ):
        assert azure.refused("POST", f"{MACHINE}/installPatches", wrong)[0] == 400, wrong
    assert azure.refused("POST", f"{BLUE}/assessPatches") == (400, "InvalidResourceType")


def test_a_machine_that_is_off_is_not_asked(azure: Emulator) -> None:
    azure.ended(azure.ask("POST", f"{MACHINE}/deallocate"))
    assert azure.refused("POST", f"{MACHINE}/assessPatches") == (409, "OperationNotAllowed")
    assert azure.refused("POST", f"{MACHINE}/installPatches", {"rebootSetting": "Never"}) == (
        409,
        "OperationNotAllowed",
    )


def test_an_arc_machine_wants_the_duration_and_gets_counts_by_class(azure: Emulator, pending: Path) -> None:
    made = azure.identity("POST", "/sandbox/arc", json={"name": "site-0"}).json()
    assert azure.refused("POST", f"{made['id']}/installPatches", {"rebootSetting": "Never"})[0] == 400
    output = request(azure, f"{made['id']}/assessPatches")["properties"]["output"]
    assert output["availablePatchCountByClassification"]["security"] == 2
    assert (output["patchServiceUsed"], output["osType"]) == ("APT", "Linux")


def test_what_was_found_on_a_machine_goes_with_it(azure: Emulator, pending: Path) -> None:
    request(azure, f"{MACHINE}/assessPatches")
    azure.ask("PUT", f"{MACHINE}/providers/Microsoft.Maintenance/applyUpdates/default", {})
    azure.ended(azure.ask("DELETE", MACHINE))
    assert [row.key for row in azure.endpoints.store.all() if row.key.startswith(f"{MACHINE.lower()}/")] == []


def test_a_machine_has_no_platform_updates_and_says_so(azure: Emulator) -> None:
    updates = f"{MACHINE}/providers/Microsoft.Maintenance/applyUpdates"
    made = azure.ask("PUT", f"{updates}/default", {})
    assert (made.status_code, made.json()["properties"]["status"]) == (201, "NoUpdatesPending")
    assert azure.ask("GET", made.json()["id"]).json() == made.json()
    listed = azure.ask("GET", f"{GROUP}/providers/Microsoft.Maintenance/applyUpdates").json()["value"]
    assert listed == [made.json()]
    assert azure.refused("GET", f"{updates}/other") == (404, "ResourceNotFound")


def test_a_run_that_no_schedule_has_begun_cannot_be_cancelled(azure: Emulator) -> None:
    azure.put(CONFIGURATION, in_guest())
    run = f"{CONFIGURATION}/providers/Microsoft.Maintenance/applyUpdates/20261207090000"
    assert azure.refused("PUT", run, {"properties": {"status": "Cancel"}}) == (404, "ResourceNotFound")
    assert azure.refused("PUT", run, {"properties": {"status": "Completed"}}) == (400, "InvalidRequestContent")
    assert azure.refused("PUT", run.replace("/weekly/", "/none/"), {"properties": {"status": "Cancel"}})[0] == 404
