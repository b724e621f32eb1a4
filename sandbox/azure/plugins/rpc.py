"""The engine's plugin protocol, imported without the rest of Pulumi's SDK: a plugin must start quickly."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import any_pb2, empty_pb2, struct_pb2
from google.rpc import status_pb2  # type: ignore[import-untyped]

from sandbox.azure.bodies.wire import UNKNOWN
from sandbox.azure.plugins.protocol import without_the_sdk

with without_the_sdk():
    from pulumi.runtime.proto import (
        engine_pb2,
        engine_pb2_grpc,
        plugin_pb2,
        provider_pb2,
        provider_pb2_grpc,
    )

Json = Any
SIGNATURE = "4dabf18193072939515e22adb298388d"
_MESSAGE_LIMIT = 1024 * 1024 * 400


class Failure(Exception):
    """One line for the user; `partial` is what exists all the same."""

    def __init__(self, message: str, partial: Json = None) -> None:
        super().__init__(message)
        self.partial = partial


def plain(value: Json) -> Json:
    """Python's view of a struct; whole numbers are ints."""
    if isinstance(value, struct_pb2.Struct):
        return {name: plain(inner) for name, inner in value.fields.items()}
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return plain(value.struct_value)
    if kind == "list_value":
        return [plain(inner) for inner in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    return None if kind in ("null_value", None) else getattr(value, kind)


def struct(value: Mapping[str, Json]) -> Json:
    """The struct of a Python mapping."""
    made = struct_pb2.Struct()
    made.update(value)
    return made


def has_unknown(value: Json) -> bool:
    """Whether anything in it is known only after the update."""
    if isinstance(value, Mapping):
        return any(has_unknown(inner) for inner in value.values())
    return any(map(has_unknown, value)) if isinstance(value, list) else value == UNKNOWN


NOTHING = empty_pb2.Empty


class Provider:
    """What every emulator answers in the same way; a method is named as the protocol's, in lower case."""

    name: str
    version: str

    def __init__(self, engine: str) -> None:
        self.engine = engine

    def handshake(self, request: Json) -> Json:
        self.engine = request.engine_address or self.engine
        return provider_pb2.ProviderHandshakeResponse()

    def attach(self, request: Json) -> Json:
        self.engine = request.address
        return NOTHING()

    def get_plugin_info(self, request: Json) -> Json:
        return plugin_pb2.PluginInfo(version=self.version)

    def get_schema(self, request: Json) -> Json:
        return provider_pb2.GetSchemaResponse(schema=f'{{"name": "{self.name}", "version": "{self.version}"}}')

    def check_config(self, request: Json) -> Json:
        return provider_pb2.CheckResponse(inputs=request.news)

    def diff_config(self, request: Json) -> Json:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def configure(self, request: Json) -> Json:
        return provider_pb2.ConfigureResponse(
            acceptSecrets=False, supportsPreview=True, acceptResources=False, acceptOutputs=False
        )


def servicer(provider: Provider) -> Json:
    """The protocol's servicer for a provider: what it does not have is unimplemented."""

    class Servicer(provider_pb2_grpc.ResourceProviderServicer):
        pass

    for method in provider_pb2.DESCRIPTOR.services_by_name["ResourceProvider"].methods:
        if (own := getattr(provider, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower(), None)) is not None:
            setattr(Servicer, method.name, _answering(own))
    return Servicer()


def _answering(method: Callable[[Json], Json]) -> Callable[..., Json]:
    """Turns a Failure, and anything unforeseen, into one line for the engine and no traceback."""

    def answer(servicer: Json, request: Json, context: Json) -> Json:
        try:
            return method(request)
        except Failure as failure:
            message, partial = str(failure), failure.partial
        except Exception as error:
            message, partial = " ".join(f"{type(error).__name__}: {error}".split()), None
        if partial is not None:
            detail = any_pb2.Any()
            detail.Pack(partial)
            status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=message, details=[detail])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNKNOWN, message)

    return answer


def serve(make: Callable[[str], Provider], workers: int = 64) -> None:
    """Serves one provider until the engine ends it; the port is the first line of stdout."""
    provider = make(sys.argv[1] if len(sys.argv) > 1 else "")
    options = [("grpc.max_receive_message_length", _MESSAGE_LIMIT), ("grpc.max_send_message_length", _MESSAGE_LIMIT)]
    server = grpc.server(ThreadPoolExecutor(workers), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer(provider), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine sends Cancel; the terminal's Ctrl-C is not for plugins
    server.wait_for_termination()


class EngineLog:
    """The engine's log: lines below a resource while it works."""

    def __init__(self, address: str) -> None:
        self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address)) if address else None

    def status(self, urn: str, line: str, *, ephemeral: bool = True) -> None:
        """Shows a line as the resource's status; a lost engine is no error."""
        if self._stub is None:
            return
        request = engine_pb2.LogRequest(
            severity=engine_pb2.LogSeverity.INFO, message=line, urn=urn, streamId=0, ephemeral=ephemeral
        )
        try:
            self._stub.Log(request)
        except grpc.RpcError:
            self._stub = None


__all__ = [
    "NOTHING", "SIGNATURE", "UNKNOWN", "EngineLog", "Failure", "Provider", "has_unknown", "plain", "provider_pb2",
    "serve", "servicer", "struct",
]  # fmt: skip
