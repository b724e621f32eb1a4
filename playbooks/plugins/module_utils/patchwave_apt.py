"""apt and dpkg without surprises: locks waited for, breaks fixed, a transaction changes exactly what was planned."""

from __future__ import annotations

import contextlib
import gzip
import re
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.patchwave_host import StepError, last_line, run
from ansible.module_utils.patchwave_packages import (
    lock_holder,
    running_scripts,
    tail,
    untouched,
    wait_until_ended,
    wait_until_free,
)
from ansible.module_utils.patchwave_versions import (
    DEB,
    Action,
    Installed,
    Item,
    Plan,
    compare,
    judge,
    make_plan,
    parse_changelog,
    parse_simulation,
    release_items,
)

SPELLING = DEB
INFO = Path("/var/lib/dpkg/info")
FLAG = Path("/run/reboot-required")
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
        key = DEB.key(name, arch, native)
        found[key] = Installed(name, arch, version, want == "hold", status, source, source_version)
    return found


def plan_for(release: Mapping[str, Any]) -> tuple[Plan, dict[str, Installed], str]:
    """What the release means here and now, with what is installed and the architecture."""
    native = native_architecture()
    installed = installed_packages(native)
    return make_plan(release_items(release), installed, native), installed, native


def lock_free(locks: Sequence[str] = LOCKS) -> tuple[str, int, str] | None:
    """Who holds apt or dpkg, as (path, pid, command line), or None."""
    return next(((path, *holder) for path in locks if (holder := lock_holder(path))), None)


def wait_for_locks(timeout: float, locks: Sequence[str] = LOCKS) -> float:
    """Returns the seconds until the package manager was free; past the timeout a StepError names the holder."""
    return wait_until_free(lambda: lock_free(locks), timeout)


def maintainer_scripts() -> dict[int, str]:
    """Maintainer scripts that are running now, also those whose dpkg has died."""
    return running_scripts(MAINTAINER_SCRIPT)


def wait_for_orphans(timeout: float) -> list[str]:
    """Returns when no maintainer script runs any more, with the ones waited for."""
    return wait_until_ended(maintainer_scripts, timeout)


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


def repairable() -> bool:
    """Whether dpkg can finish what was left undone, by its own audit."""
    return run(["dpkg", "--configure", "-a", "--no-act"], timeout=60).code == 0


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


def foresee(files: Sequence[Path], expected: Mapping[str, str], *, remove: Sequence[str] = (), broken: bool) -> str:
    """Why apt would not bring these files as exactly one transaction, or an empty string."""
    try:
        actions = simulate(_arguments(files, remove), native_architecture(), options=_options(broken))
    except StepError as error:
        return str(error)
    complaints = judge(actions, expected, {}, remove=remove)
    return f"the transaction {'; '.join(complaints[:3])}: nothing was changed" if complaints else ""


