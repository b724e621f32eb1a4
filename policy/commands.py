"""What the standard asks of commands and of what hosts are told at their first boot, in anyone's program."""

import base64
import binascii
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from policy import shell
from policy.declared import Declared
from policy.estate import MACHINE, SCALE_SET, attended, profile
from policy.rule import Context, rule
from policy.service.values import at, items, objects, table
from policy.wire import SecretText, known, texts

COMMANDS = ("command:local:Command", "command:remote:Command")
EXTENSIONS = (
    "azure-native:compute:VirtualMachineExtension",
    "azure-native:compute:VirtualMachineScaleSetExtension",
    "azure-native:hybridcompute:MachineExtension",
)
RUN_COMMANDS = (
    "azure-native:compute:VirtualMachineRunCommandByVirtualMachine",
    "azure-native:hybridcompute:MachineRunCommand",
)
RUNS = (*COMMANDS, *EXTENSIONS, *RUN_COMMANDS, SCALE_SET, MACHINE)
SCRIPTS = ("create", "update", "delete", "stdin")

_NAMED = r"(?:pass(?:word|wd|phrase)|_pwd|secret|token|(?:api|access|account|secret|private)[_-]?key|credentials?)"
_VALUE = r"(?!\w[\w.]*[\[(])[^\s'\"$`{<%*/\\|;&)]"
SECRETS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a storage account's key": re.compile(r"AccountKey=[A-Za-z0-9+/]{40,}"),
    "a shared access signature": re.compile(r"[?&]sig=[A-Za-z0-9%+/=]{20,}"),
    "a token": re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|"
        r"[\w~.-]{3}\dQ~[\w~.-]{31,34}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"
    ),
    "a password in an address": re.compile(r"://[^/\s:@$]+:[^/\s:@${}<>*]{3,}@"),
    "a password": re.compile(
        rf"{_NAMED}['\"]?\s*=\s*['\"]?{_VALUE}[^\s'\"]{{5,}}"  # PASSWORD=…
        rf"|{_NAMED}['\"]?\s*:\s*['\"]?(?=[^\s'\"]*\d){_VALUE}[^\s'\"]{{5,}}"  # password: …, and not a word of prose
        rf"|--(?:password|token|secret|client-secret|api-key)[ \t]+['\"]?{_VALUE.replace('[^', '[^-')}[^\s'\"]{{5,}}"
        rf"|\bsshpass\s+-p\s*['\"]?{_VALUE}"
        rf"|\bcurl\b[^|;&\n]*\s(?:-u|--user)\s+['\"]?[^\s:'\"$]+:{_VALUE}"
        r"|[\w-]+:[^\s:'\"$`]{4,}['\"]?\s*\|\s*(?:sudo\s+)?chpasswd",
        re.IGNORECASE,
    ),
}
SECRET_NAME = re.compile(rf"(?i){_NAMED}$")
UPGRADER = re.compile(r"(?i)unattended-upgrade|dnf-automatic|yum-cron")
TAKEN_AWAY = re.compile(r"(?i)\b(?:remove|purge|disable|mask|stop|erase|absent)\b|[\"']0[\"']|^\s*#")


class Script(NamedTuple):
    """A text that a resource runs or is told, where it stands, and how a secret of it is passed instead."""

    where: str
    text: str
    fix: str


def _scripts(declared: Declared) -> Iterator[Script]:
    props = declared.props
    if declared.type in COMMANDS:
        for key in SCRIPTS:
            if isinstance(text := known(props, key), str):
                yield Script(key, text, "pass it by environment, as a Pulumi secret")
    elif declared.type in RUN_COMMANDS:
        for where, text in texts({"source": known(props, "source"), "parameters": known(props, "parameters")}):
            yield Script(where, text, "pass it by protectedParameters")
    elif declared.type in EXTENSIONS:
        for where, holder in (("settings", props), ("properties.settings", table(known(props, "properties")))):
            yield from _settings(where, known(holder, "settings"))
    else:
        yield from _of_host(profile(declared))


