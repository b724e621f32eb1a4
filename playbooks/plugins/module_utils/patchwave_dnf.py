"""dnf 4 and rpm without surprises: a transaction brings exactly its files, and is taken back by its own number."""

from __future__ import annotations

import configparser
import contextlib
import fnmatch
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.patchwave_host import StepError, alive, command_line, last_line, run, write_durably
from ansible.module_utils.patchwave_packages import (
    lock_holder,
    running_scripts,
    tail,
    untouched,
    wait_until_ended,
    wait_until_free,
)
from ansible.module_utils.patchwave_versions import (
    CVE,
    Action,
    Installed,
    Item,
    Plan,
    Spelling,
    judge,
    make_plan,
    release_items,
)

# rpm's manual: names, and version-release with an optional epoch; ASCII only.
RPM = Spelling(
    "dnf",
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", re.ASCII),
    re.compile(r"(?:[0-9]+:)?[A-Za-z0-9][A-Za-z0-9._+~^]*-[A-Za-z0-9][A-Za-z0-9._+~^]*", re.ASCII),
    re.compile(r"[a-z0-9_]+", re.ASCII),
    "noarch",
)
SPELLING = RPM
# What dnf installs beside the older version instead of in its place (dnf.conf(5), installonlypkgs).
BESIDE = frozenset(
    {
        "kernel",
        "kernel-PAE",
        "installonlypkg(kernel)",
        "installonlypkg(kernel-module)",
        "installonlypkg(vm)",
        "multiversion(kernel)",
    }
)
# What needs-restarting itself takes for a reason to reboot.
REBOOT_PACKAGES = (
    "kernel",
    "kernel-core",
    "kernel-rt",
    "glibc",
    "linux-firmware",
    "systemd",
    "dbus",
    "dbus-broker",
    "dbus-daemon",
    "microcode_ctl",
)
RPM_LOCK = "/var/lib/rpm/.rpm.lock"
PID_LOCKS = ("/var/lib/dnf/rpmdb_lock.pid", "/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid")
SCRIPTLET = re.compile(r"/rpm-tmp\.\w+")
CACHE = Path("/var/cache/dnf")
CONFIGURATION = Path("/etc/dnf/dnf.conf")
VERSIONLOCK = Path("/etc/dnf/plugins/versionlock.conf")
AUTOMATIC = Path("/etc/dnf/automatic.conf")
# The transaction sees the installed packages and its own files, and nothing else.
DNF = (
    "dnf", "-y", "--disablerepo=*", "--disableexcludes=all", "--setopt=best=True", "--setopt=install_weak_deps=False",
    "--setopt=clean_requirements_on_remove=False", "--setopt=localpkg_gpgcheck=False", "--setopt=installonly_limit=0",
    "--setopt=exit_on_lock=False",
)  # fmt: skip
# dnf loads this beside its own code: `history undo` finds the old versions among the run's files, in no repository.
KEPT_FILES = """import pathlib
import dnf

class KeptFiles(dnf.Plugin):
    name = "patchwave"

    def sack(self):
        self.base.add_remote_rpms(sorted(map(str, pathlib.Path(__file__).parents[1].glob("old/*.rpm"))))
"""


def native_architecture() -> str:
    """The host's base architecture."""
    import dnf.rpm
    import hawkey

    return str(dnf.rpm.basearch(hawkey.detect_arch()))


def compare(left: str, right: str) -> int:
    """Negative, zero or positive as rpm orders two versions."""
    return int(_rpm().labelCompare(_parts(left), _parts(right)))


def _parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.rpartition(":")
    upstream, _, release = rest.rpartition("-")
    return (epoch if colon else "0", upstream, release)


def _rpm() -> Any:
    """rpm's own bindings; the host's Python has them wherever it has dnf."""
    try:
        import rpm
    except ImportError:
        raise StepError("python3-rpm is not installed: dnf install python3-rpm") from None
    return rpm