def apply(
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


def transaction(folder: Path) -> int | None:
    """apt numbers no transactions."""
    return None


def unfinished(folder: Path) -> bool:
    """dpkg itself knows of each package whether its scripts have ended."""
    return False


def undo(
    files: Sequence[Path],
    changed: Mapping[str, str],
    remove: Sequence[str],
    number: int | None,
    *,
    timeout: float,
    log: Path,
    keep: Sequence[int],
) -> None:
    """Takes a run's transaction back: its old files are installed over the new ones, what it had added goes."""
    problem = foresee(files, changed, remove=remove, broken=True)
    apply(files, remove=remove, problem=problem, broken=True, timeout=timeout, log=log, keep=keep)


def _arguments(files: Sequence[Path], remove: Sequence[str]) -> list[str]:
    return [*map(str, files), *(f"{key}-" for key in remove)]


def _options(broken: bool) -> list[str]:
    return ["--allow-downgrades"] if broken else ["--no-remove"]


CHANGELOG = re.compile(r"\./usr/share/doc/([^/]+)/changelog(\.Debian)?(\.[a-z0-9]+)?\.gz")
_DPKG_ERROR = re.compile(r"dpkg: error processing (?:package|archive) (\S+) .*?:\s*(.+)")


def complaint(*texts: str) -> str:
    """What dpkg or apt holds against a transaction, in one line."""
    for text in texts:
        if found := _DPKG_ERROR.search(text):
            return f"{Path(found[1]).name}: {found[2].strip()}"[:300]
    return next(filter(None, map(last_line, texts)), "")


def automatic() -> set[str]:
    """The packages that apt considers installed as dependencies."""
    return set(run(["apt-mark", "showauto"], timeout=60).checked("apt-mark").out.split())


def mark_automatic(names: Iterable[str]) -> None:
    """Gives packages their automatic mark back: naming them in a transaction makes them manual."""
    if marked := sorted(names):
        run(["apt-mark", "auto", "--", *marked], timeout=60).checked("apt-mark")


def deb_fields(path: Path) -> tuple[str, str, str]:
    """A package file's own name, version and architecture."""
    done = run(
        ["dpkg-deb", "--showformat", r"${Package}\t${Version}\t${Architecture}", "--show", str(path)], timeout=30
    )
    name, version, arch = [*done.checked(f"{path.name} is not a package").out.strip().split("\t"), "", ""][:3]
    return name, version, arch


def verified(path: Path, name: str, version: str, arch: str, sha256: str) -> None:
    """Refuses a package file that was not promised or that is another package by its own control data."""
    untouched(path, sha256)
    if (fields := deb_fields(path)) != (name, version, arch):
        raise StepError(f"{path.name} contains {' '.join(fields)} and not {name} {version} {arch}: refuse it")


def file_name(name: str, version: str, arch: str) -> str:
    """As apt names a package file."""
    return f"{name}_{version.replace(':', '%3a')}_{arch}.deb"


def download(wanted: Sequence[tuple[str, str, str]], folder: Path, *, timeout: float) -> str:
    """Fetches package files, checked by apt against its signed lists; why that failed, or an empty string."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    wait_for_locks(timeout, (LISTS_LOCK,))
    exact = [f"{name}={version}" if arch == "all" else f"{name}:{arch}={version}" for name, version, arch in wanted]
    done = run([*APT, "-o", "Acquire::Retries=3", "download", "--", *exact], timeout=timeout, cwd=folder)
    return last_line(done.err) or f"exit {done.code}" if done.code else ""


def cached(name: str, version: str, arch: str, root: Path) -> Path | None:
    """A package file that apt or an earlier run has kept."""
    file = file_name(name, version, arch)
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
            "method": "apt",
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


def waiting_kernel(running: str) -> str:
    """The newest installed kernel of the running one's flavour, when it is newer."""
    flavour = running.rpartition("-")[2]
    waiting = [path.name[len("vmlinuz-") :] for path in Path("/boot").glob("vmlinuz-*") if path.name.endswith(flavour)]
    return next((release for release in waiting if compare(release, running) > 0), "")


def reboot_notices() -> list[str]:
    """The distribution's own flag that a reboot is needed."""
    if not FLAG.exists():
        return []
    with contextlib.suppress(OSError):
        return [f"{FLAG} names {', '.join(sorted(set(Path(f'{FLAG}.pkgs').read_text().split())))}"]
    return [f"{FLAG} is there"]


def placed_at(name: str) -> float:
    """When a package's files were put in place, as Unix time; 0 when it is not installed."""
    listings = [*INFO.glob(f"{name}.list"), *INFO.glob(f"{name}:*.list")]
    return max((one.stat().st_mtime for one in listings), default=0.0)


def files_of(key: str) -> list[str]:
    """The paths of a package's files."""
    listings = [INFO / f"{key}.list", *INFO.glob(f"{key}:*.list")]
    return [line for one in listings if one.is_file() for line in one.read_text(errors="replace").splitlines()]


def owners(paths: Sequence[str]) -> list[str]:
    """The names of the packages that own these paths."""
    found = [run(["dpkg-query", "-S", "--", path], timeout=30) for path in paths]
    return [key.split(":")[0] for done in found if done.code == 0 for key in done.out.partition(": ")[0].split(", ")]


def dependencies(names: Sequence[str]) -> list[str]:
    """The names of the packages that these depend on."""
    if not names:
        return []
    done = run(["dpkg-query", "-W", "-f", "${Depends}, ${Pre-Depends}\n", "--", *names], timeout=30)
    return [name.split(":")[0] for name in re.split(r"[,|\s]+|\([^)]*\)", done.out) if name]


def hold(packages: Sequence[Installed]) -> None:
    """Puts packages on hold."""
    run(["apt-mark", "hold", "--", *_keys(packages)], timeout=60).checked("apt-mark hold")


def unhold(packages: Sequence[Installed]) -> None:
    """Lifts the hold of packages."""
    run(["apt-mark", "unhold", "--", *_keys(packages)], timeout=60).checked("apt-mark unhold")


def _keys(packages: Sequence[Installed]) -> list[str]:
    native = native_architecture()
    return sorted(DEB.key(one.name, one.arch, native) for one in packages)


def unattended() -> str:
    """What would patch this host outside of a wave, or an empty string."""
    done = run(["systemctl", "is-enabled", "unattended-upgrades.service"], timeout=30)
    config = run(["apt-config", "shell", "value", "APT::Periodic::Unattended-Upgrade"], timeout=30).out
    armed = done.out.strip() == "enabled" and "'1'" in config
    return "unattended-upgrades would patch outside of a wave" if armed else ""


def repositories() -> list[str]:
    """The signed lists by origin and codename."""
    done = run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME)", "Created-By: Packages"], timeout=60)
    return sorted(set(done.checked("apt-get indextargets").out.splitlines()))


