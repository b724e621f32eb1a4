"""The one decision: each reason to refuse with its admitted neighbour, and what no combination of inputs may do."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from patchwave.authorization import approvals, promotion, signatures
from patchwave.authorization.criteria import Finding
from patchwave.authorization.decision import Aspect, decide, needed
from patchwave.authorization.inputs import Inputs, Subject, subject
from patchwave.authorization.messages import line
from patchwave.authorization.promotion import Proof
from patchwave.base import clock
from patchwave.base.errors import Refused, UsageError
from patchwave.calendar.windows import BreakGlass, Calendar, Freeze
from patchwave.config.standard import StandardFreeze
from patchwave.evidence import chain as evidence
from patchwave.evidence.chain import canonical
from patchwave.releases import waivers
from patchwave.releases.quarantine import Entry
from tests.unit.builders import (
    DIGEST,
    IN_WINDOW,
    NOW,
    RELEASE_ID,
    STANDARD,
    critical_emergency,
    inputs,
    make_keys,
    patch_sunday,
    release,
    signed,
    signed_by_all,
    weekly,
)

SOAK = STANDARD.stacks["prod"].soak
VALID = STANDARD.stacks["prod"].proof_valid
HOUR = timedelta(hours=1)
OUTSIDE = IN_WINDOW + 10 * HOUR
HARD = Freeze(starts=IN_WINDOW - HOUR, ends=IN_WINDOW + 72 * HOUR, reason="year end", kind="hard")
SOFT = Freeze(starts=IN_WINDOW - HOUR, ends=IN_WINDOW + 72 * HOUR, reason="fair", kind="soft")
GLASS = BreakGlass(starts=IN_WINDOW - HOUR, ends=IN_WINDOW + 20 * HOUR, reason="worse to wait", owner="CISO")


def frozen(*freezes: Freeze, glass: bool = False) -> Calendar:
    return Calendar(windows=(patch_sunday(),), freezes=freezes, break_glass=(GLASS,) if glass else ())


def proof(ended: datetime = IN_WINDOW - timedelta(days=10), **changed: Any) -> Proof:
    return inputs().proof.model_copy(update={"ended": ended, "really_ended": ended, **changed})  # type: ignore[union-attr]


def by(author: str) -> Subject:
    return inputs().release.model_copy(update={"author": author})


def alone(**changed: Any) -> dict[str, Any]:
    """The CTO's approval as it should be but for this, beside a good one of the CISO."""
    return {"approvals": (signed("ciso@dcmms.com", "CISO"), signed("cto@dcmms.com", "CTO", **changed))}


TWICE = {
    "approvals": (signed("cto@dcmms.com", "CISO"), signed("cto@dcmms.com", "CTO")),
    "standard": STANDARD.model_copy(update={"roles": {**STANDARD.roles, "CISO": ("cto@dcmms.com",)}}),
}
OTHERS = [signed("ciso@dcmms.com", "CISO", digest="e" * 64), signed("cto@dcmms.com", "CTO", digest="e" * 64)]


def refusal(wanted: Inputs) -> str:
    decision = decide(wanted)
    assert decision.allowed == (decision.refusals == ())
    return "" if decision.allowed else line(wanted, decision)


def test_what_everything_allows_is_allowed() -> None:
    decision = decide(inputs())
    assert (decision.allowed, decision.lane) == (True, "routine")
    assert decision.approved == {"CISO": "ciso@dcmms.com", "CTO": "cto@dcmms.com"}
    assert decision.calendar.closes == IN_WINDOW + 4 * HOUR