def _evr(header: Any) -> str:
    epoch = f"{header['epoch']}:" if header["epoch"] else ""
    return f"{epoch}{header['version']}-{header['release']}"


def _headers() -> list[Any]:
    """Every installed package but the keys that rpm lists among them."""
    return [one for one in _rpm().TransactionSet().dbMatch() if one["name"] != "gpg-pubkey"]


def _beside(header: Any) -> bool:
    return not BESIDE.isdisjoint(header["providename"] or ())


def installed_packages(native: str) -> dict[str, Installed]:
    """Every installed package by key: of several versions the newest, `duplicated` where there may be only one."""
    found: dict[str, Installed] = {}
    held = _held()
    for header in _headers():
        name, arch, version = header["name"], header["arch"], _evr(header)
        key = RPM.key(name, arch, native)
        other = found.get(key)
        status = "installed" if other is None or _beside(header) else "duplicated"
        if other is None or compare(other.version, version) < 0:
            source = re.sub(r"(-[^-]+){2}\.src\.rpm$", "", header["sourcerpm"] or name)
            found[key] = Installed(name, arch, version, name in held, status, source, version)
        elif status == "duplicated":
            found[key] = Installed(**{**other.__dict__, "status": status})
    return found


def plan_for(release: Mapping[str, Any]) -> tuple[Plan, dict[str, Installed], str]:
    """What the release means here and now, with what is installed and the architecture."""
    native = native_architecture()
    installed = installed_packages(native)
    return make_plan(release_items(release, RPM), installed, native, compare), installed, native


def base(*, repositories: bool = True, excludes: bool = False) -> Any:
    """dnf's view of the host, from the lists that it has already unless there are none."""
    import dnf
    import dnf.rpm

    made = dnf.Base()
    made.conf.read()
    made.conf.substitutions.update_from_etc("/")
    made.conf.substitutions["releasever"] = dnf.rpm.detect_releasever("/") or ""
    made.conf.assumeyes = True
    if not excludes:
        made.conf.disable_excludes = ["all"]
    if repositories:
        made.read_all_repos()
        for one in made.repos.iter_enabled():
            one.metadata_expire = -1
            one.skip_if_unavailable = False
            one.timeout, one.retries = 30, 3
    try:
        made.fill_sack(load_system_repo=True, load_available_repos=repositories)
    except dnf.exceptions.Error as error:
        raise StepError(f"dnf cannot read its package lists: {last_line(str(error))}: dnf makecache") from None
    return made


def lock_free() -> tuple[str, int, str] | None:
    """Who holds dnf or rpm, as (path, pid, command line), or None."""
    if holder := lock_holder(RPM_LOCK):
        return (RPM_LOCK, *holder)
    for path in PID_LOCKS:
        with contextlib.suppress(OSError, ValueError):
            pid = int(Path(path).read_text())
            if alive(pid) and "dnf" in command_line(pid):
                return path, pid, command_line(pid)
    return None


def wait_for_locks(timeout: float) -> float:
    """Returns the seconds until the package manager was free; past the timeout a StepError names the holder."""
    return wait_until_free(lock_free, timeout)


def maintainer_scripts() -> dict[int, str]:
    """Scriptlets that are running now, also those whose rpm has died."""
    return running_scripts(SCRIPTLET)


def wait_for_orphans(timeout: float) -> list[str]:
    """Returns when no scriptlet runs any more, with the ones waited for."""
    return wait_until_ended(maintainer_scripts, timeout)


def _duplicates() -> list[Any]:
    """The older headers of packages that are installed twice, which an rpm that was killed leaves behind."""
    newest: dict[tuple[str, str], Any] = {}
    older = []
    for header in _headers():
        if _beside(header):
            continue
        known = newest.setdefault((header["name"], header["arch"]), header)
        if known is not header:
            first, second = sorted((known, header), key=_order)
            newest[header["name"], header["arch"]] = second
            older.append(first)
    return older


