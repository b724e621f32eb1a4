"""Holds on a host: a wave sets and lifts exactly its own, and never one that somebody else has set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import playbook_code  # noqa: F401  # makes the next imports possible

from ansible.module_utils import patchwave_apt as apt  # isort: skip
from ansible.module_utils import patchwave_holds as holds  # isort: skip
from ansible.module_utils.patchwave_host import Done, StepError  # isort: skip
from ansible.module_utils.patchwave_versions import Installed  # isort: skip

NAMES = ("openssl", "nginx", "libc6:i386")
keys = st.sampled_from(NAMES)


def installed(*held: str) -> dict[str, Installed]:
    return {key: Installed(key.partition(":")[0], "amd64", "1", key in held, "installed", key, "1") for key in NAMES}


def after(held: set[str], hold: dict[str, str], lift: list[str]) -> set[str]:
    assert not set(hold) & held, "what is held already is not held again"
    assert set(lift) <= held
    return (held | set(hold)) - set(lift)


@given(
    st.dictionaries(keys, st.sampled_from(("W-1", "W-2"))),
    st.sets(keys),
    st.dictionaries(st.sampled_from(("openssl", "nginx", "libc6", "absent")), st.sampled_from(("W-1", "W-3"))),
    st.sets(st.sampled_from(("W-1", "W-2", "W-3"))),
    st.sets(st.sampled_from(("openssl", "nginx", "libc6"))),
)
def test_what_is_wanted_is_held_what_is_not_is_lifted_and_foreign_holds_stay(
    ours: dict[str, str], held: set[str], wanted: dict[str, str], waivers: set[str], release: set[str]
) -> None:
    marker, hold, lift = holds.changes(ours, wanted, sorted(waivers), sorted(release), installed(*held))
    now = after(held, hold, lift)
    for key in NAMES:
        name, foreign = key.partition(":")[0], key in held and key not in ours
        if foreign:
            assert key in now
            assert key not in marker
        elif name in wanted:
            assert key in now
            assert marker[key] == wanted[name]
        elif key in ours and (ours[key] not in waivers or name in release):
            assert key not in now
            assert key not in marker
        elif key in ours:
            assert marker[key] == ours[key]


@given(st.sets(keys), st.dictionaries(st.sampled_from(("openssl", "nginx")), st.just("W-1")))
def test_a_waiver_that_ends_leaves_the_host_as_it_was(held: set[str], wanted: dict[str, str]) -> None:
    marker, hold, lift = holds.changes({}, wanted, ["W-1"], sorted(wanted), installed(*held))
    between = after(held, hold, lift)
    marker, hold, lift = holds.changes(marker, {}, [], sorted(wanted), installed(*between))
    assert after(between, hold, lift) == held
    assert marker == {}


def test_the_second_wave_changes_nothing() -> None:
    marker, _, _ = holds.changes({}, {"openssl": "W-1"}, ["W-1"], ["openssl"], installed())
    assert holds.changes(marker, {"openssl": "W-1"}, ["W-1"], ["openssl"], installed("openssl")) == (marker, {}, [])


@pytest.fixture
def marked(monkeypatch, tmp_path):
    """The apt-mark commands that were run, with the marker as it stood at each."""
    seen = []
    marker = tmp_path / "holds.json"

    def run(argv, **_):
        seen.append((argv[1:2] + argv[3:], holds.read(marker)))
        return Done(tuple(argv), 0, "", "")

    monkeypatch.setattr(apt, "run", run)
    monkeypatch.setattr(apt, "native_architecture", lambda: "amd64")
    return seen, marker


def test_a_hold_is_written_down_before_it_is_set_and_forgotten_after_it_is_lifted(marked):
    seen, marker = marked
    holds.apply({"openssl": "W-1"}, ["W-1"], ["openssl"], installed(), apt, marker)
    holds.apply({}, [], ["openssl"], installed("openssl"), apt, marker)
    assert seen == [(["hold", "openssl"], {"openssl": "W-1"}), (["unhold", "openssl"], {"openssl": "W-1"})]
    assert holds.read(marker) == {}


def test_a_hostile_package_name_reaches_no_command(marked):
    seen, marker = marked
    with pytest.raises(StepError, match="not a valid one"):
        holds.apply({"-oAPT::Update::Pre-Invoke::=id": "W-1"}, ["W-1"], [], installed(), apt, marker)
    assert seen == []


def test_a_damaged_marker_is_named_and_not_guessed(tmp_path):
    (tmp_path / "holds.json").write_text("{")
    with pytest.raises(StepError, match=r"holds\.json is damaged"):
        holds.read(tmp_path / "holds.json")
