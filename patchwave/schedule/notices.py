"""Who must be notified of a wave, and by when."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple

from patchwave.calendar.windows import Opening
from patchwave.config.standard import StackName, Standard


class Notice(NamedTuple):
    """One message: before a wave or after it, to whom, and the last instant at which it is in time."""

    when: Literal["before", "after"]
    audience: tuple[str, ...]
    by: datetime


def notices(stack: StackName, standard: Standard, wave: Opening, now: datetime, *, emergency: bool) -> Iterator[Notice]:
    """The messages that the standard wants around a wave of a stack.

    A routine notice that would be due in quiet hours is due when they begin; in an emergency it is due at once.
    """
    rules = standard.communications
    audience = rules.audience.get(stack) if rules else None
    if rules is None or audience is None:
        return
    due = now if emergency else wave.opens - standard.stacks[stack].notice
    if rules.quiet and not emergency:
        quiet = next(rules.quiet.openings(due))
        due = min(due, quiet.opens)
    yield Notice("before", audience, due)
    yield Notice("after", audience, wave.closes + rules.after)