@pytest.mark.parametrize(
    ("changed", "about", "message"),
    [
        ({"at": OUTSIDE}, "calendar", "outside every window: run again at Sun 2027-01-17 02:00 UTC"),
        ({"needs": 5 * HOUR}, "calendar", "240 min left in the window"),
        ({"calendar": frozen(HARD)}, "calendar", "frozen until Wed 2026-12-16 02:00 UTC: year end"),
        ({"calendar": frozen(HARD, glass=True)}, "calendar", "frozen until"),
        ({"calendar": frozen(SOFT)}, "calendar", "frozen until"),
        ({"proof": None}, "promotion", "has no evidence from staging"),
        ({"proof": Proof(stack="staging", problem="the evidence is torn")}, "promotion", "the evidence is torn"),
        ({"proof": proof(stack="dev")}, "promotion", "has no evidence from staging"),
        ({"proof": proof(outcome="rolled-back")}, "promotion", "ended rolled-back on staging"),
        ({"proof": proof(outcome=None, ended=None)}, "promotion", "ended unfinished on staging"),
        ({"proof": proof(digest="e" * 64)}, "promotion", "promote what was proved"),
        ({"proof": proof(rehearsal=True)}, "promotion", "is a rehearsal's"),
        ({"proof": proof(IN_WINDOW - SOAK + HOUR)}, "promotion", "has soaked 47.0 h of 48.0 h on staging"),
        ({"proof": proof(IN_WINDOW - VALID - timedelta(seconds=1))}, "promotion", "is 45 days old, 45 are allowed"),
        ({"proof": proof(IN_WINDOW + HOUR)}, "promotion", "the clocks disagree"),
        ({"approvals": signed_by_all()[1:]}, "approvals", "normal approval is missing from CISO: each signs with"),
        ({"release": by("cto@dcmms.com")}, "approvals", "its author does not approve it"),
        ({"approvals": tuple(OTHERS)}, "approvals", "it is for digest eeeeeeeeeeee"),
        (alone(problem="its signature does not fit"), "approvals", "CTO (prod.cto.cto-dcmms-com.json: its signature"),
        (alone(at=IN_WINDOW - 25 * HOUR), "approvals", "CTO (prod.cto.cto-dcmms-com.json: it expired Sun 2026-12-13"),
        (alone(at=IN_WINDOW + HOUR), "approvals", "after this decision: the clocks disagree, correct one"),
        (alone(rehearsal=True), "approvals", "CTO (prod.cto.cto-dcmms-com.json: it was given in a rehearsal)"),
        (TWICE, "approvals", "(cto@dcmms.com counts for another role)"),
    ],
)  # fmt: skip
def test_each_reason_alone_refuses_and_is_named(changed: dict[str, Any], about: Aspect, message: str) -> None:
    wanted = inputs(**changed)
    assert {one.about for one in decide(wanted).refusals} == {about}
    output = refusal(wanted)
    assert output.startswith(f"prod: patching is refused at {clock.spell(wanted.at)}, ")
    assert message in output
    assert "\n" not in output


@pytest.mark.parametrize("ended", [IN_WINDOW - SOAK, IN_WINDOW - VALID])
def test_proof_is_good_from_its_soak_until_it_is_stale(ended: datetime) -> None:
    assert refusal(inputs(proof=proof(ended))) == ""


def test_a_stack_may_ask_for_a_longer_soak_and_none_is_taken_that_is_shorter() -> None:
    fresh = proof(IN_WINDOW - SOAK)
    longer, shorter = (frozen().model_copy(update={"soak": SOAK + extra}) for extra in (HOUR, -HOUR))
    assert "has soaked 48.0 h of 49.0 h on staging" in refusal(inputs(proof=fresh, calendar=longer))
    assert "calendar.soak: 1 day, 23:00:00 is less than the standard's" in refusal(inputs(calendar=shorter))
    assert "of 48.0 h" in refusal(inputs(proof=proof(IN_WINDOW - SOAK + HOUR), calendar=shorter))


def test_a_refusal_names_every_reason_on_one_line() -> None:
    output = refusal(inputs(at=OUTSIDE, proof=None, approvals=()))
    assert all(
        word in output for word in ("outside every window", "no evidence from staging", "missing from CISO, CTO")
    )


