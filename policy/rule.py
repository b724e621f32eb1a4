"""What a rule is, and what it may look at."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, create_model

from patchwave.base.errors import PatchwaveError
from patchwave.config.standard import Mode
from policy.declared import Declared
from policy.wire import UnknownValueError

Severity = Literal["low", "medium", "high", "critical"]
Check = Callable[..., Iterator[str]]


class Context(NamedTuple):
    """When and for which stack a rule is asked, whose decisions it reads, and whether this is only a preview."""

    project: Path
    stack: str
    now: datetime
    preview: bool


class Parameters(BaseModel):
    """What a stack may set of a rule; a rule without parameters has these."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Rule:
    """A check that yields complaints, each with its fix.

    It is shown a resource of one of its `types`, or, without any, all resources of the stack. Its keyword arguments are
    its parameters. `in_preview` is how a preview enforces what an update enforces as mandatory.
    """

    name: str
    description: str
    check: Check
    types: tuple[str, ...]
    severity: Severity
    mode: Mode
    in_preview: Mode
    source: str
    parameters: type[Parameters]

    def enforced(self, mode: Mode, *, preview: bool) -> Mode:
        """How a complaint counts where the stack has chosen this mode."""
        return self.in_preview if preview and mode == "mandatory" else mode


def rule(
    *types: str, severity: Severity, mode: Mode = "mandatory", in_preview: Mode = "mandatory", source: str = ""
) -> Callable[[Check], Rule]:
    """Makes a rule of a check: its name, description and parameters are those of the function."""

    def keep(check: Check) -> Rule:
        return Rule(
            name=check.__name__.replace("_", "-"),
            description=inspect.cleandoc(str(check.__doc__)),
            check=check,
            types=tuple(types),
            severity=severity,
            mode=mode,
            in_preview=in_preview,
            source=source,
            parameters=_parameters(check),
        )

    return keep


def _parameters(check: Check) -> type[Parameters]:
    found = [one for one in inspect.signature(check, eval_str=True).parameters.values() if one.kind == one.KEYWORD_ONLY]
    fields: dict[str, Any] = {one.name: (one.annotation, one.default) for one in found}
    return create_model(check.__name__, __base__=Parameters, **fields)


def rules_of(module: ModuleType) -> tuple[Rule, ...]:
    """The rules that a module defines, in its order."""
    return tuple(one for one in vars(module).values() if isinstance(one, Rule))


def complaints(
    rule: Rule, shown: Declared | Sequence[Declared], context: Context, parameters: Mapping[str, Any]
) -> list[str]:
    """What a rule has against what it is shown; CannotRun when it cannot tell.

    UnknownValueError passes through: a preview does not know every value.
    """
    try:
        return list(rule.check(shown, context, **parameters))
    except UnknownValueError:
        raise
    except PatchwaveError as error:
        raise CannotRun(str(error)) from None
    except Exception as error:
        raise CannotRun(f"{type(error).__name__}: {error}") from error


class CannotRun(Exception):
    """A rule that could not tell: whoever asked must refuse."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the rule cannot run, so it refuses: {' '.join(why.split())}")
