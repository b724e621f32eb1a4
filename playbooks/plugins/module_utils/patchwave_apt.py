"""apt and dpkg without surprises: locks waited for, breaks fixed, a transaction changes exactly what it says."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.patchwave_host import Done, StepError, alive, command_line, last_line, processes, run
from ansible.module_utils.patchwave_versions import (
    Action,
    Installed,
    Item,
    Plan,
    compare,
    judge,
    make_plan,
    parse_simulation,
    release_items,
)

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/cache/apt/archives/lock")
LISTS_LOCK = "/var/lib/apt/lists/lock"
MAINTAINER_SCRIPT = re.compile(r"/var/lib/dpkg/(?:info|tmp\.ci)/\S*(?:preinst|postinst|prerm|postrm|config)\b")
KEEP_CONFIGURATION = ("--force-confdef", "--force-confold")
APT = (
    "apt-get", "-q", "-y",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
    "-o", "Dpkg::Use-Pty=0",
    "-o", "DPkg::Lock::Timeout=60",
    "-o", "APT::Get::AutomaticRemove=false",
    "-o", "APT::Install-Recommends=false",
    "-o", "APT::Sandbox::User=root",
)  # fmt: skip
# Debian's own list of what notifies /run/reboot-required, which exists only where a notifier is installed.
REBOOT_PACKAGES = (
    "linux-image-*",
    "libc6",
    "libc6-*",
    "systemd",
    "systemd-sysv",
    "libsystemd0",
    "dbus",
    "dbus-*",
    "intel-microcode",
    "amd64-microcode",
)
_FIELDS = (
    "Package",
    "Architecture",
    "Version",
    "db:Status-Want",
    "db:Status-Status",
    "source:Package",
    "source:Version",
)
_FORMAT = "\\t".join(f"${{{field}}}" for field in _FIELDS) + "\\n"


def native_architecture() -> str:
    """The host's own architecture."""
    return run(["dpkg", "--print-architecture"], timeout=10).checked("dpkg").out.strip()


def installed_packages(native: str) -> dict[str, Installed]:
    """Every package that has files on the host, by key."""
    found = {}
    listing = run(["dpkg-query", "-W", "-f", _FORMAT], timeout=60).checked("dpkg-query")
    for line in listing.out.splitlines():
        name, arch, version, want, status, source, source_version = line.split("\t")
        if status in ("not-installed", "config-files"):
            continue
        key = name if arch in (native, "all") else f"{name}:{arch}"
        found[key] = Installed(name, arch, version, want == "hold", status, source, source_version)
    return found


def plan_for(release: Mapping[str, Any]) -> tuple[Plan, dict[str, Installed], str]:
    """What the release means here and now, with what is installed and the architecture."""
    native = native_architecture()
    installed = installed_packages(native)
    return make_plan(release_items(release), installed, native), installed, native