def load_apt_pkg() -> Any:
    """The system's apt bindings."""
    try:
        import apt_pkg  # only the host's own Python has it
    except ImportError:
        raise StepError("python3-apt is not installed: apt-get install python3-apt") from None
    apt_pkg.init()
    return apt_pkg


def _changelog_of(deb: Path) -> tuple[str, str]:
    """The Debian changelog inside a package, or the name of the package whose documentation it shares."""
    best, shared = "", ""
    with tempfile.TemporaryFile() as unpacked:
        argv = ["dpkg-deb", "--fsys-tarfile", str(deb)]
        run(argv, timeout=120, stdout=unpacked).checked(f"{deb.name} cannot be read")
        unpacked.seek(0)
        with tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for member in archive:
                if member.issym() and Path(member.name).parent == Path("usr/share/doc"):
                    shared = Path(member.linkname).name
                found = CHANGELOG.fullmatch(member.name)
                if found and member.isfile() and (file := archive.extractfile(member)):
                    text = gzip.decompress(file.read()).decode(errors="replace")
                    # A package of Debian's own has changelog.gz; elsewhere that name is the upstream's log.
                    named = found[2] and not (best and found[3])
                    if named or (not best and re.match(r"\S+ \(\S+\) [^;]+;", text)):
                        best = text
    return best, shared


def _source_of(deb: Path, version: str) -> tuple[str, str]:
    """The source's name and version of a package file."""
    field = run(["dpkg-deb", "--field", str(deb), "Source"], timeout=30).checked(deb.name).out.strip()
    name, _, own = field.partition(" ")
    return name or deb.name.split("_")[0], own.strip("()") or version


def _fetch(wanted: Sequence[tuple[str, str, str]], folder: Path, timeout: float) -> None:
    if problem := download(wanted, folder, timeout=timeout):
        raise StepError(f"packages for the changelogs cannot be had: {problem}: refresh the lists and scan again")


def changelogs(wanted: Mapping[str, tuple[str, str, str]], folder: Path, timeout: float) -> dict[str, dict[str, Any]]:
    """By name, for each (architecture, from, to): the source and its entries, newest first."""
    installed = installed_packages(native_architecture())
    _fetch([(name, to, arch) for name, (arch, _, to) in wanted.items()], folder, timeout)
    debs = {path.name.split("_")[0]: path for path in folder.glob("*.deb")}
    if missing := sorted(set(wanted) - set(debs)):
        raise StepError(f"apt brought no file for {', '.join(missing[:5])}: refresh the lists and scan again")
    sources = {name: _source_of(debs[name], to) for name, (_, _, to) in wanted.items()}
    read = {name: _changelog_of(debs[name]) for name in wanted}
    absent = {
        shared: (shared, wanted[name][2], "all")
        for name, (text, shared) in read.items()
        if not text and shared and shared not in read
    }
    if absent:
        _fetch(list(absent.values()), folder, timeout)
        read |= {
            path.name.split("_")[0]: _changelog_of(path)
            for path in folder.glob("*.deb")
            if path.name.split("_")[0] in absent
        }
    texts: dict[str, str] = {}  # by source: binary packages of one source carry the same changelog
    for name, (text, shared) in read.items():
        source = sources[name][0] if name in sources else ""
        texts.setdefault(source, text or read.get(shared, ("", ""))[0])
        texts[source] = texts[source] or text or read.get(shared, ("", ""))[0]
    found = {}
    for name, (_, old, to) in wanted.items():
        source, version = sources[name]
        have = installed.get(name)
        # Binary and source versions differ in binary-only rebuilds and in a few packages.
        since = have.source_version if have and have.version == old else old
        if not texts[source]:
            raise StepError(
                f"{name} {to} carries no changelog: its advisories cannot be read, leave it out or name them by hand"
            )
        found[name] = {"source": source, "entries": parse_changelog(texts[source], since, version)[1]}
    return found
