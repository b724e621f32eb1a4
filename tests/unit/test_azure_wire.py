"""Pulumi's inputs and Azure's bodies are two spellings of one thing, and nothing unknown passes between them."""

import importlib
import inspect
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

import pulumi_azure_native
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi import _types

from sandbox.azure.bodies.shape_cache import shapes
from sandbox.azure.bodies.shapes import SHADOWED, Field
from sandbox.azure.bodies.wire import UNKNOWN
from sandbox.azure.resources.kinds import KINDS, Kind
from tests.unit.azure_emulator import shape_cache, wire

NEWER = {
    # Properties of API versions that the SDK package does not describe: refused, because nothing stands behind them.
    "HybridCompute": {"expand", "licenseProfile", "osProfile"},
    "Insights": {
        "alertSensitivity", "criterionType", "ignoreDataBefore", "minRecurrenceCount", "managedIdentity", "identity",
        "incidentReceivers",
    },
    "Network": {"ipamPoolPrefixAllocations"},
}  # fmt: skip
IDS = [kind.token for kind in KINDS]
SHAPES = shapes(shape_cache())


def scalars(kind: str, choices: tuple[str, ...]) -> st.SearchStrategy[Any]:
    if choices:
        return st.sampled_from(choices)
    return {
        "str": st.text(max_size=8), "int": st.integers(-(2**31), 2**31), "bool": st.booleans(),
        "float": st.floats(allow_nan=False, allow_infinity=False), "any": st.just({"free": ["form", 1]}),
    }[kind]  # fmt: skip


def values(kind: str, choices: tuple[str, ...], depth: int) -> st.SearchStrategy[Any]:
    if kind[0] == "@":
        return inputs(kind[1:], depth - 1)
    if kind[0] == "[":
        return st.lists(values(kind[1:-1], choices, depth), max_size=2)
    if kind[0] == "{":
        return st.dictionaries(st.text("abc", min_size=1, max_size=3), values(kind[1:-1], choices, depth), max_size=2)
    return scalars(kind, choices)


def writable(shape: str) -> dict[str, Field]:
    return {name: one for name, one in SHAPES[shape].fields.items() if not one.readonly and not name.endswith(SHADOWED)}


