"""What the standard asks of commands and of what hosts are told at their first boot, in anyone's program."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

from policy.declared import Declared
from policy.estate import MACHINE, SCALE_SET
from policy.rule import Context, rule
from policy.service.values import at, objects, table
from policy.wire import SecretText, known

COMMANDS = ("command:local:Command", "command:remote:Command")
SCRIPTS = ("create", "update", "delete", "stdin")
SECRETS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a storage account's key": re.compile(r"AccountKey=[A-Za-z0-9+/]{40,}"),
    "a shared access signature": re.compile(r"[?&]sig=[A-Za-z0-9%+/=]{20,}"),
    "a token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{36}|AKIA[0-9A-Z]{16}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"),
    "a password in an address": re.compile(r"://[^/\s:@$]+:[^/\s:@$]{3,}@"),
    "a password": re.compile(r"(?i)\b(?:password|passwd|secret|token|api[_-]?key)\s*[=:]\s*['\"]?[^\s'\"$]{6,}"),
}
SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|private_key|api_?key|credential)$")
UNPINNED = {
    "a script runs as it is downloaded": re.compile(r"\b(?:curl|wget)\b[^|;&\n]*\|\s*(?:sudo\s+)?(?:ba|da|z)?sh\b"),
    "an image is latest": re.compile(r"\b(?:docker|podman|nerdctl)\b[^;&|\n]*:latest\b"),
    "pip installs without a version": re.compile(
        r"\bpip3?\s+install\s+(?!-r|--requirement)(?:-\S+\s+)*[A-Za-z][\w.-]*(?![\w.\-\[=~<>@/])"
    ),
    "apt installs without a version": re.compile(
        r"\bapt(?:-get)?\s+(?:-\S+\s+)*install\s+(?:-\S+\s+)*[a-z][\w.+-]*(?![\w.+=-])"
    ),
    "a collection has no version": re.compile(r"\bansible-galaxy\s+\S+\s+install\s+(?!-)[\w.]+(?![\w.:])"),
    "a clone names no tag": re.compile(r"\bgit\s+clone\b(?![^;&|\n]*(?:--branch|-b)\s)"),
}


def _scripts(declared: Declared) -> Iterator[tuple[str, str]]:
    """What a resource would run, by where it stands."""
    if declared.type in COMMANDS:
        for key in SCRIPTS:
            if isinstance(text := known(declared.props, key), str):
                yield key, text
        return
    profile = table(declared.props.get("virtualMachineProfile")) if declared.type == SCALE_SET else declared.props
    for key, value in (
        ("osProfile.customData", known(table(profile.get("osProfile")), "customData")),
        ("userData", known(profile, "userData")),
    ):
        if isinstance(value, str):
            yield key, _decoded(value)
    for extension in objects(at(profile, "extensionProfile", "extensions")):
        yield f"extension {extension.get('name')}.settings", str(_plain(extension.get("settings")))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return text


@rule(*COMMANDS, SCALE_SET, MACHINE, severity="critical")
def scripts_hold_no_secrets(declared: Declared, context: Context) -> Iterator[str]:
    """What is run is shown in previews, kept in state and in logs: secrets come by the environment, as secrets."""
    for where, text in _scripts(declared):
        for what, pattern in SECRETS.items():
            if pattern.search(text):
                yield f"{where} holds {what}: pass it by environment as a Pulumi secret"


@rule(*COMMANDS, severity="critical")
def environments_hold_only_marked_secrets(
    declared: Declared, context: Context, *, allowed: tuple[str, ...] = ()
) -> Iterator[str]:
    """A variable that is called a secret is one to Pulumi too, so that it is encrypted in state."""
    variables = table(declared.props.get("environment"))
    for name in variables:
        value = known(variables, name)
        if not isinstance(value, str) or isinstance(value, SecretText) or not value or name in allowed:
            continue
        if SECRET_NAME.search(name) or any(pattern.search(value) for pattern in SECRETS.values()):
            yield f"environment.{name} is no Pulumi secret: wrap it in pulumi.Output.secret, or take it from config"


@rule(*COMMANDS, SCALE_SET, MACHINE, severity="high")
def scripts_pin_what_they_fetch(declared: Declared, context: Context) -> Iterator[str]:
    """What a script fetches has a version, so that it does tomorrow what was reviewed today."""
    for where, text in _scripts(declared):
        for what, pattern in UNPINNED.items():
            if pattern.search(text):
                yield f"{where}: {what}: name the version"