@pytest.mark.parametrize(
    ("severities", "roles"),
    [
        (("low",), {"Team Lead"}),
        (("medium", "high"), {"Engineering Manager", "Security Lead"}),
        (("critical", "low"), {"CISO", "CTO", "Team Lead"}),
    ],
)
def test_each_severity_of_a_release_brings_its_approvers(severities: tuple[Any, ...], roles: set[str]) -> None:
    release = Subject(id=RELEASE_ID, digest=DIGEST, author="a@dcmms.com", severities=severities)
    assert set(decide(inputs(release=release)).approved) == roles


@pytest.mark.parametrize(
    ("sealed_as", "cvss", "counts"),
    [
        ("low", 9.8, "critical"),
        ("critical", 5.0, "critical"),
        ("low", None, "high"),
        ("low", 0.0, "low"),
        ("low", 2.0, "low"),
    ],
)
def test_a_fix_never_counts_as_less_than_its_score(sealed_as: Any, cvss: float | None, counts: str) -> None:
    plain = release()
    advisory = plain.advisories[0].model_copy(update={"severity": sealed_as, "cvss": cvss})
    wanted = subject(plain.model_copy(update={"advisories": (advisory,)}), STANDARD)
    assert wanted.severities == (counts,)


def test_a_package_without_an_advisory_counts_as_unscored() -> None:
    bare = release().model_copy(update={"advisories": ()})
    assert subject(bare, STANDARD).severities == (STANDARD.unscored,)


WEEKDAYS = weekly("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", duration=timedelta(hours=8))
OF_THE_STANDARD = {"standard": STANDARD.model_copy(update={"freezes": (StandardFreeze(**HARD.model_dump()),)})}


@pytest.mark.parametrize("lane", ["routine", "emergency"])
def test_a_calendar_that_is_looser_than_the_standard_permits_nothing(lane: str) -> None:
    wide = frozen().model_copy(update={"windows": (WEEKDAYS,)})
    busy = IN_WINDOW + timedelta(days=2, hours=8)
    given = urgent(calendar=wide) if lane == "emergency" else inputs(calendar=wide, at=busy)
    about = {one.about for one in decide(given).refusals}
    assert ("standard" in about, "calendar" in about) == (True, False)
    assert "Pulumi.prod.yaml is looser than the standard, calendar.windows: " in refusal(given)


def test_a_freeze_of_the_standard_holds_whatever_the_stack_file_says() -> None:
    assert "frozen until Wed 2026-12-16 02:00 UTC: year end" in refusal(inputs(**OF_THE_STANDARD))
    elsewhere = StandardFreeze(**HARD.model_dump(), stacks=("staging",))
    assert refusal(inputs(standard=STANDARD.model_copy(update={"freezes": (elsewhere,)}))) == ""


def test_break_glass_lifts_a_freeze_of_the_standard_with_its_signatures_only() -> None:
    glass = urgent(**OF_THE_STANDARD, calendar=frozen(glass=True))
    assert "break-glass approval is missing from CISO" in refusal(glass)
    assert refusal(glass.model_copy(update={"approvals": signed_by_all("break-glass")})) == ""


def test_a_standard_that_changed_since_the_order_permits_nothing() -> None:
    assert "policy/standard.yaml has changed since this was ordered" in refusal(inputs(ordered_standard="f" * 64))
    assert refusal(inputs(ordered_standard="0" * 64)) == ""


def test_a_stack_without_an_emergency_lane_waits_for_its_window() -> None:
    plan = STANDARD.emergency.model_copy(update={"routine_only": ("prod",)})
    waits = urgent(standard=STANDARD.model_copy(update={"emergency": plan}))
    assert "outside every window" in refusal(waits)


def test_stacks_that_need_no_approvals_ask_for_none() -> None:
    assert needed(inputs("staging"), "routine") == ()


def test_a_soft_freeze_is_lifted_by_break_glass_that_is_approved() -> None:
    lifted = inputs(calendar=frozen(SOFT, glass=True))
    assert "break-glass approval is missing from CISO" in refusal(lifted)
    assert "`patchwave approve --stack prod --break-glass --role ROLE`" in refusal(lifted)
    assert refusal(inputs(calendar=frozen(SOFT, glass=True), approvals=signed_by_all("break-glass"))) == ""


