"""Declares a program on Pulumi's mock engine and keeps what it declared: the only mock of these tests."""

import asyncio
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pulumi
import yaml
from pulumi.runtime import mocks

from tests.unit.changes import Change, changed

PROJECT = Path(__file__).resolve().parents[2]
FIXTURE = PROJECT / "tests" / "fixtures" / "desk"
GROUP = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups"


class Declared(NamedTuple):
    """One registered resource, with the inputs that a policy sees."""

    type: str
    name: str
    parent: str
    props: dict[str, Any]


class Recorder(mocks.Mocks):
    """Keeps every registration; a type and name registered twice, or a call for more than a group, is an error."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], Declared] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        key = (args.typ, args.name)
        if key in self.seen:
            raise AssertionError(f"{args.typ} {args.name} was registered twice")
        self.seen[key] = Declared(args.typ, args.name, "", dict(args.inputs))
        outputs = dict(args.inputs)
        outputs |= {"name": args.inputs.get("resourceGroupName") if args.typ.endswith("ResourceGroup") else args.name}
        if args.typ.endswith("PublicIPAddress"):
            outputs["ipAddress"] = "127.9.9.10"
        return f"{GROUP}/rg/providers/x/{args.name}", outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        if args.token.rpartition(":")[2] != "getResourceGroup":
            raise AssertionError(f"the program called {args.token} while it was declared")
        name = args.args["resourceGroupName"]
        return {"name": name, "id": f"{GROUP}/{name}"}, []


def declare(program: Callable[[], Any], *, stack: str = "dev", config: dict[str, str] | None = None) -> list[Declared]:
    """What the program registers, components included, in order."""
    recorder = Recorder()
    asyncio.set_event_loop(asyncio.new_event_loop())
    mocks.set_mocks(recorder, project="patchwave", stack=stack, preview=False)
    pulumi.runtime.set_all_config(config or {})

    @pulumi.runtime.test  # type: ignore[misc]  # the SDK's decorator is untyped
    def run() -> None:
        program()

    run()
    return list(recorder.seen.values())


def declare_stack(
    stack: str, release: str | None = None, change: Change | None = None, project: Path = FIXTURE
) -> list[Declared]:
    """What `__main__` declares in a project for a stack file as it stands there, or with some settings changed."""
    if release or change or project != FIXTURE:
        return _declare_stack(stack, release, change or {}, project)
    return _declare_fixture(stack)


@cache
def _declare_fixture(stack: str) -> list[Declared]:
    return _declare_stack(stack, None, {}, FIXTURE)


def _declare_stack(stack: str, release: str | None, change: Change, project: Path) -> list[Declared]:
    file = yaml.safe_load((project / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]
    file["patchwave:settings"] = changed(file["patchwave:settings"], change)
    config = {key: value if isinstance(value, str) else json.dumps(value) for key, value in file.items()}
    config.pop("patchwave:release", None)
    if release:
        config["patchwave:release"] = release
    program = compile((PROJECT / "__main__.py").read_text(encoding="utf-8"), "__main__.py", "exec")
    return declare(lambda: exec(program, {"__file__": str(project / "__main__.py")}), stack=stack, config=config)  # noqa: S102
