"""pulumi-resource-azure-native: the engine's way to the resource manager, in the official provider's terms."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sandbox.azure.bodies.differences import differences, projected, refreshed
from sandbox.azure.bodies.shape_cache import shapes
from sandbox.azure.bodies.wire import Wire
from sandbox.azure.plugins import rpc
from sandbox.azure.plugins.client import Client, Refusal
from sandbox.azure.plugins.rpc import UNKNOWN, Failure, plain, provider_pb2, struct
from sandbox.azure.resources.ids import PRINCIPAL, TENANT
from sandbox.azure.resources.kinds import BY_TOKEN, Kind

Json = Any
_PREFIX = "azure-native:"


class AzureNative(rpc.Provider):
    """CRUD on the kinds of the table; anything else is refused by name."""

    name = "azure-native"

    def __init__(self, engine: str, cache: Path) -> None:
        super().__init__(engine)
        self.version = metadata.version("pulumi-azure-native")
        self._wire = Wire(shapes(cache))
        self._cancelled = threading.Event()
        self._config: dict[str, str] = {}
        self._made: Client | None = None

    @property
    def _client(self) -> Client:
        if self._made is None:
            self._made = Client(self._config.get("subscriptionId", ""), self._cancelled)
        return self._made

    def configure(self, request: Json) -> Json:
        self._config = {name.removeprefix("azure-native:config:"): value for name, value in request.variables.items()}
        return super().configure(request)

    def cancel(self, request: Json) -> Json:
        self._cancelled.set()
        return rpc.NOTHING()

    def check(self, request: Json) -> Json:
        kind = _kind(request.urn)
        olds, news = plain(request.olds), plain(request.news)
        self._name(kind, request, olds, news)
        self._locate(kind, news)
        failures = [
            provider_pb2.CheckFailure(property=where, reason=why) for where, why in self._complaints(kind, news)
        ]
        return provider_pb2.CheckResponse(inputs=struct(news), failures=failures)

    def _name(self, kind: Kind, request: Json, olds: dict[str, Json], news: dict[str, Json]) -> None:
        """A resource that is not named gets its logical name and eight random digits, and keeps them."""
        argument = kind.name_argument
        if news.get(argument) is not None:
            return
        if olds.get(argument):
            news[argument] = olds[argument]
        elif kind.type == "Microsoft.Authorization/roleAssignments":
            news[argument] = str(
                uuid.UUID(bytes=hashlib.sha256(request.randomSeed + request.urn.encode()).digest()[:16])
            )
        else:
            mark = hashlib.sha256(request.randomSeed + request.urn.encode()).hexdigest()[:8]
            news[argument] = f"{request.urn.rsplit('::', 1)[1]}{mark}"

    def _locate(self, kind: Kind, news: dict[str, Json]) -> None:
        """Without a location a resource takes the configured one, else its group's."""
        fields = self._wire.fields(kind.shape)
        if news.get("location") is not None or "location" not in fields or not kind.located:
            return
        group = news.get("resourceGroupName")
        if location := self._config.get("location"):
            news["location"] = location
        elif group == UNKNOWN:
            news["location"] = UNKNOWN
        elif group:
            found = self._client.get(f"/subscriptions/{self._client.subscription}/resourceGroups/{group}", "2025-04-01")
            if found:
                news["location"] = found["location"]

    def _complaints(self, kind: Kind, news: dict[str, Json]) -> Iterator[tuple[str, str]]:
        fields = self._wire.fields(kind.shape)
        for argument in kind.arguments:
            if argument == "subscriptionId":
                continue
            value = news.get(argument)
            if value is None:
                yield argument, f"missing required property '{argument}'"
            elif not isinstance(value, str):
                yield argument, f"{argument} must be a string"
        body = {name: value for name, value in news.items() if name not in kind.arguments or name in fields}
        for problem in self._wire.complaints(body, kind.shape):
            yield problem.path, problem.reason

    def diff(self, request: Json) -> Json:
        kind = _kind(request.urn)
        olds, news = plain(request.old_inputs), plain(request.news)
        changes = dict(differences(olds, news))
        known = plain(request.olds)
        replaces = [path for path in changes if _replaces(kind, path) and not _said(path, olds, news, known)]
        kinds = provider_pb2.PropertyDiff.Kind
        detailed = {
            path: provider_pb2.PropertyDiff(
                kind=kinds.Value(f"{how}_REPLACE" if path in replaces else how), inputDiff=True
            )
            for path, how in changes.items()
        }
        moved = any(olds.get(argument) != news.get(argument) for argument in kind.arguments)
        answer = provider_pb2.DiffResponse
        return answer(
            changes=answer.DIFF_SOME if changes else answer.DIFF_NONE,
            replaces=replaces, diffs=sorted({re.split(r"[.\[]", path)[0] for path in changes}),
            detailedDiff=detailed, hasDetailedDiff=True, deleteBeforeReplace=bool(replaces) and not moved,
        )  # fmt: skip

    def create(self, request: Json) -> Json:
        kind, inputs = _kind(request.urn), plain(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=struct(self._foreseen(kind, inputs)))
        identity = self._id(kind, inputs)
        body = self._body(kind, inputs)
        there = self._call(lambda: self._client.get(identity, kind.api))
        if there is not None and not self._as_declared(kind, there, inputs):
            raise Failure(f"cannot create already existing resource '{identity}'")
        return self._put(kind, identity, body, inputs, provider_pb2.CreateResponse)

    def update(self, request: Json) -> Json:
        kind, inputs = _kind(request.urn), plain(request.news)
        if request.preview:
            olds = plain(request.olds)
            stable = {name: olds[name] for name in ("name", "location") if name in olds}
            return provider_pb2.UpdateResponse(properties=struct(self._foreseen(kind, inputs) | stable))
        return self._put(kind, request.id, self._body(kind, inputs), inputs, provider_pb2.UpdateResponse)

    def _put(self, kind: Kind, identity: str, body: Json, inputs: dict[str, Json], answer: Json) -> Json:
        """What the state keeps is what a read answers, which may be spelt otherwise than the answer to the write."""
        try:
            stored = self._client.put(identity, kind.api, body) or {}
            stored = self._client.get(identity, kind.api) or stored
        except Refusal as refusal:
            raise Failure(str(refusal), self._half_made(kind, identity, inputs, refusal)) from None
        found = {"id": stored["id"]} if answer is provider_pb2.CreateResponse else {}
        return answer(properties=struct(self._outputs(kind, stored)), **found)

    def _half_made(self, kind: Kind, identity: str, inputs: dict[str, Json], refusal: Refusal) -> Json | None:
        """A resource that Azure keeps although its operation failed belongs into the state."""
        try:
            stored = self._client.get(identity, kind.api)
        except Refusal:
            return None
        if stored is None or stored.get("properties", {}).get("provisioningState") in (None, "Succeeded"):
            return None
        return provider_pb2.ErrorResourceInitFailed(
            id=stored["id"],
            properties=struct(self._outputs(kind, stored)),
            reasons=[str(refusal)],
            inputs=struct(inputs),
        )

    def delete(self, request: Json) -> Json:
        kind = _kind(request.urn)
        self._call(lambda: self._client.delete(request.id, kind.api))
        return rpc.NOTHING()

    def read(self, request: Json) -> Json:
        kind = _kind(request.urn)
        stored = self._call(lambda: self._client.get(request.id, kind.api))
        if stored is None:
            return provider_pb2.ReadResponse()
        olds, outputs = plain(request.inputs), self._outputs(kind, stored)
        if olds:
            before, now = (self._declarable(kind, value) for value in (plain(request.properties), outputs))
            inputs = refreshed(olds, before, now)
        else:
            inputs = self._declarable(kind, outputs) | _arguments(kind, stored["id"])
        return provider_pb2.ReadResponse(id=stored["id"], properties=struct(outputs), inputs=struct(inputs))

    def _declarable(self, kind: Kind, outputs: Mapping[str, Json]) -> dict[str, Json]:
        """The outputs that could have been declared."""
        body = self._wire.unfold(outputs, kind.shape)
        declarable = self._wire.fold(self._wire.writable(body, kind.shape), kind.shape)
        declarable.pop("id", None)
        return declarable

    def invoke(self, request: Json) -> Json:
        arguments = plain(request.args)
        if request.tok == f"{_PREFIX}authorization:getClientConfig":
            config = {"clientId": PRINCIPAL, "objectId": PRINCIPAL, "tenantId": TENANT}
            config["subscriptionId"] = self._client.subscription
            return _returned(config)
        module, _, function = request.tok.removeprefix(_PREFIX).partition(":")
        kind = BY_TOKEN.get(f"{_PREFIX}{module}:{function.removeprefix('get')}") if function.startswith("get") else None
        if kind is None:
            raise Failure(f"{request.tok}: the sandbox does not know this function")
        identity = self._id(kind, arguments)
        stored = self._call(lambda: self._client.get(identity, kind.api))
        if stored is None:
            raise Failure(f"ResourceNotFound: {identity} does not exist")
        return _returned(self._outputs(kind, stored) | {"id": stored["id"]})

    def _call(self, do: Json) -> Json:
        try:
            return do()
        except Refusal as refusal:
            raise Failure(str(refusal)) from None

    def _id(self, kind: Kind, inputs: Mapping[str, Json]) -> str:
        values = {"subscriptionId": self._client.subscription, **inputs}
        missing = [name for name in kind.arguments if not isinstance(values.get(name), str)]
        if missing:
            raise Failure(f"{kind.token}: {missing[0]} is missing")
        values["scope"] = str(values.get("scope", "")).strip("/")
        return kind.path.format(**{name: values[name] for name in kind.arguments})

    def _body(self, kind: Kind, inputs: Mapping[str, Json]) -> Json:
        fields = self._wire.fields(kind.shape)
        kept = {name: value for name, value in inputs.items() if name not in kind.arguments or name in fields}
        if "scope" in kind.arguments:
            kept.pop("scope", None)
        return self._wire.unfold(kept, kind.shape)

    def _outputs(self, kind: Kind, stored: Json) -> dict[str, Json]:
        outputs = self._wire.fold(stored, kind.shape)
        outputs.pop("id", None)
        return outputs | {"azureApiVersion": kind.api}

    def _foreseen(self, kind: Kind, inputs: Mapping[str, Json]) -> dict[str, Json]:
        """What a preview knows of the outputs: the inputs that come back; whatever else Azure answers is unknown."""
        outputs = self._wire.foreseen(inputs, kind.shape)
        outputs.pop("id", None)
        return outputs | {"azureApiVersion": kind.api}

    def _as_declared(self, kind: Kind, there: Json, inputs: Mapping[str, Json]) -> bool:
        """Whether a resource is what a create whose answer was lost has made."""
        fields = self._wire.fields(kind.shape)
        wanted = {name: value for name, value in inputs.items() if name in fields and name not in kind.arguments}
        fresh = self._declarable(kind, self._outputs(kind, there))
        return not dict(differences(wanted, projected(wanted, fresh)))


