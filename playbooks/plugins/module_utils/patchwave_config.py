"""Configuration trees: an archive that keeps every attribute, and a restore that loses no other edit."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ansible.module_utils.patchwave_host import StepError, run, write_durably

Manifest = Mapping[str, str]


def paths(names: Iterable[str]) -> list[str]:
    """The absolute paths of these that exist; one that climbs or is not absolute is a StepError."""
    found = []
    for name in names:
        path = Path(name)
        if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3 or "\n" in name:
            raise StepError(f"configuration path {name!r} is not one below a top folder: fix the settings")
        if os.path.lexists(name):
            found.append(os.path.normpath(name))
    return found


def manifest(roots: Iterable[str]) -> dict[str, str]:
    """Each file, folder and link below the roots: kind, mode, owner, content and attributes on one line."""
    found: dict[str, str] = {}
    for root in roots:
        pending = [Path(root)]
        while pending:
            path = pending.pop()
            try:
                found[str(path)] = _entry(path)
                if stat.S_ISDIR(path.lstat().st_mode):
                    pending.extend(path.iterdir())
            except FileNotFoundError:
                continue
    return dict(sorted(found.items()))


def _entry(path: Path) -> str:
    status = path.lstat()
    content = attributes = ""
    if stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    else:
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        attributes = ",".join(f"{name}={os.getxattr(path, name).hex()}" for name in sorted(os.listxattr(path)))
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    return f"{kind:o} {mode:o} {status.st_uid}:{status.st_gid} {content} {attributes}".rstrip()


def archive(roots: Sequence[str], target: Path, timeout: float) -> None:
    """Packs the roots with every attribute; the archive appears whole or not at all."""
    partial = target.with_suffix(".partial")
    members = [root.lstrip("/") for root in roots]
    argv = [
        "tar",
        "--create",
        "--acls",
        "--xattrs",
        "--numeric-owner",
        "--file",
        str(partial),
        "--directory",
        "/",
        "--",
        *members,
    ]
    run(argv, timeout=timeout).checked("the configuration cannot be archived")
    listed = (
        run(["tar", "--list", "--file", str(partial)], timeout=timeout).checked("the archive cannot be read back").out
    )
    if not listed.strip():
        raise StepError("the archive of the configuration is empty: nothing was archived")
    partial.rename(target)


def changes(
    archived: Manifest, start: Manifest, after: Manifest, now: Manifest
) -> tuple[list[str], list[str], list[str]]:
    """What the run has changed between start and after: what to restore, to remove, and to leave.

    Left is what somebody has edited since, or had edited after it was archived and before the run changed it.
    """
    restore, remove, left = [], [], []
    for path in sorted(set(start) | set(after)):
        if start.get(path) == after.get(path) or now.get(path) == start.get(path):
            continue
        if now.get(path) != after.get(path) or archived.get(path) != start.get(path):
            left.append(path)
        elif path in start:
            restore.append(path)
        else:
            remove.append(path)
    return restore, remove, left


def restore(archived: Path, files: Sequence[str], scratch: Path, timeout: float) -> None:
    """Puts exactly these paths back with all their attributes."""
    if not files:
        return
    names = scratch / "restore.list"
    write_durably(names, "\0".join(path.lstrip("/") for path in files) + "\0")
    argv = [
        "tar",
        "--extract",
        "--acls",
        "--xattrs",
        "--numeric-owner",
        "--same-owner",
        "--same-permissions",
        "--no-recursion",
    ]
    argv += ["--file", str(archived), "--directory", "/", "--null", "--verbatim-files-from", "--files-from", str(names)]
    run(argv, timeout=timeout).checked("the configuration cannot be restored")


def remove(files: Iterable[str]) -> list[str]:
    """Removes what the run had added, deepest first; a folder that is not empty stays."""
    gone = []
    for path in sorted(map(Path, files), reverse=True):
        try:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        except OSError:
            continue
        gone.append(str(path))
    return gone