@cache
def inputs(shape: str, depth: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """Pulumi's inputs for a shape: what is required and, above the depth, one thing more."""
    if SHAPES[shape].discriminator:
        return st.just({})
    fields = writable(shape)
    required = {name: values(one.type, one.choices, depth) for name, one in fields.items() if one.required}
    optional = sorted(name for name, one in fields.items() if not one.required)
    if depth <= 0 or not optional:
        return st.fixed_dictionaries(required)

    def with_one(name: str) -> st.SearchStrategy[dict[str, Any]]:
        one = fields[name]
        return st.fixed_dictionaries(required | {name: values(one.type, one.choices, depth)})

    return st.sampled_from(optional).flatmap(with_one)


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_unfolding_and_folding_give_back_what_was_declared(kind: Kind) -> None:
    @given(inputs(kind.shape))
    def check(declared: dict[str, Any]) -> None:
        body = wire().unfold(declared, kind.shape)
        assert wire().fold(body, kind.shape) == declared
        assert [one for one in wire().problems(body, kind.shape) if "missing" not in one.reason] == []

    check()


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_each_property_of_pulumis_own_sdk_is_known(kind: Kind) -> None:
    module, _, name = kind.token.partition(":")
    package = importlib.import_module(f"{pulumi_azure_native.__name__}.{module}")
    arguments = getattr(package, f"{name}InitArgs", None) or getattr(package, f"{name}Args")
    namespace = kind.type.split("/")[0].removeprefix("Microsoft.")
    missing = set(unknown(arguments, kind.shape, set(), frozenset(kind.arguments)))
    assert {path for path in missing if not set(path.split(".")) & NEWER.get(namespace, set())} == set()


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_token_and_api_version_are_those_of_the_provider_s_release(kind: Kind) -> None:
    module, _, name = kind.token.partition(":")
    declared = getattr(importlib.import_module(f"{pulumi_azure_native.__name__}.{module}"), name)
    assert declared.pulumi_type == f"azure-native:{kind.token}"
    assert f"Uses Azure REST API version {kind.api}." in inspect.getsource(declared)


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_each_part_of_an_id_is_an_input(kind: Kind) -> None:
    module, _, name = kind.token.partition(":")
    package = importlib.import_module(f"{pulumi_azure_native.__name__}.{module}")
    arguments = getattr(package, f"{name}InitArgs", None) or getattr(package, f"{name}Args")
    names = set(_types.input_type_py_to_pulumi_names(arguments).values())
    if names != {"actionGroupId", "webhookProperties"}:
        assert set(kind.arguments) - {"subscriptionId"} <= names


def unknown(arguments: Any, shape: str, seen: set[tuple[Any, str]], skipped: frozenset[str]) -> Iterator[str]:
    if (arguments, shape) in seen:
        return
    seen.add((arguments, shape))
    fields = SHAPES[shape].fields
    types = _types.input_type_types(arguments)
    for python, pulumi in _types.input_type_py_to_pulumi_names(arguments).items():
        if pulumi in skipped or pulumi in ("actionGroupId", "webhookProperties"):
            continue
        if pulumi not in fields:
            yield pulumi
            continue
        inner = fields[pulumi].type.strip("[]{}")
        for nested in classes(types.get(pulumi) or types.get(python)):
            if inner.startswith("@") and nested.__name__.endswith("Args"):
                shape = subtype(inner[1:], nested.__name__.removesuffix("Args"))
                yield from (f"{pulumi}.{below}" for below in unknown(nested, shape, seen, frozenset()))


def subtype(shape: str, name: str) -> str:
    """The shape of that name among those that a discriminator chooses from, or the shape itself."""
    among = SHAPES[shape].subtypes.values()
    return next((one for one in among if one.rsplit(".", 1)[-1].lower() == name.lower()), shape)


def classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for inner in typing.get_args(hint):
        yield from classes(inner)


@pytest.mark.parametrize(
    ("declared", "where"),
    [
        ({"virtualMachinProfile": {}}, "virtualMachinProfile"),
        ({"upgradePolicy": {"mode": "Sometimes"}}, "upgradePolicy.mode"),
        ({"upgradePolicy": {"mod": "Rolling"}}, "upgradePolicy.mod"),
        ({"sku": {"capacity": "2"}}, "sku.capacity"),
        ({"sku": {"capacity": 2.5}}, "sku.capacity"),
        ({"sku": {"capacity": True}}, "sku.capacity"),
        ({"overprovision": "yes"}, "overprovision"),
        ({"zones": "1"}, "zones"),
        ({"tags": []}, "tags"),
        ({"virtualMachineProfile": {"extensionProfile": {"extensions": [{"kind": "x"}]}}},
         "virtualMachineProfile.extensionProfile.extensions[0].kind"),
    ],
)  # fmt: skip
def test_both_doors_name_what_is_wrong(declared: dict[str, Any], where: str) -> None:
    shape = "compute.VirtualMachineScaleSet"
    declared = {"location": "westeurope", **declared}
    assert [one.path for one in wire().complaints(declared, shape)] == [where]
    if "Profil" in where.split(".")[0] or "mod" in where or "kind" in where:
        return  # an unknown name does not unfold
    body = wire().unfold(declared, shape)
    assert [one.path.removeprefix("properties.") for one in wire().problems(body, shape)] == [where]


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    (problem,) = wire().complaints({"location": "x", "upgradePolcy": {}}, "compute.VirtualMachineScaleSet")
    assert problem.reason == "unknown property 'upgradePolcy': did you mean 'upgradePolicy'?"


def test_what_is_known_only_later_passes_everywhere() -> None:
    declared = {
        "location": UNKNOWN,
        "sku": {"capacity": UNKNOWN},
        "upgradePolicy": UNKNOWN,
        "zones": [UNKNOWN],
        "tags": UNKNOWN,
    }
    assert list(wire().complaints(declared, "compute.VirtualMachineScaleSet")) == []


def test_an_inner_type_is_not_the_resources_type() -> None:
    body = wire().unfold(
        {"name": "health", "type": "ApplicationHealthLinux"}, "compute.VirtualMachineScaleSetExtension"
    )
    assert body == {"name": "health", "properties": {"type": "ApplicationHealthLinux"}}


def test_only_azure_sets_what_is_read_only() -> None:
    body = {
        "id": "/x",
        "etag": "1",
        "location": "x",
        "properties": {"provisioningState": "Succeeded", "overprovision": True},
    }
    assert wire().writable(body, "compute.VirtualMachineScaleSet") == {
        "location": "x",
        "properties": {"overprovision": True},
    }