def _order(header: Any) -> Any:
    from functools import cmp_to_key

    return cmp_to_key(compare)(_evr(header))


def interrupted() -> str:
    """Why rpm is not at rest, in one line, or an empty string when it is."""
    names = sorted(header["name"] for header in _duplicates())
    return f"an rpm transaction was cut off: {', '.join(names[:8])} installed twice" if names else ""


def repairable() -> bool:
    """An older version that was left behind can always be removed."""
    return True


def repair(timeout: float, *, tolerant: bool = False) -> str:
    """Removes the older versions that a killed transaction left behind, after its scriptlets have ended.

    A tolerant caller brings the packages again, which does the same and runs their scriptlets as well.
    """
    wait_for_orphans(timeout)
    problem = interrupted()
    if problem and not tolerant:
        run(["rpm", "--erase", "--nodeps", "--", *map(_full, _duplicates())], timeout=timeout)
        if left := interrupted():
            raise StepError(f"rpm does not remove the older versions: {left}: fix it by hand or from its snapshot")
    return problem


def refresh(timeout: float, tries: int = 3) -> None:
    """Brings the package lists up to date, all of them; a mirror in mid-sync gets a second and a third chance."""
    wait_for_locks(timeout)
    for left in reversed(range(tries)):
        argv = ["dnf", "-y", "--refresh", "--setopt=*.skip_if_unavailable=False", "makecache"]
        done = run(argv, timeout=timeout)
        if done.code == 0:
            return
        if left:
            time.sleep(2.0 * (tries - left))
    raise StepError(f"dnf makecache: {last_line(done.err) or last_line(done.out)}: check the mirror and the network")


def _offered(dnf_base: Any, name: str, version: str, arch: str) -> Any:
    """The package of exactly this version in the package sources, or None."""
    epoch, upstream, release = _parts(version)
    query = dnf_base.sack.query().available()
    found = query.filter(name=name, arch=arch, epoch=int(epoch), version=upstream, release=release)
    return next(iter(found), None)


def _sha256(package: Any) -> str:
    """A package's digest in its repository's metadata; empty when that uses another kind."""
    import hawkey

    kind, digest = package.chksum or (0, b"")
    return digest.hex() if kind and hawkey.chksum_name(kind) == "sha256" else ""


def known_versions(wanted: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], tuple[str, int]]:
    """For each (name, version, architecture) that the repositories offer by sha256: its digest and size."""
    dnf_base, found = base(), {}
    for name, version, arch in wanted:
        package = _offered(dnf_base, name, version, arch)
        if package is not None and (digest := _sha256(package)):
            found[name, version, arch] = (digest, package.downloadsize)
    return found


def _resolved(dnf_base: Any, packages: Iterable[Any], remove: Sequence[str], native: str) -> list[Action]:
    """What dnf would do with exactly these packages; a transaction that it cannot work out is a StepError."""
    import dnf
    import dnf.transaction

    for package in packages:
        dnf_base.package_install(package)
    for name in remove:
        dnf_base.remove(name)
    dnf_base.conf.installonly_limit = 0
    dnf_base.conf.install_weak_deps = False
    try:
        dnf_base.resolve(allow_erasing=bool(remove))
    except dnf.exceptions.Error as error:
        raise StepError(f"dnf finds no way to the release's versions: {last_line(str(error))}") from None
    actions = []
    for item in dnf_base.transaction:
        key = RPM.key(item.name, item.arch, native)
        if item.action in dnf.transaction.FORWARD_ACTIONS:
            actions.append(Action("Inst", key, item.pkg.evr))
        elif item.action in (dnf.transaction.PKG_REMOVE, dnf.transaction.PKG_OBSOLETED):
            actions.append(Action("Remv", key, ""))
    return actions