def _kind(urn: str) -> Kind:
    token = urn.split("::")[2].rsplit("$", 1)[-1]
    if (kind := BY_TOKEN.get(token)) is None:
        raise Failure(f"{token}: the sandbox does not know this type of resource")
    return kind


def _returned(value: Mapping[str, Json]) -> Json:
    return provider_pb2.InvokeResponse(**{"return": struct(value)})


def _replaces(kind: Kind, path: str) -> bool:
    bare = re.sub(r"\[\d+\]", "", path)
    return any(bare == name or bare.startswith(f"{name}.") for name in kind.replaces)


def _said(path: str, olds: Mapping[str, Json], news: Mapping[str, Json], known: Mapping[str, Json]) -> bool:
    """Whether an input only spells out what Azure has chosen before."""
    return path not in olds and path in known and known[path] == news.get(path)


def _arguments(kind: Kind, identity: str) -> dict[str, Json]:
    """The inputs that an id stands for."""
    pattern = re.sub(r"{(\w+)}", lambda m: f"(?P<{m[1]}>{'.+' if m[1] == 'scope' else '[^/]+'})", kind.path)
    found = re.fullmatch(pattern, identity, re.IGNORECASE)
    return {name: value for name, value in (found.groupdict() if found else {}).items() if name != "subscriptionId"}


def main() -> None:
    """Serves the plugin; the cache of shapes is where the sandbox keeps it."""
    cache = os.environ.get("PATCHWAVE_SANDBOX_CACHE")
    if cache is None:
        from sandbox.config import cache_folder

        cache = str(cache_folder())
    rpc.serve(lambda engine: AzureNative(engine, Path(cache)))


if __name__ == "__main__":
    main()