def lock_holder(path: str) -> tuple[int, str] | None:
    """Who holds a dpkg-style lock, as (pid, command line), or None when it is free."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else (pid, command_line(pid) or "a process that cannot be seen")


def wait_for_locks(timeout: float, locks: Sequence[str] = LOCKS) -> float:
    """Returns the seconds until nobody held the package manager; past the timeout a StepError names the holder."""
    started = time.monotonic()
    while True:
        held = [(path, holder) for path in locks if (holder := lock_holder(path))]
        if not held:
            return time.monotonic() - started
        if time.monotonic() - started >= timeout:
            path, (pid, who) = held[0]
            raise StepError(
                f"{path} is held by pid {pid} ({who[:120]}) after {timeout:g} s: let it finish or end it",
                lock={"path": path, "pid": pid, "command": who},
            )
        time.sleep(0.5)


def maintainer_scripts() -> dict[int, str]:
    """Maintainer scripts that are running now, also those whose dpkg has died."""
    return {pid: line for pid in processes() if alive(pid) and MAINTAINER_SCRIPT.search(line := command_line(pid))}


def wait_for_orphans(timeout: float) -> list[str]:
    """Returns when no maintainer script runs any more, with the ones waited for; repairing beside one would race it."""
    until = time.monotonic() + timeout
    seen: dict[int, str] = {}
    while running := maintainer_scripts():
        seen.update(running)
        if time.monotonic() >= until:
            pid, line = next(iter(running.items()))
            raise StepError(
                f"maintainer script still runs after {timeout:g} s: pid {pid} ({line[:120]}): end it, then run again"
            )
        time.sleep(0.5)
    return sorted(seen.values())


def interrupted() -> str:
    """Why dpkg is not at rest, in one line, or an empty string when it is."""
    journal = Path("/var/lib/dpkg/updates")
    if journal.is_dir() and any(entry.name.isdigit() for entry in journal.iterdir()):
        return "dpkg was killed in mid-write: its journal in /var/lib/dpkg/updates is not empty"
    audit = run(["dpkg", "--audit"], timeout=60)
    if audit.out.strip():
        names = [line.split()[0] for line in audit.out.splitlines() if line.startswith(" ") and line.split()]
        return f"dpkg --audit names {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return ""


def repair(timeout: float, *, tolerant: bool = False) -> str:
    """Finishes what an earlier dpkg left undone, after its orphans have ended; returns what was found.

    A tolerant caller goes on with a host that stays broken, because it has the packages that fix it.
    """
    wait_for_orphans(timeout)
    problem = interrupted()
    if problem:
        run(["dpkg", "--configure", "-a", *KEEP_CONFIGURATION], timeout=timeout)
        if (left := interrupted()) and not tolerant:
            raise StepError(f"dpkg --configure -a does not fix the host: {left}: fix it by hand or from its snapshot")
    return problem


def refresh(timeout: float, tries: int = 3) -> None:
    """Brings the package lists up to date, all of them; a mirror in mid-sync gets a second and a third chance."""
    wait_for_locks(timeout, (LISTS_LOCK,))
    for left in reversed(range(tries)):
        done = run(
            [
                *APT,
                "-o",
                "APT::Update::Error-Mode=any",
                "-o",
                "Acquire::Retries=1",
                "-o",
                "Acquire::http::Timeout=15",
                "update",
            ],
            timeout=timeout,
        )
        if done.code == 0:
            return
        if left:
            time.sleep(2.0 * (tries - left))
    raise StepError(f"apt-get update: {last_line(done.err) or last_line(done.out)}: check the mirror and the network")


def simulate(arguments: Sequence[str], native: str, *, options: Sequence[str] = ()) -> list[Action]:
    """What apt-get install would do with these arguments; a transaction that apt cannot work out is a StepError."""
    done = run([*APT, "-s", *options, "install", "--", *arguments], timeout=120, environment={"LC_ALL": "C"})
    if done.code:
        reason = "; ".join(line.strip() for line in done.out.splitlines() if " : " in line)[:300]
        raise StepError(f"apt finds no way to the release's versions: {reason or last_line(done.err)}")
    return parse_simulation(done.out, native)


def exact_arguments(plan: Plan) -> list[str]:
    """`name:arch=version` for each upgrade."""
    return [
        f"{item.name}:{item.arch}={item.to}" if item.arch != "all" else f"{item.name}={item.to}"
        for _, item in plan.upgrades.values()
    ]


def simulate_plan(plan: Plan, native: str) -> tuple[list[str], dict[str, Item]]:
    """The complaints about the plan's transaction, and the new dependencies that it brings along."""
    if not plan.upgrades:
        return [], {}
    actions = simulate(exact_arguments(plan), native)
    allowed = {key: item.to for key, item in plan.candidates.items()}
    brought = {action.key for action in actions if action.what == "Inst"} & set(allowed)
    return judge(actions, plan.expected, allowed), {key: plan.candidates[key] for key in sorted(brought)}


def differs(have: Installed | None, version: str) -> bool:
    """Whether a package is not wholly installed at a version."""
    return have is None or have.version != version or have.status != "installed"


