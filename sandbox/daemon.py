"""The emulator as a process of the sandbox: started, waited for, given images and Arc machines."""

import json
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from patchwave.base.errors import Failed
from sandbox.config import Sandbox
from sandbox.lab import processes

_PROCESS = "azure"
_PATIENCE = 300.0


def serve(sandbox: Sandbox) -> None:
    """Both endpoints answer, and every host that the store knows of runs, when this returns."""
    if not processes.alive(sandbox, _PROCESS):
        argv = [sys.executable, "-m", "sandbox.azure", "serve"]
        options = ["--project", str(sandbox.project), "--name", sandbox.name]
        processes.spawn(sandbox, _PROCESS, [*argv, *options], cwd=sandbox.project)
    deadline = time.monotonic() + _PATIENCE
    while not ready(sandbox):
        if not processes.alive(sandbox, _PROCESS) or time.monotonic() > deadline:
            end = processes.tail(sandbox, _PROCESS)
            raise Failed(f"the resource manager does not come up: {end} (all of it: {sandbox.log / 'azure.log'})")
        time.sleep(0.05)


def ready(sandbox: Sandbox) -> bool:
    """Whether the daemon takes requests."""
    if not sandbox.ca.exists():
        return False
    try:
        _open(f"{sandbox.endpoint}/ready", ssl.create_default_context(cafile=str(sandbox.ca)), timeout=5)
        return True
    except (urllib.error.URLError, OSError):
        return False


def provide(sandbox: Sandbox, images: Iterable[Any]) -> None:
    """The emulator offers these images (`sandbox.images.Prepared`)."""
    _post(sandbox, "images", [one._asdict() for one in images], "the images cannot be offered")


def enrol(
    sandbox: Sandbox, name: str, tags: Mapping[str, str], group: str, *, image: str | None, location: str
) -> None:
    """A machine outside Azure joins it in a resource group; its host runs when this returns.

    `image` is the id of the image that its host is made from; without one it runs Windows and has no host.
    """
    body = {"name": name, "tags": dict(tags), "resourceGroup": group, "image": image, "location": location}
    _post(sandbox, "arc", body, f"{name} cannot join as an Arc machine")


def address(sandbox: Sandbox, host: str) -> str:
    """The address of a host that is there."""
    try:
        return str(json.loads((sandbox.hosts / host / "host.json").read_text())["address"])
    except (FileNotFoundError, ValueError, KeyError):
        raise Failed(f"{host} is no host of sandbox {sandbox.name}: name it before what depends on it") from None


def _post(sandbox: Sandbox, path: str, body: Any, complaint: str) -> None:
    request = urllib.request.Request(  # noqa: S310
        f"{sandbox.identity}/sandbox/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    try:
        _open(request, None, timeout=180)
    except urllib.error.HTTPError as error:
        why = " ".join(error.read().decode("utf-8", "replace").split())
        raise Failed(f"{complaint}: {why}") from None


def exists(sandbox: Sandbox, identity: str, api: str) -> bool:
    """Whether a resource is there; one that is still being made is waited for."""
    address = f"{sandbox.identity}/metadata/identity/oauth2/token?resource=https%3A%2F%2Fmanagement.azure.com%2F"
    token = json.loads(_open(urllib.request.Request(address, headers={"Metadata": "true"}), None, 10))  # noqa: S310
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    request = urllib.request.Request(  # noqa: S310
        f"{sandbox.endpoint}{urllib.parse.quote(identity)}?api-version={api}", headers=headers
    )
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            found = json.loads(_open(request, ssl.create_default_context(cafile=str(sandbox.ca)), 30))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise Failed(f"{identity}: the resource manager answers {error.code}: see {sandbox.log}") from None
        state = (found.get("properties") or {}).get("provisioningState")
        if state not in ("Creating", "Updating") or time.monotonic() > deadline:
            return True
        time.sleep(0.2)


def _open(request: str | urllib.request.Request, context: ssl.SSLContext | None, timeout: float) -> Any:
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
        return answer.read()
