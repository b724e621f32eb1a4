"""Signatures by SSH keys, as `ssh-keygen -Y` makes and verifies them, and the list of who may sign."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from patchwave.base.errors import Failed, UsageError

SIGNERS = "PATCHWAVE_ALLOWED_SIGNERS"
PATIENCE = 120
_FINGERPRINT = re.compile(r"\bSHA256:[A-Za-z0-9+/]+")


def allowed_signers(project: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The list of identities and their public keys; None where the project has none and none is named."""
    if named := environ.get(SIGNERS):
        if not Path(named).is_file():
            raise UsageError(f"{SIGNERS}={named}: there is no such file, name the list of who may sign or unset it")
        return Path(named)
    path = project / "policy" / "allowed_signers"
    return path if path.exists() else None


def identity(project: Path, named: str | None) -> str:
    """Who acts, as the list of signers knows them: the named person, else git's `user.email`."""
    who = named or git_setting(project, "user.email")
    if who is None:
        raise UsageError("nobody is known who signs: name yourself with --as, or set `git config user.email`")
    return who


def own_key(project: Path, named: Path | None) -> Path:
    """The key to sign with: the named one, else git's `user.signingkey`."""
    found = named or git_setting(project, "user.signingkey")
    if found is None:
        raise UsageError("no key to sign with: name your SSH key with --key, or set `git config user.signingkey`")
    key = Path(found).expanduser()
    if not key.is_file():
        raise UsageError(f"{key}: there is no such key, name your SSH key with --key")
    return key


def git_setting(project: Path, setting: str) -> str | None:
    """A setting of git's, None where it is not set."""
    try:
        command = ["git", "config", setting]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def sign(message: bytes, key: Path, namespace: str) -> str:
    """The armoured signature of a message; Failed when the key cannot sign."""
    done = _ssh_keygen(["-Y", "sign", "-f", str(key), "-n", namespace], message)
    if done.returncode != 0:
        raise Failed(f"cannot sign with {key}: {_last_line(done.stderr)}")
    return done.stdout.decode("ascii")


def fingerprint(message: bytes, signature: str, namespace: str) -> str | None:
    """Which key made the signature over exactly this message for this purpose, None when it does not fit."""
    fits, printed = _verified(message, signature, ("check-novalidate", "-n", namespace))
    if not fits:
        return None
    found = _FINGERPRINT.search(printed)
    return found.group() if found else "an unnamed key"


def vouched(
    message: bytes, signature: str, namespace: str, *, identity: str, signers: Path, at: datetime | None = None
) -> bool:
    """Whether the list gives this identity the key that signed, for this purpose, valid at that instant (now)."""
    time = f"verify-time={(at or datetime.now(UTC)).astimezone(UTC):%Y%m%d%H%M%S}"
    listed = signers.read_text(encoding="utf-8", errors="surrogateescape") if signers.is_file() else ""
    return _verified(message, signature, ("verify", "-I", identity, "-n", namespace, "-O", time), listed)[0]


def objection(
    message: bytes, signature: str, namespace: str, *, identity: str, signers: Path | None, at: datetime | None = None
) -> str | None:
    """What is wrong with a signature that must be that person's, None when it is."""
    if signers is not None and vouched(message, signature, namespace, identity=identity, signers=signers, at=at):
        return None
    made_by = fingerprint(message, signature, namespace)
    if made_by is None:
        return "its signature does not fit: it was edited after signing, or signed for another purpose"
    if signers is None:
        return "there is no list of allowed signers to hold its signature against: add policy/allowed_signers"
    return f"it is signed by {made_by}, which {signers.name} does not list for {identity}"


@lru_cache(maxsize=1024)
def _verified(message: bytes, signature: str, arguments: tuple[str, ...], listed: str = "") -> tuple[bool, str]:
    """Whether `ssh-keygen -Y` agrees, and what it prints: the same for the same texts and time, so it runs once."""
    with _file(signature) as path, _file(listed) as signers:
        named = ["-f", signers] if listed else []
        done = _ssh_keygen(["-Y", *arguments, "-s", path, *named], message)
    return done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")


@contextmanager
def _file(text: str) -> Iterator[str]:
    with NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape", prefix="patchwave-") as file:
        file.write(text)
        file.flush()
        yield file.name


def _ssh_keygen(arguments: list[str], message: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=message,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise UsageError("ssh-keygen is not on PATH: install the openssh client") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"ssh-keygen gave no answer in {PATIENCE} s: does the key want a passphrase or a touch?") from None


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "ssh-keygen gave no reason"