def simulate_plan(plan: Plan, native: str) -> tuple[list[str], dict[str, Item]]:
    """The complaints about the plan's transaction, and the new dependencies that it brings along."""
    if not plan.upgrades:
        return [], {}
    dnf_base = base()
    packages = []
    for _, item in plan.upgrades.values():
        package = _offered(dnf_base, item.name, item.to, item.arch)
        if package is None:
            return [f"needs {item.name} {item.to}, which is not offered"], {}
        packages.append(package)
    actions = _resolved(dnf_base, packages, (), native)
    allowed = {key: item.to for key, item in plan.candidates.items()}
    brought = {action.key for action in actions if action.what == "Inst"} & set(allowed)
    return judge(actions, plan.expected, allowed), {key: plan.candidates[key] for key in sorted(brought)}


def foresee(files: Sequence[Path], expected: Mapping[str, str], *, broken: bool) -> str:
    """Why dnf would not bring these files as exactly one transaction, or an empty string."""
    if broken:
        return ""
    native = native_architecture()
    try:
        dnf_base = base(repositories=False)
        actions = _resolved(dnf_base, dnf_base.add_remote_rpms(list(map(str, files))), (), native)
    except StepError as error:
        return str(error)
    complaints = judge(actions, expected, {})
    return f"the transaction {'; '.join(complaints[:3])}: nothing was changed" if complaints else ""


def apply(files: Sequence[Path], *, problem: str, broken: bool, timeout: float, log: Path, keep: Sequence[int]) -> None:
    """Brings exactly these files in one transaction, its output in the log, and refuses one with a foreseen problem.

    After a transaction that was killed rpm itself brings them again, with all their scriptlets, because dnf takes what
    the database names for whole. A command that is killed with its step keeps the host's lock until it ends.
    """
    if problem:
        raise StepError(problem, log=tail(log))
    commands = _again(files) if broken else [[*DNF, "--noplugins", "install", *map(str, files)]]
    _carry_out(commands, timeout, log, keep)


def _again(files: Sequence[Path]) -> list[list[str]]:
    """rpm's commands that bring these files whatever is there: in place of others, or beside an older one."""
    groups: dict[bool, list[str]] = {False: [], True: []}
    for path in files:
        groups[_beside(_header_of(path))].append(str(path))
    return [
        ["rpm", how, "--oldpackage", "--replacepkgs", "--", *groups[beside]]
        for how, beside in (("--upgrade", False), ("--install", True))
        if groups[beside]
    ]


def _carry_out(commands: Sequence[Sequence[str]], timeout: float, log: Path, keep: Sequence[int]) -> None:
    with log.open("ab") as file:
        for command in commands:
            done = run(command, timeout=timeout, stdout=file, keep=keep)
            file.write(done.err.encode())
            file.flush()
            if done.code:
                raise StepError(last_line(done.err) or f"{command[0]} ended with {done.code}", log=tail(log))


def _history(folder: Path) -> list[Any]:
    """The entries of dnf's history that brought files of this folder, the newest first."""
    import dnf

    with contextlib.closing(dnf.Base()) as dnf_base:
        dnf_base.conf.read()
        return [one for one in dnf_base.history.old(limit=20) if f"{folder}/new/" in (one.cmdline or "")]


def transaction(folder: Path) -> int | None:
    """The number of the run's transaction in dnf's history, when it has ended well."""
    return next((int(one.tid) for one in _history(folder) if one.return_code == 0), None)


