"""`python -m tests.reference` writes the page of Azure's rules, from the rules and the cases of their tests."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from patchwave.decisions.settings import Settings
from patchwave.foundation.documents import parse
from patchwave.foundation.errors import Misuse
from policy import service
from tests.fast.changes import Change, changed
from tests.fast.service_rules_cases import BASES, CASES, STACK_CASES
from tests.fast.service_settings_cases import MODEL_CASES, ModelCase

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "rules.md"

HEAD = """# What Azure refuses

Written by `python -m tests.reference`; do not edit. All of this is refused in a preview, before anything is changed:
by the models, when a stack's settings are read, or by the policy `azure-accepts-what-is-declared`, which judges
anyone's program. Each line was tried: the example is refused with this message, its neighbour is admitted.

Not here, because only Azure knows it at the time: the quotas of a subscription, whether names are free and ids exist,
and how near a window is when its configuration changes (15 minutes before it opens, or 40 where events are sent, it is
too late for that run).
"""


def page() -> str:
    """The page's text."""
    return "\n".join([HEAD, *_settings(), *_resources(), *_together()]) + "\n"


def _settings() -> Iterator[str]:
    yield "## The stack's settings"
    yield ""
    yield "| refused | admitted | it says |"
    yield "|---|---|---|"
    file = yaml.safe_load((PROJECT / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    settings = file["config"]["patchwave:settings"]
    for case in MODEL_CASES:
        yield _row(
            _shown(case.refused),
            _shown(case.admitted),
            f"{_said(settings, case)} ([source]({case.source}))",
        )


def _said(settings: Mapping[str, Any], case: ModelCase) -> str:
    try:
        parse(changed(changed(settings, case.given), case.refused), Settings, "settings")
    except Misuse as refusal:
        return str(refusal).removeprefix("settings: ")
    raise AssertionError(f"{case.says} is not refused")


def _resources() -> Iterator[str]:
    for type_, rules in service.BY_TYPE.items():
        kind = type_.removeprefix("azure-native:")
        yield ""
        yield f"## {kind}"
        yield ""
        yield "| rule | refused | admitted | it says |"
        yield "|---|---|---|---|"
        for rule in rules:
            first = True
            for case in (case for case in CASES if case.rule == rule.name):
                base = BASES[case.base or rule.types[0].removeprefix("azure-native:")]
                says = next(iter(rule.check(changed(base, case.refused))))
                name = f"[{rule.name}]({rule.source})" if first else ""
                yield _row(name, _shown(case.refused), _shown(case.admitted), says)
                first = False


def _together() -> Iterator[str]:
    yield ""
    yield "## Resources together"
    yield ""
    yield "| rule | what it holds | it says |"
    yield "|---|---|---|"
    for rule in service.STACK_RULES:
        case = next(case for case in STACK_CASES if case.rule == rule.name)
        yield _row(f"[{rule.name}]({rule.source})", str(rule.check.__doc__), next(iter(rule.check(case.refused))))


def _shown(change: Change) -> str:
    """A change as the page shows it; long values are cut."""
    if not change:
        return "as it was"
    return "<br>".join(f"`{path}: {_value(value)}`" for path, value in change.items())


def _value(value: Any) -> str:
    if value is ...:
        return "(left out)"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
