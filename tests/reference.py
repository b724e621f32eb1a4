"""`python -m tests.reference` writes the page of all rules, from the rules and the cases of their tests."""

import base64
import inspect
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from patchwave.base.clock import spell
from patchwave.base.documents import parse
from patchwave.base.errors import UsageError
from patchwave.config.settings import Settings
from policy import commands, decisions, estate, pack, service, wave
from policy.rule import Rule, rules_of
from tests.unit import policy_cases
from tests.unit.changes import Change, changed
from tests.unit.policy_cases import Scene
from tests.unit.service_rules_cases import BASES, CASES, STACK_CASES
from tests.unit.service_settings_cases import MODEL_CASES, ModelCase

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "rules.md"

FORMAT = "https://www.pulumi.com/docs/using-pulumi/crossguard/configuration/"
HEAD = f"""# Rules

Written by `python -m tests.reference`; do not edit. Each line was tried: the example is refused with this message, its
neighbour is admitted.

The pack in `policy/` has {len(pack.OWN_RULES)} rules of our own, which hold a program against `policy/standard.yaml`,
and {len(service.RULES) + len(service.STACK_RULES)} of [what Azure refuses](#what-azure-refuses). It judges anyone's
program, with the path of that folder: `pulumi preview --policy-pack policy`. A resource is of the stack that its tag
`patchwave-stack` names, else of Pulumi's own.

- **Mandatory** refuses, **advisory** only warns. What the hour, proof or a signature will fix is advisory in a preview
  and mandatory in an update.
- A rule that cannot run refuses, whatever its mode is, unless it is disabled: a file is missing or does not parse, or
  the standard names a rule or a parameter that there is not.
- A first preview does not know every value. Rules that need one of those are named in one line,
  `rules-wait-for-the-update`, and asked by the update.

## A stack that has a rule otherwise

`policy` in `policy/standard.yaml` gives a stack another mode (`mandatory`, `advisory`, `disabled`) or other parameters,
for any rule of this page:

```yaml
policy:
  staging:
    deleted-backups-can-be-had-back: {{mode: disabled}}
  prod:
    records-are-kept: {{parameters: {{at_least_days: 365}}}}
```

A single run may have a rule otherwise again; it goes before the standard. `--policy-pack-config FILE` takes
[Pulumi's own format]({FORMAT}):

```json
{{
  "images-are-pinned": "advisory",
  "records-are-kept": {{"enforcementLevel": "mandatory", "at_least_days": 90}}
}}
```

A wave asks for [permission](approvals.md) by its hook as well, without the pack.
"""
AZURE = """
## What Azure refuses

All of this is refused before anything is changed: by the models, when a stack's settings are read, or by a rule of the
same name as in the table, mandatory and of high severity.

Not here, because only Azure knows it at the time: the quotas of a subscription, whether names are free and ids exist,
and how near a window is when its configuration changes (15 minutes before it opens, or 40 where events are sent, it is
too late for that run).
"""
OWN = {
    wave: "A wave's commands",
    decisions: "A stack's settings",
    estate: "Resources",
    commands: "Scripts and secrets",
}


def page() -> str:
    """The page's text."""
    return "\n".join([HEAD.rstrip(), *_own(), AZURE.rstrip(), *_settings(), *_resources(), *_together()]) + "\n"


def _own() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        for module, title in OWN.items():
            yield ""
            yield f"## {title}"
            yield ""
            yield "| rule | refused | admitted | it says |"
            yield "|---|---|---|---|"
            for rule in rules_of(module):
                first = True
                for case in (case for case in policy_cases.CASES if case.rule == rule.name):
                    says = policy_cases.says(case, case.refused, Path(scratch))[0].replace(scratch, "…")
                    name = _described(rule) if first else ""
                    yield _row(name, _scene(case.refused), _scene(case.admitted), says)
                    first = False


def _described(rule: Rule) -> str:
    """A rule's name, how it is enforced, its parameters and what it holds."""
    mode = rule.mode
    if rule.enforced(mode, preview=True) != mode:
        mode_shown = f"{mode}, in a preview {rule.enforced(mode, preview=True)}"
    else:
        mode_shown = mode
    name = f"[{rule.name}]({rule.source})" if rule.source else rule.name
    return "<br>".join([f"**{name}**", f"{rule.severity}, {mode_shown}", *_parameters(rule), rule.description])


def _parameters(rule: Rule) -> Iterator[str]:
    for name, schema in rule.parameters.model_json_schema().get("properties", {}).items():
        bounds = f", {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else ""
        yield f"`{name}`: {json.dumps(schema['default'])}{bounds}"


def _scene(scene: Scene) -> str:
    """What a rule is shown, as the page shows it."""
    parts = [_shown(scene.change)] if scene.change else []
    for name, change in scene.files.items():
        parts.append(f"{name}:<br>{_shown(change)}" if isinstance(change, Mapping) else f"{name}: {_brief(change)}")
    if scene.done:
        parts.append(inspect.cleandoc(str(scene.done.__doc__)))
    if scene.at != policy_cases.OPEN:
        parts.append(f"at {spell(scene.at)}")
    return "<br>".join(parts) or "as it was"


def _brief(text: str) -> str:
    """A file's text in a cell: the line that tells most of a waiver, the first of anything else."""
    lines = text.splitlines()
    return f"`{_cut(next((line for line in lines if line.startswith('expires')), lines[0]))}`"


def _settings() -> Iterator[str]:
    yield ""
    yield "### The stack's settings"
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
    except UsageError as refusal:
        return str(refusal).removeprefix("settings: ")
    raise AssertionError(f"{case.says} is not refused")


def _resources() -> Iterator[str]:
    for type_, rules in service.BY_TYPE.items():
        kind = type_.removeprefix("azure-native:")
        yield ""
        yield f"### {kind}"
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
    yield "### Resources together"
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
    paths = {path.removeprefix("config.patchwave:settings."): value for path, value in change.items()}
    return "<br>".join(f"`{path}: {_value(path, value)}`" for path, value in paths.items())


def _value(path: str, value: Any) -> str:
    if value is ...:
        return "(left out)"
    if path.endswith(("customData", "userData", "settings.script")):
        value = base64.b64decode(value).decode()
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:28]}…{text[-29:]}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
