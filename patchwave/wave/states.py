"""How hosts end: what the preflight found on one, and its one end state."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from patchwave.base.model import Model

State = Literal[
    "patched",
    "already-current",
    "deferred",
    "held",
    "failed-restored",
    "failed-unrestored",
    "unknown",
    "not-attempted",
]
COMPLIANT: frozenset[State] = frozenset({"patched", "already-current"})
UNWELL: frozenset[State] = frozenset({"failed-restored", "failed-unrestored", "unknown", "not-attempted"})
"""States that a wave which succeeded leaves no host in."""

Outcome = Literal["succeeded", "rolled-back", "stopped", "failed", "refused"]


class Facts(Model):
    """What the preflight found on a host: its versions of the release's packages, and what it lacks of them.

    `answered` is whether it was reached at all. `waived` are packages that it lacks and need not have, by the waiver of
    each. `problem` is why it is not patched.
    """

    answered: bool = False
    before: dict[str, str] = Field(default_factory=dict)
    todo: dict[str, str] = Field(default_factory=dict)
    held: list[str] = Field(default_factory=list)
    waived: dict[str, str] = Field(default_factory=dict)
    problem: str | None = None

    @property
    def to_patch(self) -> bool:
        """Whether a batch may take the host."""
        return self.answered and self.problem is None and bool(self.todo) and not self.held


def end_state(
    facts: Facts | None,
    *,
    left_out: str | None,
    touched: bool,
    restored: tuple[State, str] | None,
    after: Mapping[str, str] | None,
) -> tuple[State, str | None]:
    """A planned host's one end state and its reason.

    `facts` is None for a host that no preflight has looked at, `left_out` why a fit host was put into no batch, and
    `after` the last scan, None when the host did not answer it.
    """
    if restored is not None:
        state, reason = restored
        if state == "failed-restored" and facts and after is not None and dict(after) != facts.before:
            return "failed-unrestored", f"{reason}; the last scan finds other versions than before the wave"
        return state, reason
    if facts is None:
        return "not-attempted", None
    if facts.problem is not None:
        return "deferred", facts.problem
    if facts.held:
        return "held", f"on hold: {', '.join(facts.held)}"
    if left_out and not touched:
        return "deferred", left_out
    if facts.todo and not touched:
        return "not-attempted", None
    if after is None:
        return "unknown", "it did not answer the last scan"
    missing = {name: to for name, to in facts.todo.items() if after.get(name) != to}
    if missing:
        name, to = next(iter(missing.items()))
        return "unknown", f"{name} is at {after.get(name)}, the release brings {to}"
    if facts.waived:
        return "held", f"waived: {', '.join(f'{name} by {waiver}' for name, waiver in facts.waived.items())}"
    return ("patched" if facts.todo else "already-current"), None