def urgent(**changed: Any) -> Inputs:
    """A wave outside the window in the emergency lane, an hour after staging."""
    fields: dict[str, Any] = {
        "at": OUTSIDE,
        "emergency": critical_emergency(),
        "approvals": signed_by_all("emergency"),
        "proof": proof(OUTSIDE - HOUR),
    }
    return inputs(**{**fields, **changed})


def test_an_emergency_needs_no_window_and_a_shorter_soak() -> None:
    decision = decide(urgent())
    assert (decision.allowed, decision.lane) == (True, "emergency")
    assert set(decision.approved) == {"Security Lead", "Engineering Manager", "CTO", "CISO"}
    assert decision.soak is not None
    assert timedelta(seconds=decision.soak.required_seconds) == STANDARD.stacks["prod"].emergency_soak < SOAK


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"approvals": signed_by_all()}, "it is normal, emergency is needed"),
        ({"approvals": signed_by_all("emergency")[1:]}, "emergency approval is missing from CISO"),
        ({"proof": proof(OUTSIDE - HOUR + timedelta(seconds=1))}, "has soaked 1.0 h of 1.0 h on staging"),
        ({"proof": None}, "no evidence from staging"),
        ({"calendar": frozen(HARD)}, "frozen until"),
        ({"calendar": frozen(HARD, glass=True)}, "break-glass approval is missing from CISO"),
        ({"emergency": critical_emergency(problem="record 2: it was edited")}, "cve-2026-1.1: record 2: it was edited"),
        ({"emergency": critical_emergency(done=critical_emergency().done[:-1])}, "lacks approved: record each"),
        ({"emergency": critical_emergency(opened_by="stranger@dcmms.com")}, "who holds no role of the standard"),
        ({"emergency": critical_emergency(closed=OUTSIDE)}, "outside every window"),
        ({"emergency": critical_emergency(digest="e" * 64)}, "outside every window"),
        ({"emergency": critical_emergency(digest=None)}, "outside every window"),
    ],
)  # fmt: skip
def test_the_emergency_lane_refuses_with_its_reason(changed: dict[str, Any], message: str) -> None:
    assert message in refusal(urgent(**changed))


@pytest.mark.parametrize(
    ("calendar", "kind", "complete"),
    [
        (frozen(), "normal", False),
        (frozen(), "emergency", True),
        (frozen(HARD, glass=True), "emergency", False),
        (frozen(HARD, glass=True), "break-glass", True),
        (frozen(HARD), "normal", True),
    ],
)
def test_approvals_are_complete_for_the_lane_that_is_open(calendar: Calendar, kind: str, complete: bool) -> None:
    shown = signatures.approval_state(urgent(calendar=calendar, approvals=signed_by_all(kind)))
    assert shown["complete"] == complete


def test_a_refusal_in_the_emergency_lane_names_what_lifts_the_freeze() -> None:
    output = refusal(urgent(calendar=frozen(HARD)))
    assert "lift it with calendar.break_glass in Pulumi.prod.yaml, or run again at Wed 2026-12-16 02:00 UTC" in output


def test_from_the_minute_that_a_refusal_names_the_soak_is_over() -> None:
    fresh = proof(IN_WINDOW - SOAK + timedelta(seconds=30))
    output = refusal(inputs(proof=fresh))
    assert "run again from Sun 2026-12-13 02:01 UTC" in output
    assert refusal(inputs(proof=fresh, at=IN_WINDOW + timedelta(minutes=1))) == ""


def test_an_emergency_below_the_criteria_of_the_standard_is_none() -> None:
    facts = critical_emergency().facts
    lesser = critical_emergency(facts=facts.model_copy(update={"cvss": 8.9}))
    assert "CVSS 8.9 is below 9.0" in refusal(urgent(emergency=lesser))


