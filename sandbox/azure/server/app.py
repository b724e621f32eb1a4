"""The two endpoints: Azure's REST over HTTPS, and the managed-identity endpoint over loopback HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.azure.arm.batch import Batches
from sandbox.azure.arm.machines import enrol, provide
from sandbox.azure.arm.manager import Answer, Manager
from sandbox.azure.queries.graph import Graph
from sandbox.azure.queries.ingest import ingest
from sandbox.azure.queries.logs import Logs
from sandbox.azure.resources.errors import AzureError, bad_request
from sandbox.azure.server.conditions import Traffic
from sandbox.azure.server.identity import Identity

LOG = logging.getLogger("patchwave.azure")
Handler = Callable[[Request, bytes], Answer]
Entrance = Callable[[Request], dict[str, str]]
LARGEST_BODY = 16 * 1024 * 1024


def resource_manager(
    manager: Manager, graph: Graph, identity: Identity, traffic: Traffic, ready: Callable[[], bool]
) -> Starlette:
    """The HTTPS endpoint."""
    logs = Logs(manager.store)

    def to_manager(request: Request) -> dict[str, str]:
        identity.management(request.headers.get("authorization"))
        return traffic.admit(request.method, request.url.path)

    def to_graph(request: Request) -> dict[str, str]:
        identity.management(request.headers.get("authorization"))
        traffic.disturb()
        return {}

    def to_logs(request: Request) -> dict[str, str]:
        identity.monitor(request.headers.get("authorization"))
        traffic.disturb()
        return {}

    def to_queries(request: Request) -> dict[str, str]:
        identity.queries(request.headers.get("authorization"))
        traffic.disturb()
        return {}

    def is_ready(request: Request, body: bytes) -> Answer:
        if not ready():
            raise AzureError(503, "ServiceUnavailable", "The sandbox is starting.")
        return Answer(200, {"status": "ready"})

    def query_graph(request: Request, body: bytes) -> Answer:
        if not request.query_params.get("api-version"):
            raise bad_request(
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        found, headers = graph.query(_json(body))
        return Answer(200, found, headers)

    def ingest_logs(request: Request, body: bytes) -> Answer:
        encoding = request.headers.get("content-encoding", "")
        ingest(manager.store, request.path_params["rule"], request.path_params["stream"], body, encoding)
        return Answer(204)

    def query_logs(request: Request, body: bytes) -> Answer:
        return logs.query(request.path_params["workspace"], body, request.headers.get("prefer", ""))

    def query_batch(request: Request, body: bytes) -> Answer:
        return logs.batch(body)

    def resource(request: Request, body: bytes) -> Answer:
        query = {name.lower(): value for name, value in request.query_params.items()}
        etag = request.headers.get("if-match", "")
        return manager.handle(request.method, request.url.path, query, _json(body) if body else None, etag)

    batches = Batches(manager.handle, manager.places.endpoint)

    def batch(request: Request, body: bytes) -> Answer:
        if request.method == "GET":
            return batches.get(request.path_params["identity"])
        return batches.post(_json(body), request.query_params.get("api-version", ""))

    methods = ["GET", "PUT", "PATCH", "POST", "DELETE", "HEAD"]
    return Starlette(
        routes=[
            Route("/ready", _endpoint(is_ready), methods=["GET"]),
            Route(
                "/providers/Microsoft.ResourceGraph/resources",
                _endpoint(query_graph, to_graph, traffic.latency),
                methods=["POST"],
            ),
            Route(
                "/dataCollectionRules/{rule}/streams/{stream}",
                _endpoint(ingest_logs, to_logs, traffic.latency),
                methods=["POST"],
            ),
            Route("/v1/$batch", _endpoint(query_batch, to_queries, traffic.latency), methods=["POST"]),
            Route(
                "/v1/workspaces/{workspace}/query",
                _endpoint(query_logs, to_queries, traffic.latency),
                methods=["POST"],
            ),
            Route("/v1/{workspace:path}/query", _endpoint(query_logs, to_queries, traffic.latency), methods=["POST"]),
            Route("/batch", _endpoint(batch, to_graph, traffic.latency), methods=["POST"]),
            Route("/batch/{identity}", _endpoint(batch, to_graph, traffic.latency), methods=["GET"]),
            Route("/{path:path}", _endpoint(resource, to_manager, traffic.latency), methods=methods),
        ]
    )


def identity_door(manager: Manager, identity: Identity) -> Starlette:
    """The HTTP endpoint: tokens for whoever is on this machine, and the enrolment of Arc machines."""

    def token(request: Request, body: bytes) -> Answer:
        if request.headers.get("metadata", "").lower() != "true":
            raise AzureError(400, "invalid_request", "Required metadata header not specified")
        resource = request.query_params.get("resource")
        if not resource:
            raise AzureError(400, "invalid_request", "Required query variable 'resource' is missing")
        return Answer(200, identity.issue(resource))

    def arc(request: Request, body: bytes) -> Answer:
        return Answer(200, enrol(manager, _json(body)))

    def images(request: Request, body: bytes) -> Answer:
        provide(manager.store, _json(body))
        return Answer(204)

    return Starlette(
        routes=[
            Route("/metadata/identity/oauth2/token", _endpoint(token, identity_errors=True), methods=["GET"]),
            Route("/sandbox/arc", _endpoint(arc), methods=["POST"]),
            Route("/sandbox/images", _endpoint(images), methods=["POST"]),
        ]
    )


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise bad_request(
            "InvalidRequestContent", "The request content was invalid and could not be deserialized."
        ) from None


def _open(request: Request) -> dict[str, str]:
    return {}


def _endpoint(
    handler: Handler, entrance: Entrance = _open, latency: float = 0.0, *, identity_errors: bool = False
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        began = time.monotonic()
        body = await request.body()
        await asyncio.sleep(latency)
        result = await to_thread.run_sync(_safely, handler, entrance, request, body, identity_errors)
        LOG.info(
            "%s %s %d %d", request.method, request.url.path, result.status, round((time.monotonic() - began) * 1000)
        )
        headers = {"x-ms-request-id": str(uuid.uuid4()), **result.headers}
        if result.body is None:
            return Response(status_code=result.status, headers=headers)
        content = json.dumps(result.body)
        return Response(content, result.status, headers, media_type="application/json")

    return answer


def _safely(handler: Handler, entrance: Entrance, request: Request, body: bytes, identity_errors: bool) -> Answer:
    entered: dict[str, str] = {}
    try:
        entered = entrance(request)
        if len(body) > LARGEST_BODY:
            raise AzureError(413, "RequestEntityTooLarge", "The request is larger than 16 MB.")
        found = handler(request, body)
        return Answer(found.status, found.body, entered | found.headers)
    except AzureError as refusal:
        if identity_errors:
            content = {"error": refusal.code, "error_description": refusal.message}
            return Answer(refusal.status, content, refusal.headers)
        return Answer(refusal.status, refusal.envelope, entered | refusal.headers)
    except Exception:
        LOG.exception("%s %s", request.method, request.url.path)
        error = AzureError(500, "InternalServerError", "Encountered internal server error: see log/azure.log.")
        return Answer(500, error.envelope)
