"""A decision in words: one line that names every reason and its fix."""

from patchwave.authorization.decision import Decision, Soak, decide, lanes, refusals, soak
from patchwave.authorization.inputs import Inputs
from patchwave.base.clock import spell
from patchwave.base.errors import Refused


def require(inputs: Inputs) -> Decision:
    """The decision when it allows; Refused on one line otherwise."""
    decision = decide(inputs)
    if not decision.allowed:
        raise Refused(line(inputs, decision))
    return decision


def line(inputs: Inputs, decision: Decision) -> str:
    """A refusal on one line."""
    return f"{inputs.stack}: {reasons(inputs, decision)}"


def reasons(inputs: Inputs, decision: Decision) -> str:
    """When a decision refused, every reason, and the fix of each."""
    return f"patching is refused at {spell(inputs.at)}, " + "; ".join(refusal.why for refusal in decision.refusals)


def require_promotion(inputs: Inputs) -> Soak | None:
    """The soak that admits a release to a stack, whatever the hour; Refused names what is missing."""
    about = ("quarantine", "promotion", "criteria")
    found = {lane: [one.why for one in refusals(inputs, lane) if one.about in about] for lane in lanes(inputs)}
    for lane, reasons in found.items():
        if not reasons:
            return soak(inputs, lane)
    raise Refused(f"{inputs.stack}: {found[list(found)[-1]][0]}")