def unfinished(folder: Path) -> bool:
    """Whether the run's transaction was cut off: then rpm may call packages whole whose scriptlets were killed."""
    mine = _history(folder)
    return bool(mine) and all(one.return_code != 0 for one in mine)


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
    """Takes a run's transaction back: dnf undoes it by its number, with the run's own old files.

    A transaction that was killed has none that counts, and one after it may be in dnf's way: then rpm brings the old
    files and removes what had come beside or new.
    """
    native = native_architecture()
    if number is not None:
        plugins = log.parent / "plugins"
        plugins.mkdir(mode=0o700, exist_ok=True)
        write_durably(plugins / "patchwave.py", KEPT_FILES)
        try:
            _carry_out([[*DNF, f"--setopt=pluginpath={plugins}", "history", "undo", str(number)]], timeout, log, keep)
            return
        except StepError as error:
            with log.open("a") as file:
                file.write(f"dnf history undo {number}: {error}\n")
    headers = _headers()
    newer = [
        _full(one)
        for one in headers
        if (key := RPM.key(one["name"], one["arch"], native)) in remove
        or (key in changed and _beside(one) and compare(_evr(one), changed[key]) > 0)
    ]
    erase = [["rpm", "--erase", "--", *newer]] if newer else []
    beside = {_full(one) for one in headers if _beside(one)}
    gone = [path for path in files if _full(_header_of(path)) not in beside]
    _carry_out([*_again(gone), *erase], timeout, log, keep)


def _full(header: Any) -> str:
    """A package's name with version and architecture, as rpm takes it."""
    return f"{header['name']}-{_evr(header)}.{header['arch']}"


def _header_of(path: Path) -> Any:
    """The header of a package file."""
    rpm = _rpm()
    reader = rpm.TransactionSet()
    reader.setVSFlags(rpm._RPMVSF_NOSIGNATURES)
    with path.open("rb") as file:
        try:
            return reader.hdrFromFdno(file.fileno())
        except rpm.error as error:
            raise StepError(f"{path.name} is not a package: {error}") from None


def file_name(name: str, version: str, arch: str) -> str:
    """The name under which a package file is kept; rpm's own leaves the epoch out."""
    return f"{name}-{version.replace(':', '%3a')}.{arch}.rpm"


def verified(path: Path, name: str, version: str, arch: str, sha256: str) -> None:
    """Refuses a package file that was not promised or that is another package by its own header."""
    untouched(path, sha256)
    header = _header_of(path)
    if (fields := (header["name"], _evr(header), header["arch"])) != (name, version, arch):
        raise StepError(f"{path.name} contains {' '.join(fields)} and not {name} {version} {arch}: refuse it")


def cached(name: str, version: str, arch: str, root: Path) -> Path | None:
    """A package file that dnf or an earlier run has kept."""
    kept = file_name(name, version, arch)
    bare = file_name(name, version.rpartition(":")[2], arch)
    places = [root.glob(f"*/new/{kept}"), root.glob(f"*/old/{kept}"), CACHE.glob(f"*/packages/{bare}")]
    return next((path for place in places for path in place if path.is_file()), None)


def download(wanted: Sequence[tuple[str, str, str]], folder: Path, *, timeout: float) -> str:
    """Fetches package files of exact versions; why that failed, or an empty string."""
    import dnf

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    dnf_base = base()
    packages = {}
    for name, version, arch in wanted:
        if (package := _offered(dnf_base, name, version, arch)) is None:
            return f"{name} {version} is in no enabled repository"
        packages[file_name(name, version, arch)] = package
    partial = folder / "partial"
    dnf_base.repos.all().pkgdir = str(partial)
    try:
        dnf_base.download_packages(list(packages.values()))
    except dnf.exceptions.Error as error:
        return last_line(str(error))
    for kept, package in packages.items():
        fetched = Path(package.localPkg())
        if fetched.parent == partial:
            fetched.rename(folder / kept)
        else:  # a repository of files on the host itself
            shutil.copyfile(fetched, partial / kept)
            (partial / kept).rename(folder / kept)
    shutil.rmtree(partial, ignore_errors=True)
    return ""