def test_inside_a_hard_freeze_only_an_emergency_with_break_glass_goes_on() -> None:
    broken = {"calendar": frozen(HARD, glass=True), "approvals": signed_by_all("break-glass")}
    assert "frozen until" in refusal(inputs(**broken))
    assert refusal(urgent(**broken)) == ""
    assert "frozen until" in refusal(urgent(**broken, at=GLASS.ends, proof=proof(GLASS.ends - HOUR)))


def test_dev_needs_the_steps_before_its_own_and_no_approvals() -> None:
    before = {step.id for step in STANDARD.emergency.before("dev")}
    done = tuple(one for one in critical_emergency().done if one.step in before)
    wanted = inputs("dev", at=OUTSIDE, approvals=(), emergency=critical_emergency(done=done))
    assert (refusal(wanted), decide(wanted).lane) == ("", "emergency")
    assert "lacks fix-obtained" in refusal(wanted.model_copy(update={"emergency": critical_emergency(done=done[:-1])}))


APPROVERS = [(people[0], role) for role, people in STANDARD.roles.items()]


@st.composite
def anything(draw: st.DrawFn) -> Inputs:
    """Inputs around a permission: each part is good, or wrong in some way, or not there."""
    kinds = st.sampled_from(["normal", "emergency", "break-glass"])
    kind = draw(kinds)
    files = [
        signed(person, role, kind=kind if draw(OFTEN) else draw(kinds), problem=draw(PROBLEM))
        for person, role in APPROVERS
        if draw(OFTEN)
    ]
    at = draw(st.sampled_from([IN_WINDOW, OUTSIDE, IN_WINDOW + 3 * HOUR]))
    age = draw(st.sampled_from([timedelta(days=10), HOUR, timedelta(minutes=5), timedelta(days=90), -HOUR]))
    shown = proof(at - (timedelta(days=10) if draw(OFTEN) else age), outcome="succeeded" if draw(OFTEN) else "failed")
    done = critical_emergency().done
    kept = done if draw(OFTEN) else done[:-1]
    lane = critical_emergency(done=kept, problem=draw(PROBLEM), closed=None if draw(OFTEN) else IN_WINDOW)
    freezes = draw(st.sampled_from([(), (), (SOFT,), (HARD,), (SOFT, HARD)]))
    return inputs(
        at=at,
        needs=draw(st.sampled_from([HOUR, 5 * HOUR])),
        calendar=frozen(*freezes, glass=bool(freezes) and draw(OFTEN)),
        proof=shown if draw(OFTEN) else None,
        approvals=tuple(files),
        emergency=lane if draw(OFTEN) else None,
    )


OFTEN = st.sampled_from([True] * 15 + [False])
PROBLEM = OFTEN.map(lambda often: None if often else "its signature does not fit")

Worse = Callable[[Inputs, st.DataObject], dict[str, Any]]