def foresee(files: Sequence[Path], expected: Mapping[str, str], *, remove: Sequence[str] = (), broken: bool) -> str:
    """Why apt would not bring these files as exactly one transaction, or an empty string."""
    try:
        actions = simulate(_arguments(files, remove), native_architecture(), options=_options(broken))
    except StepError as error:
        return str(error)
    complaints = judge(actions, expected, {}, remove=remove)
    return f"the transaction {'; '.join(complaints[:3])}: nothing was changed" if complaints else ""


def settle(
    files: Sequence[Path],
    *,
    remove: Sequence[str] = (),
    problem: str,
    broken: bool,
    timeout: float,
    log: Path,
    keep: Sequence[int],
) -> None:
    """Brings exactly these files in one transaction, its output in the log, and refuses one with a foreseen problem.

    On a broken host, where apt finds no way, dpkg itself unpacks exactly these files. A command that is killed with its
    step keeps the host's lock until it ends.
    """
    # A file whose version is in the lists as well is looked for by apt in its archive and nowhere else.
    archive = files[0].parent if files else log.parent
    (archive / "partial").mkdir(mode=0o700, exist_ok=True)
    local = ["--no-download", "-o", f"Dir::Cache::archives={archive}/", "-o", "APT::Keep-Downloaded-Packages=1"]
    with log.open("ab") as file:
        if not problem:
            argv = [*APT, *local, *_options(broken), "install", "--", *_arguments(files, remove)]
            done = run(argv, timeout=timeout, stdout=file, keep=keep)
            file.write(done.err.encode())
            file.flush()
            if done.code == 0:
                return
            problem = complaint(done.err, tail(log)) or f"apt-get ended with {done.code}"
        if not broken:
            raise StepError(problem, log=tail(log))
        file.write(f"apt finds no way: {problem}\n".encode())
        file.flush()
        force = [*KEEP_CONFIGURATION, "--force-downgrade"]
        for command in (["--install", "--", *map(str, files)], ["--remove", "--", *remove], ["--configure", "-a"]):
            if command[-1] != "--":
                done = run(["dpkg", *force, *command], timeout=timeout, stdout=file, keep=keep)
                file.write(done.err.encode())
                file.flush()


def _arguments(files: Sequence[Path], remove: Sequence[str]) -> list[str]:
    return [*map(str, files), *(f"{key}-" for key in remove)]


def _options(broken: bool) -> list[str]:
    return ["--allow-downgrades"] if broken else ["--no-remove"]


_DPKG_ERROR = re.compile(r"dpkg: error processing (?:package|archive) (\S+) .*?:\s*(.+)")


def complaint(*texts: str) -> str:
    """What dpkg or apt holds against a transaction, in one line."""
    for text in texts:
        if found := _DPKG_ERROR.search(text):
            return f"{Path(found[1]).name}: {found[2].strip()}"[:300]
    return next(filter(None, map(last_line, texts)), "")


def tail(log: Path) -> str:
    """The log's end."""
    return log.read_text(errors="replace")[-3000:] if log.is_file() else ""


def automatic() -> set[str]:
    """The packages that apt considers installed as dependencies."""
    return set(run(["apt-mark", "showauto"], timeout=60).checked("apt-mark").out.split())


def mark_automatic(names: Iterable[str]) -> None:
    """Gives packages their automatic mark back: naming them in a transaction makes them manual."""
    if marked := sorted(names):
        run(["apt-mark", "auto", "--", *marked], timeout=60).checked("apt-mark")


def sha256_of(path: Path) -> str:
    """A file's digest."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def deb_fields(path: Path) -> tuple[str, str, str]:
    """A package file's own name, version and architecture."""
    done = run(
        ["dpkg-deb", "--showformat", r"${Package}\t${Version}\t${Architecture}", "--show", str(path)], timeout=30
    )
    name, version, arch = [*done.checked(f"{path.name} is not a package").out.strip().split("\t"), "", ""][:3]
    return name, version, arch


def untouched(path: Path, sha256: str) -> None:
    """Refuses a package file that is not, to the byte, the one that was promised."""
    if not path.is_file():
        raise StepError(f"{path} is not there: run protect.yml for this run first")
    if (have := sha256_of(path)) != sha256:
        raise StepError(f"{path.name}: sha256 is {have[:16]}… and not {sha256[:16]}…: it is not the sealed package")