def pending() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every installed package that has an update, and what the security updates among these need besides.

    A package that a security advisory names is offered the lowest version with all its fixes, any other the newest.
    A row is `trusted` when dnf checks its repository's or its package's signature.
    """
    import hawkey

    dnf_base, native = base(), native_architecture()
    security: dict[tuple[str, str], Any] = {}
    newest: dict[tuple[str, str], Any] = {}
    fixes: dict[tuple[str, str], list[Any]] = {}
    available = dnf_base.sack.query().available()
    for have in dnf_base.sack.query().installed().latest():
        place = (have.name, have.arch)
        higher = sorted(package for package in available.filter(name=have.name, arch=have.arch) if package > have)
        if not higher:
            continue
        newest[place] = (have, higher[-1])
        named = [(one, package) for package in higher for one in package.get_advisories(hawkey.EQ) if _secures(one)]
        if named:
            security[place] = (have, max(package for _, package in named))
            fixes[place] = list({one.id: one for one, _ in named}.values())
    upgrades = []
    for place, offer in newest.items():
        label = "security" if place in security else ""
        upgrades.append(_row(dnf_base, *security.get(place, offer), label, fixes.get(place, [])))
    return sorted(upgrades, key=_by_name), _brought(dnf_base, security, native)


def _secures(advisory: Any) -> bool:
    import hawkey

    return bool(advisory.type == hawkey.ADVISORY_SECURITY)


def _by_name(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["name"], row["arch"]


def _brought(dnf_base: Any, security: Mapping[tuple[str, str], Any], native: str) -> list[dict[str, Any]]:
    """What the security updates need besides themselves; it counts as security because they do."""
    packages = [package for _, package in security.values()]
    try:
        _resolved(dnf_base, packages, (), native)
    except StepError:
        return []
    import dnf.transaction

    have = {(one.name, one.arch): one for one in dnf_base.sack.query().installed().latest()}
    rows = [
        _row(dnf_base, have.get((item.name, item.arch)), item.pkg, "security", [])
        for item in dnf_base.transaction
        if item.action in dnf.transaction.FORWARD_ACTIONS and item.pkg not in packages
    ]
    return sorted(rows, key=_by_name)


def _row(dnf_base: Any, have: Any, package: Any, label: str, advisories: Sequence[Any]) -> dict[str, Any]:
    repository = dnf_base.repos[package.repoid]
    return {
        "method": "dnf",
        "name": package.name,
        "arch": package.arch,
        "from": have.evr if have else "",
        "to": package.evr,
        "origin": "dnf",
        "label": label,
        "suite": package.repoid,
        "trusted": bool(repository.gpgcheck or repository.repo_gpgcheck),
        "size": package.downloadsize,
        "sha256": _sha256(package),
        "source": package.source_name or package.name,
        "advisories": [_advisory(one) for one in sorted(advisories, key=lambda one: str(one.id))],
    }


def _advisory(one: Any) -> dict[str, Any]:
    """An advisory of updateinfo: its id, the vendor's severity, when it was issued, and its CVEs."""
    cves = {cve for reference in one.references for cve in CVE.findall(reference.id or "")}
    return {"id": one.id, "severity": one.severity or "", "issued": _iso(one.updated), "cves": sorted(cves)}


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def changelogs(wanted: Mapping[str, tuple[str, str, str]], folder: Path, timeout: float) -> dict[str, dict[str, Any]]:
    """By name, for each (architecture, from, to): the source and its entries, newest first; advisories come first."""
    if problem := download([(name, to, arch) for name, (arch, _, to) in wanted.items()], folder, timeout=timeout):
        raise StepError(f"packages for the changelogs cannot be had: {problem}: refresh the lists and scan again")
    upgrades, brought = pending()
    advisories = {(row["name"], row["to"]): row["advisories"] for row in (*upgrades, *brought)}
    found = {}
    for name, (arch, since, to) in wanted.items():
        header = _header_of(folder / file_name(name, to, arch))
        entries = [
            {"version": to, "date": one["issued"], "urgency": one["severity"].lower() or "unknown", "cves": one["cves"]}
            for one in sorted(advisories.get((name, to), []), key=lambda one: str(one["issued"]), reverse=True)
        ]
        rows = zip(header["changelogtime"], header["changelogname"], header["changelogtext"])
        entries += parse_changelog(rows, since, to, compare)
        source = re.sub(r"(-[^-]+){2}\.src\.rpm$", "", header["sourcerpm"] or name)
        found[name] = {"source": source, "entries": entries}
    return found