def _of_host(described: Mapping[str, Any]) -> Iterator[Script]:
    fix = "let the host read it from a key vault by its identity"
    for where, value in (
        ("osProfile.customData", known(table(described.get("osProfile")), "customData")),
        ("userData", known(described, "userData")),
    ):
        if isinstance(value, str):
            yield Script(where, _decoded(value), fix)
    for one in objects(at(described, "extensionProfile", "extensions")):
        yield from _settings(f"extension {known(one, 'name')}.settings", known(one, "settings"))


def _settings(where: str, settings: Any) -> Iterator[Script]:
    """An extension's settings; what it is given as `script` is encoded."""
    for path, text in texts(settings, where):
        encoded = path.endswith(".script")
        yield Script(path, _decoded(text) if encoded else text, "move it to protectedSettings")


def _decoded(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return text


def _shell(text: str) -> str:
    """A script as it stands; cloud-init's document as the commands that carry it out."""
    if not text.startswith("#cloud-config"):
        return text
    try:
        document = table(yaml.safe_load(text))
    except yaml.YAMLError:
        return text
    lines = [f"apt-get install {package}" for package in map(_package, items(document.get("packages")))]
    lines += ["apt-get upgrade" for key in ("package_upgrade", "apt_upgrade") if document.get(key) is True]
    for key in ("bootcmd", "runcmd"):
        for one in items(document.get(key)):
            lines.append(one if isinstance(one, str) else shlex.join(str(word) for word in items(one)))
    files = (str(file.get("content")) for file in objects(document.get("write_files")))
    return "\n".join([*lines, *(content for content in files if content.startswith("#!"))])


def _package(entry: Any) -> str:
    return shlex.quote(entry if isinstance(entry, str) else "=".join(str(part) for part in items(entry)))


@rule(*RUNS, severity="critical")
def scripts_hold_no_secrets(declared: Declared, context: Context) -> Iterator[str]:
    """What is run is shown in previews, kept in state and in logs: secrets come another way, as secrets."""
    for script in _scripts(declared):
        if script.where == "stdin" and isinstance(script.text, SecretText):
            continue
        for what, pattern in SECRETS.items():
            if pattern.search(script.text):
                yield f"{script.where} holds {what}: {script.fix}"


@rule(*COMMANDS, severity="critical")
def environments_hold_only_marked_secrets(
    declared: Declared, context: Context, *, allowed: tuple[str, ...] = ()
) -> Iterator[str]:
    """A variable that is called a secret, or holds one, is one to Pulumi too, so that it is encrypted in state."""
    variables = table(known(declared.props, "environment"))
    for name in variables:
        value = known(variables, name)
        if not isinstance(value, str) or isinstance(value, SecretText) or not value or name in allowed:
            continue
        if SECRET_NAME.search(name) or any(pattern.search(value) for pattern in SECRETS.values()):
            yield f"environment.{name} is no Pulumi secret: wrap it in pulumi.Output.secret, or take it from config"


@rule(*RUNS, severity="high")
def scripts_pin_what_they_fetch(declared: Declared, context: Context) -> Iterator[str]:
    """What a script fetches has a version, so that it does tomorrow what was reviewed today."""
    for script in _scripts(declared):
        for found in shell.unpinned(_shell(script.text)):
            yield f"{script.where}: {found.what}: {found.fix}"


@rule(SCALE_SET, MACHINE, severity="critical")
def hosts_bring_no_unattended_upgrades(declared: Declared, context: Context) -> Iterator[str]:
    """Where the standard forbids unattended upgrades, no host is told to install them at its first boot."""
    if attended(declared, context):
        for script in _scripts(declared):
            lines = [line for line in script.text.splitlines() if UPGRADER.search(line)]
            if any(not TAKEN_AWAY.search(line) for line in lines):
                yield f"{script.where} brings unattended upgrades: remove them"
