"""What a check is, and what it knows beside the resource that it judges."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pulumi_policy.proxy import UnknownValueError
from pydantic import BaseModel, ConfigDict, create_model

from patchwave.base.errors import PatchwaveError
from patchwave.config.standard import Mode, StackRules, Standard, load_standard
from policy.declared import Declared

Run = Callable[..., Iterator[str]]


class Context(NamedTuple):
    """The project whose standard counts, the time, and whether this is only a preview."""

    project: Path
    now: datetime
    preview: bool

    @property
    def standard(self) -> Standard:
        return load_standard(self.project)

    def rules_of(self, declared: Declared) -> StackRules | None:
        """The rules of the stack that a resource's tag names, or of Pulumi's own for what is ours."""
        return self.standard.stacks.get(declared.tagged or (declared.pulumi_stack if declared.is_ours else ""))


class RefusedElsewhere(Exception):
    """There is nothing to judge: another check refuses what is declared as a whole."""


class Parameters(BaseModel):
    """What the standard may set of a check for a stack; most checks have none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Check:
    """Yields complaints as `what: fix` about a resource of one of its types, or without types about all together.

    One that is not `general` judges only what belongs to a stack of ours: by its component, or by its tag.
    """

    name: str
    topic: str
    description: str
    run: Run
    types: tuple[str, ...]
    mode: Mode
    source: str
    general: bool
    parameters: type[Parameters]

    def complaints(
        self, shown: Declared | Sequence[Declared], context: Context, parameters: Mapping[str, Any]
    ) -> list[str]:
        """Each complaint on one line; one that cannot run has that as its complaint.

        UnknownValueError passes through: a preview does not know every value.
        """
        try:
            if isinstance(shown, Declared) and not (self.general or shown.is_ours or shown.tagged):
                return []
            found = list(self.run(shown, context, **parameters))
        except UnknownValueError:
            raise
        except RefusedElsewhere:
            return []
        except PatchwaveError as error:
            found = [f"cannot be checked: {error}"]
        except Exception as error:
            found = [f"cannot be checked, {type(error).__name__}: {error}: this is a defect of the check, report it"]
        return [f"{self.name}: {' '.join(one.split())}" for one in found]


def check(topic: str, *types: str, mode: Mode = "mandatory", source: str = "") -> Callable[[Run], Check]:
    """Makes a check of a generator of complaints, whose name, docstring and keyword arguments become its own."""

    def keep(run: Run) -> Check:
        return Check(
            name=run.__name__.replace("_", "-"),
            topic=topic,
            description=inspect.cleandoc(str(run.__doc__)),
            run=run,
            types=types,
            mode=mode,
            source=source,
            general=False,
            parameters=_parameters(run),
        )

    return keep


def _parameters(run: Run) -> type[Parameters]:
    found = [one for one in inspect.signature(run, eval_str=True).parameters.values() if one.kind == one.KEYWORD_ONLY]
    fields: dict[str, Any] = {one.name: (one.annotation, one.default) for one in found}
    return create_model(run.__name__, __base__=Parameters, **fields)