def parse_changelog(
    rows: Iterable[tuple[int, str, str]], since: str, to: str, order: Callable[[str, str], int]
) -> list[dict[str, Any]]:
    """The entries of an rpm changelog that are newer than `since`, newest first; one without a version is of `to`.

    A changelog leaves the distribution's suffix out, and often the epoch.
    """
    entries = []
    for moment, author, text in rows:
        spelled = RPM.version.fullmatch(author.split()[-1].strip("[]")) if author.split() else None
        version = spelled[0] if spelled else ""
        version = version.removeprefix("0:")
        if version and ":" not in version and ":" in since:
            version = f"{since.partition(':')[0]}:{version}"
        if version and order(version, since) <= 0:
            break
        date = datetime.fromtimestamp(moment, timezone.utc).replace(tzinfo=None)
        cves = sorted(set(CVE.findall(text)))
        entries.append({"version": version or to, "date": _iso(date), "urgency": "unknown", "cves": cves})
    return entries


def automatic() -> set[str]:
    """The packages that dnf considers installed as dependencies."""
    dnf_base = base(repositories=False)
    return {one.name for one in dnf_base.sack.query().installed()} - {one.name for one in dnf_base.iter_userinstalled()}


def mark_automatic(names: Iterable[str]) -> None:
    """Gives packages their automatic mark back."""
    if marked := sorted(set(names) - automatic()):
        run(["dnf", "-q", "--disablerepo=*", "mark", "remove", *marked], timeout=60).checked("dnf mark")


def waiting_kernel(running: str) -> str:
    """The newest installed kernel, when it is newer than the running one."""
    kernels = [
        f"{header['version']}-{header['release']}"
        for header in _headers()
        if header["name"] in ("kernel-core", "kernel-rt-core", "kernel-uek-core", "kernel")
    ]
    now = running.rpartition(".")[0]
    return max((one for one in kernels if compare(one, now) > 0), key=_sorting, default="")


def _sorting(version: str) -> Any:
    from functools import cmp_to_key

    return cmp_to_key(compare)(version)


def reboot_notices() -> list[str]:
    """The core packages for whose change needs-restarting wants a reboot; its exit code is that of any failure."""
    listed = run(["dnf", "-q", "--disablerepo=*", "needs-restarting", "-r"], timeout=60).out
    names = re.findall(r"^\s+\* (\S+)$", listed, re.MULTILINE)
    return [f"needs-restarting names {', '.join(names)}"] if names else []


def placed_at(name: str) -> float:
    """When a package was installed, as Unix time; 0 when it is not."""
    return max((float(one["installtime"]) for one in _rpm().TransactionSet().dbMatch("name", name)), default=0.0)


def files_of(key: str) -> list[str]:
    """The paths of a package's files."""
    return [path for one in _rpm().TransactionSet().dbMatch("name", key.split(":")[0]) for path in one["filenames"]]


def owners(paths: Sequence[str]) -> list[str]:
    """The names of the packages that own these paths."""
    rpm = _rpm()
    return [one["name"] for path in paths for one in rpm.TransactionSet().dbMatch("basenames", path)]


def dependencies(names: Sequence[str]) -> list[str]:
    """What these packages require, by name."""
    rpm = _rpm()
    return [need for name in names for one in rpm.TransactionSet().dbMatch("name", name) for need in one["requirename"]]


def repositories() -> list[str]:
    """The enabled repositories, each with the time of its lists."""
    dnf_base = base()
    return [f"{one.id} {_iso(datetime.fromtimestamp(one._repo.getTimestamp(), timezone.utc).replace(tzinfo=None))}"
            for one in dnf_base.repos.iter_enabled()]  # fmt: skip