def more_freezes(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    freeze = draw.draw(st.sampled_from([SOFT, HARD]))
    own = wanted.settings.calendar
    calendar = own.model_copy(update={"freezes": (*own.freezes, freeze)})
    return {"settings": wanted.settings.model_copy(update={"calendar": calendar})}


def frozen_by_the_standard(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    freeze = StandardFreeze(**draw.draw(st.sampled_from([SOFT, HARD])).model_dump())
    return {"standard": wanted.standard.model_copy(update={"freezes": (freeze,)})}


def another_standard(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    return {"ordered_standard": "f" * 64}


def looser(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    own = wanted.settings.calendar
    calendar = own.model_copy(update={"windows": (*own.windows, patch_sunday(timedelta(hours=5)))})
    return {"settings": wanted.settings.model_copy(update={"calendar": calendar})}


def fewer_approvals(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    kept = [one for one in wanted.approvals if draw.draw(OFTEN)]
    return {"approvals": tuple(kept)}


def worse_approvals(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    return {
        "approvals": tuple(o.model_copy(update={"problem": draw.draw(PROBLEM) or o.problem}) for o in wanted.approvals)
    }


def no_proof(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    return {"proof": None}


def failed_proof(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    return {"proof": wanted.proof and wanted.proof.model_copy(update={"outcome": "rolled-back"})}


def no_emergency(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    return {"emergency": None}


def fewer_steps(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    one = wanted.emergency
    return {"emergency": one and one.model_copy(update={"done": one.done[: draw.draw(st.integers(0, len(one.done)))]})}


def closed_emergency(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    return {"emergency": wanted.emergency and wanted.emergency.model_copy(update={"closed": wanted.at})}


def longer(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    return {"needs": wanted.needs + draw.draw(st.sampled_from([HOUR, 30 * HOUR]))}


def by_an_approver(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    author = draw.draw(st.sampled_from(APPROVERS))[0]
    return {"release": wanted.release.model_copy(update={"author": author})}


def more_severe(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    return {"release": wanted.release.model_copy(update={"severities": ("critical", "low")})}


def taken_back(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    entry = Entry(
        package="openssl", version="2", stack="dev", release=RELEASE_ID, run="run-1", at=IN_WINDOW, reason="a: 503"
    )
    return {"quarantined": (entry,)}


def unmet_criterion(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    state = draw.draw(st.sampled_from(["missing", "failed", "stale"]))
    finding = Finding(stack="staging", name="integration-tests", proof="record", state=state, detail="nobody")
    return {"criteria": (*wanted.criteria, finding)}


def gone_waiver(wanted: Inputs, draw: st.DataObject) -> dict[str, Any]:
    return {"waivers": (waivers.Found(id="W-1", waiver=None, problem="there is no such file in waivers/"),)}


WORSE: list[Worse] = [
    taken_back,
    unmet_criterion,
    gone_waiver,
    more_freezes,
    frozen_by_the_standard,
    another_standard,
    looser,
    fewer_approvals,
    worse_approvals,
    no_proof,
    failed_proof,
    no_emergency,
    fewer_steps,
    closed_emergency,
    longer,
    by_an_approver,
    more_severe,
]


@given(wanted=anything(), change=st.sampled_from(WORSE), draw=st.data())
def test_a_reason_more_never_turns_a_refusal_into_a_permission(
    wanted: Inputs, change: Worse, draw: st.DataObject
) -> None:
    worse = wanted.model_copy(update=change(wanted, draw))
    if not decide(wanted).allowed:
        assert not decide(worse).allowed


@given(wanted=anything())
def test_a_permission_has_everything_that_it_needs(wanted: Inputs) -> None:
    decision = decide(wanted)
    if not decision.allowed:
        return
    emergency = decision.lane == "emergency"
    hard = [one for one in wanted.calendar.freezes if one.kind == "hard"]
    assert not hard or (emergency and wanted.calendar.break_glass)
    assert not wanted.calendar.freezes or emergency or wanted.calendar.break_glass
    assert emergency or wanted.at < IN_WINDOW + 4 * HOUR
    assert len(set(decision.approved.values())) == len(decision.approved)
    assert set(needed(wanted, decision.lane)) <= set(decision.approved)
    assert wanted.release.author not in decision.approved.values()
    good = {one.approval.person for one in wanted.approvals if one.approval and one.problem is None}
    assert set(decision.approved.values()) <= good
    assert wanted.proof is not None
    assert wanted.proof.ended is not None
    assert timedelta(0) < HOUR <= wanted.at - wanted.proof.ended <= VALID


@given(wanted=anything())
def test_a_decision_can_be_made_again_from_its_recorded_inputs(wanted: Inputs) -> None:
    recorded = json.loads(canonical(wanted.model_dump(mode="json")))
    again = Inputs.model_validate_json(json.dumps(recorded))
    assert again == wanted
    assert decide(again) == decide(wanted)


@pytest.mark.parametrize("lane", ["routine", "emergency"])
@pytest.mark.parametrize("allowed", [True, False])
def test_each_answer_occurs_in_each_lane(lane: str, allowed: bool) -> None:
    def is_it(wanted: Inputs) -> bool:
        decision = decide(wanted)
        return (decision.lane, decision.allowed) == (lane, allowed)

    find(anything(), is_it, settings=settings(max_examples=2000, phases=[Phase.generate]))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path, evidence.IDENTITY)


def prove(project: Path, key: Path | None, *, outcome: str = "succeeded") -> None:
    place = promotion.folder(project, "dev", RELEASE_ID)
    with evidence.Chain.open(place) as chain:
        started = {"stack": "dev", "release": RELEASE_ID, "digest": DIGEST, "rehearsal": None}
        chain.append("wave-started", "run-1", started, at=NOW)
        ended: dict[str, Any] = {"outcome": outcome, "real_time": NOW.isoformat()}
        chain.append("wave-ended", "run-1", ended, at=NOW)
    if key:
        evidence.sign(place, key)


def test_proof_is_read_from_signed_evidence(tmp_path: Path, keys: Path) -> None:
    none = promotion.prove(tmp_path, "dev", RELEASE_ID, keys / "signers")
    assert "no evidence from dev" in str(none.problem)
    prove(tmp_path, None)
    unsigned = promotion.prove(tmp_path, "dev", RELEASE_ID, keys / "signers")
    assert "does not verify" in str(unsigned.problem)
    evidence.sign(promotion.folder(tmp_path, "dev", RELEASE_ID), keys / evidence.IDENTITY)
    shown = promotion.prove(tmp_path, "dev", RELEASE_ID, keys / "signers")
    assert (shown.problem, shown.outcome, shown.digest, shown.ended) == (None, "succeeded", DIGEST, NOW)


def test_a_soak_that_the_clock_shortened_is_said(tmp_path: Path) -> None:
    soak = decide(inputs(real=IN_WINDOW - timedelta(days=9))).soak
    assert soak is not None
    assert (soak.shortened, soak.real_seconds) == (True, 86400)
    assert not decide(inputs()).soak.shortened  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "role", "person", "error", "message"),
    [
        ("normal", "Team Lead", "team-lead@dcmms.com", UsageError, "no normal approval is needed from 'Team Lead'"),
        ("emergency", "CTO", "cto@dcmms.com", Refused, "no open emergency is bound"),
        ("normal", "CTO", "ciso@dcmms.com", Refused, "ciso@dcmms.com is not CTO by the standard"),
        ("normal", "CTO", "nobody", UsageError, "person"),
    ],
)
def test_what_nobody_asks_for_is_not_signed(
    kind: Any, role: str, person: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        signatures.draft(inputs(), kind, role, person, "")


def test_the_author_cannot_sign_for_the_release() -> None:
    own = by("cto@dcmms.com")
    with pytest.raises(Refused, match="its author does not approve it"):
        signatures.draft(inputs(release=own), "normal", "CTO", "cto@dcmms.com", "")


def test_an_approval_lasts_as_long_as_the_standard_says() -> None:
    given = signatures.draft(inputs(), "break-glass", "CTO", "cto@dcmms.com", "go")
    assert given.expires - given.at == STANDARD.approvals.valid.break_glass
    found = approvals.Found(file="f", sha256="0" * 64, approval=given, problem=None)
    assert approvals.objection(found, inputs().request) is None


def test_the_clock_moves_only_against_the_sandbox() -> None:
    sandbox = {"ARM_ENDPOINT": "https://127.3.4.1:8443", clock.SHIFT: "3600"}
    assert timedelta(minutes=59) < clock.now(sandbox) - datetime.now(UTC) < timedelta(minutes=61)
    for endpoint in ("https://management.azure.com", "https://127.0.0.1.example.com", ""):
        with pytest.raises(Refused, match="not the sandbox"):
            clock.now({"ARM_ENDPOINT": endpoint, clock.SHIFT: "3600"})
    with pytest.raises(UsageError, match="whole number"):
        clock.now({**sandbox, clock.SHIFT: "an hour"})
    assert clock.shift({"ARM_ENDPOINT": "https://management.azure.com"}) is None
