"""`python -m tests.reference` writes the page of all checks, from the checks and the cases of their tests."""

import inspect
import json
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from patchwave.base.clock import spell
from patchwave.base.documents import parse
from patchwave.base.errors import UsageError
from patchwave.config.settings import Settings
from policy import service
from policy.check import Check
from policy.judge import CHECKS
from policy.topics import TOGETHER, TOPICS
from tests.unit import policy_cases
from tests.unit.builders import FIXTURE
from tests.unit.changes import Change, changed
from tests.unit.policy_cases import Scene
from tests.unit.service_rules_cases import BASES, CASES, STACK_CASES
from tests.unit.service_settings_cases import MODEL_CASES, ModelCase

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "rules.md"

FORMAT = "https://www.pulumi.com/docs/using-pulumi/crossguard/configuration/"
COUNT = textwrap.fill(
    f"The pack in `policy/` has {sum(not one.general for one in CHECKS.values())} checks of our own, which hold what a "
    f"program declares against `policy/standard.yaml`, and {sum(one.general for one in CHECKS.values())} of "
    "[what Azure refuses](#what-azure-refuses). Each belongs to the policy of its topic: "
    f"{', '.join(TOPICS)}, {TOGETHER}. "
    "The pack judges anyone's program, with the path of that folder: `pulumi preview --policy-pack policy`.",
    width=120,
    break_on_hyphens=False,
)
HEAD = f"""# Policy checks

Written by `python -m tests.reference`; do not edit. Each line was tried: the example is refused with this message, its
neighbour is admitted. The examples are changes of the tests' own stack in `tests/fixtures/desk`.

{COUNT}

- Judged is what is declared, with `-c`, `--config-file` and ESC: the inputs of the root component `Stack`, and each
  resource. Our own checks hold for what the root component declares and for what carries the tag `patchwave-stack`,
  where what is left out counts as wrong; of anything else only what Azure refuses is.
- **Mandatory** checks refuse. **Advisory** ones only warn, by the policy `advice`. The policy `permission` warns in a
  preview and refuses in an update; a wave needs [permission](approvals.md) by its hook as well, without the pack.
- A check that cannot run says so and counts as one that complains. One that needs a value which a preview does not know
  yet is named by a warning, and runs in the update.

## A stack that has a check otherwise

`policy` in `policy/standard.yaml` gives a stack another mode (`mandatory`, `advisory`, `disabled`) or other parameters,
for any check of this page:

```yaml
policy:
  staging:
    deleted-backups-can-be-had-back: {{mode: disabled}}
  prod:
    records-are-kept: {{parameters: {{at_least_days: 365}}}}
```

A single run may have a whole policy otherwise; it goes before the standard. `--policy-pack-config FILE` takes
[Pulumi's own format]({FORMAT}),
by the name of the policy, with the parameters of its checks:

```json
{{
  "machines": "advisory",
  "monitoring": {{"enforcementLevel": "mandatory", "at_least_days": 90}}
}}
```
"""
AZURE = """
## What Azure refuses

All of this is refused before anything is changed: by the models, when a stack's settings are read, or by the check
that the table names, in anyone's program.

Not here, because only Azure knows it at the time: the quotas of a subscription, whether names are free and ids exist,
and how near a window is when its configuration changes (15 minutes before it opens, or 40 where events are sent, it is
too late for that run).
"""


def page() -> str:
    """The page's text."""
    return "\n".join([HEAD.rstrip(), *_own(), AZURE.rstrip(), *_settings(), *_resources(), *_together()]) + "\n"


def _own() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        for topic in (*TOPICS, TOGETHER):
            own = [one for one in CHECKS.values() if one.topic == topic and not one.general]
            if own:
                yield from _table(f"## Policy {topic}", "check", "refused", "admitted", "it says")
            for check in own:
                name = _described(check)
                for case in (case for case in policy_cases.CASES if case.check == check.name):
                    says = policy_cases.says(case, case.refused, Path(scratch))[0].replace(scratch, "…")
                    says = says.removeprefix(f"{check.name}: ")
                    yield _row(name, _scene(case.refused), _scene(case.admitted), says)
                    name = ""


def _table(title: str, *columns: str) -> Iterator[str]:
    yield from ("", title, "", _row(*columns), "|---" * len(columns) + "|")


def _described(check: Check) -> str:
    """A check's name, how it is enforced, its parameters and what it holds."""
    described = " ".join(check.description.split())
    return "<br>".join([f"**{_named(check.name, check.source)}**", check.mode, *_parameters(check), described])


def _named(name: str, source: str) -> str:
    return f"[{name}]({source})" if source else name


def _parameters(check: Check) -> Iterator[str]:
    for name, schema in check.parameters.model_json_schema().get("properties", {}).items():
        bounds = f", {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else ""
        yield f"`{name}`: {json.dumps(schema['default'])}{bounds}"


def _scene(scene: Scene) -> str:
    """What a check is shown, as the page shows it."""
    parts = [_shown(scene.change)] if scene.change else []
    for name, change in scene.files.items():
        parts.append(f"{name}:<br>{_shown(change)}" if isinstance(change, Mapping) else f"{name}: {_brief(change)}")
    if scene.done:
        parts.append(inspect.cleandoc(str(scene.done.__doc__)))
    if scene.at != policy_cases.OPEN:
        parts.append(f"at {spell(scene.at)}")
    return "<br>".join(parts) or "as it was"


def _brief(text: str) -> str:
    """A file's text in a cell: that of a waiver's end, the first of anything else."""
    lines = text.splitlines()
    return f"`{_cut(next((line for line in lines if line.startswith('expires')), lines[0]))}`"


def _settings() -> Iterator[str]:
    yield from _table("### The stack's settings", "refused", "admitted", "it says")
    file = yaml.safe_load((FIXTURE / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    settings = file["config"]["patchwave:settings"]
    for case in MODEL_CASES:
        yield _row(
            _shown(case.refused),
            _shown(case.admitted),
            f"{_refusal(settings, case)} ([source]({case.source}))",
        )


def _refusal(settings: Mapping[str, Any], case: ModelCase) -> str:
    try:
        parse(changed(changed(settings, case.given), case.refused), Settings, "settings")
    except UsageError as refusal:
        return str(refusal).removeprefix("settings: ")
    raise AssertionError(f"{case.says} is not refused")


def _resources() -> Iterator[str]:
    for type_, rules in service.BY_TYPE.items():
        kind = type_.removeprefix("azure-native:")
        yield from _table(f"### {kind}", "check", "refused", "admitted", "it says")
        for rule in rules:
            name = _named(rule.name, rule.source)
            for case in (case for case in CASES if case.rule == rule.name):
                base = BASES[case.base or rule.types[0].removeprefix("azure-native:")]
                says = next(iter(rule.check(changed(base, case.refused))))
                yield _row(name, _shown(case.refused), _shown(case.admitted), says)
                name = ""


def _together() -> Iterator[str]:
    yield from _table("### Resources together", "check", "what it holds", "it says")
    for rule in service.STACK_RULES:
        case = next(case for case in STACK_CASES if case.rule == rule.name)
        yield _row(_named(rule.name, rule.source), str(rule.check.__doc__), next(iter(rule.check(case.refused))))


def _shown(change: Change) -> str:
    """A change as the page shows it; long values are cut."""
    if not change:
        return "as it was"
    return "<br>".join(f"`{path}: {_value(value)}`" for path, value in change.items())


def _value(value: Any) -> str:
    if value is ...:
        return "(left out)"
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:28]}…{text[-29:]}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