def unattended() -> str:
    """What would patch this host outside of a wave, or an empty string."""
    timers = ("dnf-automatic-install.timer", "dnf-automatic.timer", "dnf5-automatic.timer")
    enabled = [one for one in timers if run(["systemctl", "is-enabled", one], timeout=30).out.strip() == "enabled"]
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(AUTOMATIC)
    applies = settings.get("commands", "apply_updates", fallback="no").lower() in ("yes", "true", "1", "on")
    armed = [one for one in enabled if applies or one == timers[0]]
    return f"{armed[0]} would patch outside of a wave: systemctl disable --now {armed[0]}" if armed else ""


def _versionlock() -> Path | None:
    """The list of the versionlock plugin, where it is installed and on."""
    settings = configparser.ConfigParser(interpolation=None)
    if not settings.read(VERSIONLOCK) or not settings.getboolean("main", "enabled", fallback=True):
        return None
    return Path(settings.get("main", "locklist", fallback=str(VERSIONLOCK.with_suffix(".list"))))


def _held() -> set[str]:
    """The names of installed packages that dnf's excludes or its version lock keep as they are."""
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    settings.read([CONFIGURATION, *sorted(Path("/etc/yum.repos.d").glob("*.repo"))])
    lines = [section.get("excludepkgs", "") + " " + section.get("exclude", "") for section in settings.values()]
    globs = re.split(r"[,\s]+", " ".join(lines).strip())
    locked = _versionlock()
    locks = locked.read_text().split("\n") if locked and locked.is_file() else []
    rows = [(header["name"], _nevra(header)) for header in _headers()]
    return {
        name
        for name, full in rows
        if any(fnmatch.fnmatchcase(name, one) for one in globs if one)
        or any(fnmatch.fnmatchcase(full, line.strip()) for line in locks if line and line[0] not in "#!")
    }


def _nevra(header: Any) -> str:
    """As the version lock spells an installed package."""
    return f"{header['name']}-{header['epoch'] or 0}:{header['version']}-{header['release']}.{header['arch']}"


def _lock_line(package: Installed) -> str:
    epoch, upstream, release = _parts(package.version)
    return f"{package.name}-{epoch}:{upstream}-{release}.*"


def hold(packages: Sequence[Installed]) -> None:
    """Keeps packages as they are: by the version lock where it is installed, else by dnf's own excludes."""
    if locked := _versionlock():
        lines = locked.read_text().splitlines() if locked.is_file() else []
        _write(locked, [*lines, *(_lock_line(one) for one in packages)])
    else:
        _exclude(add=[one.name for one in packages])


def unhold(packages: Sequence[Installed]) -> None:
    """Lifts what `hold` has set."""
    if locked := _versionlock():
        ours = {_lock_line(one) for one in packages}
        _write(locked, [line for line in locked.read_text().splitlines() if line not in ours])
    _exclude(remove=[one.name for one in packages])


def _exclude(*, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
    lines = CONFIGURATION.read_text().splitlines()
    at = next((index for index, line in enumerate(lines) if re.match(r"exclude(pkgs)?\s*=", line)), None)
    names = re.split(r"[,\s]+", lines[at].partition("=")[2].strip()) if at is not None else []
    wanted = [name for name in dict.fromkeys([*names, *add]) if name and name not in remove]
    if wanted == [name for name in names if name]:
        return
    if at is not None:
        lines.pop(at)
    place = at if at is not None else next(i for i, line in enumerate(lines) if line.strip() == "[main]") + 1
    _write(CONFIGURATION, [*lines[:place], *([f"excludepkgs={' '.join(wanted)}"] if wanted else []), *lines[place:]])


def _write(path: Path, lines: Sequence[str]) -> None:
    write_durably(path, "\n".join(lines) + "\n", mode=0o644)