def verified(path: Path, name: str, version: str, arch: str, sha256: str) -> None:
    """Refuses a package file that was not promised or that says of itself that it is another package."""
    untouched(path, sha256)
    if (fields := deb_fields(path)) != (name, version, arch):
        raise StepError(f"{path.name} contains {' '.join(fields)} and not {name} {version} {arch}: refuse it")


def download(wanted: Sequence[str], folder: Path, *, timeout: float) -> Done:
    """Fetches `name:arch=version` files into a folder, checked by apt against its signed lists."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    wait_for_locks(timeout, (LISTS_LOCK,))
    return run([*APT, "-o", "Acquire::Retries=3", "download", "--", *wanted], timeout=timeout, cwd=folder)


def cached(name: str, version: str, arch: str, root: Path) -> Path | None:
    """A package file that apt or an earlier run has kept."""
    file = f"{name}_{version.replace(':', '%3a')}_{arch}.deb"
    places = [Path("/var/cache/apt/archives"), *root.glob("*/new"), *root.glob("*/old")]
    return next((place / file for place in places if (place / file).is_file()), None)


def pending() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every installed package that has a newer candidate, and what these would bring along, with origins.

    A row is `trusted` when apt trusts the index that the candidate comes from.
    """
    apt_pkg = load_apt_pkg()
    cache = apt_pkg.Cache(None)
    depcache, records = apt_pkg.DepCache(cache), apt_pkg.PackageRecords(cache)
    sources = apt_pkg.SourceList()
    sources.read_main_list()
    upgrades: list[dict[str, Any]] = []
    brought: list[dict[str, Any]] = []
    with contextlib.suppress(SystemError, apt_pkg.Error):
        depcache.upgrade(True)
    for package in cache.packages:
        candidate, current = depcache.get_candidate_ver(package), package.current_ver
        if candidate is None or (current and compare(candidate.ver_str, current.ver_str) <= 0):
            continue
        if not current and not depcache.marked_install(package):
            continue
        origin = next((file for file, _ in candidate.file_list if file.site or file.archive not in ("now", "")), None)
        if origin is None or not records.lookup(candidate.file_list[0]):
            continue
        row = {
            "name": package.name,
            "arch": candidate.arch,
            "from": current.ver_str if current else "",
            "to": candidate.ver_str,
            "origin": origin.origin,
            "label": origin.label,
            "suite": origin.archive,
            "trusted": bool((index := sources.find_index(origin)) and index.is_trusted),
            "size": candidate.size,
            "sha256": str(records.hashes.find("sha256")).partition(":")[2],
            "source": records.source_pkg or package.name,
        }
        (upgrades if current else brought).append(row)
    for rows in (upgrades, brought):
        rows.sort(key=lambda row: (row["name"], row["arch"]))
    return upgrades, brought


def known_versions(
    wanted: Iterable[tuple[str, str, str]], cache: Any = None
) -> dict[tuple[str, str, str], tuple[str, int]]:
    """For each (name, version, architecture) that the signed lists know: its sha256 and size."""
    apt_pkg = load_apt_pkg()
    cache = cache or apt_pkg.Cache(None)
    records, found = apt_pkg.PackageRecords(cache), {}
    for name, version, arch in wanted:
        with contextlib.suppress(KeyError):
            package = cache[name] if arch == "all" else cache[name, arch]
            for candidate in package.version_list:
                if candidate.ver_str != version or candidate.arch != arch:
                    continue
                for entry in candidate.file_list:
                    if entry[0].archive == "now" or not records.lookup(entry):
                        continue
                    if digest := records.hashes.find("sha256"):
                        found[name, version, arch] = (str(digest).partition(":")[2], candidate.size)
    return found


def load_apt_pkg() -> Any:
    """The system's apt bindings."""
    try:
        import apt_pkg  # only the host's own Python has it
    except ImportError:
        raise StepError("python3-apt is not installed: apt-get install python3-apt") from None
    apt_pkg.init()
    return apt_pkg
