"""The one sandbox that the engine's and the lab's tests share: its dev stack is patched once, for real."""

import os
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from tests.laboratory import Laboratory, laboratory

# The same examples each time, few of them; `HYPOTHESIS_PROFILE=nightly` looks for new ones.
settings.register_profile(
    "fast", max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile("nightly", max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

LISTS = (
    ["ip", "-o", "link"],
    ["ip", "-o", "-4", "address"],
    ["ip", "route"],
    ["findmnt", "-rno", "TARGET"],
    ["nft", "list", "ruleset"],
    ["cat", "/proc/sys/net/ipv4/ip_forward"],
)


class Patched(NamedTuple):
    """The laboratory after its first `up`, and what that printed."""

    lab: Laboratory
    printed: str
    release: str


def machine() -> dict[str, str]:
    """What a sandbox could leave behind on this machine."""
    return {" ".join(c): subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in LISTS}


@pytest.fixture(scope="session")
def before() -> dict[str, str]:
    return machine()


@pytest.fixture(scope="session")
def lab(before: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("laboratory")) as made:
        yield made


@pytest.fixture(scope="session")
def patched(lab: Laboratory) -> Patched:
    printed = lab.sandbox("up")
    return Patched(lab, printed, lab.release())
