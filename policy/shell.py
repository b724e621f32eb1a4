"""Shell text as far as a rule reads it: which commands it runs, and what they fetch without a version.

It is read, never run. What cannot be told from the text, such as what a variable holds, is taken to be in order.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Command = list[str]
"""Words without their quotes."""
Pipeline = list[Command]

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r]+|\\\n)
      | (?P<comment>(?<![^\s;&|()])\#[^\n]*)
      | (?P<here>\d*<<-?(?!<)[ \t]*(?P<quote>['"]?)(?P<end>[\w.-]+)(?P=quote))
      | (?P<inner><\(|>\(|`)
      | (?P<redirect>\d*(?:<<<|>>|>&|<&|<>|>\||[<>])|&>>?)
      | (?P<operator>\|\||&&|;;|\|&|[;&|()\n])
      | (?P<word>(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s;&|()<>`'"\\])+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_QUOTED = re.compile(r"""\\(.)|'([^']*)'|"((?:\\.|[^"\\])*)\"""", re.DOTALL)
_INNER = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")
_SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "ash", "python", "python3", "perl", "ruby", "node", "pwsh"}
_EVALUATORS = {"eval", "source", "."}
_CARRIERS = {"ssh", "su"}
_SAYS = {"echo", "printf", "logger", "grep", "egrep", "sed", "awk", "git", "cat", "tee", "test", "[", "curl", "wget"}
_BEFORE = re.compile(
    r"\w+=.*|-.*|\d\w*|if|then|else|elif|do|while|until|!|\{|time|exec|command|nohup|sudo|env|nice|timeout"
)


class Unpinned(NamedTuple):
    """What a command fetches without saying which version, and the mend."""

    what: str
    mend: str


def unpinned(text: str) -> Iterator[Unpinned]:
    """What a script fetches and runs, or installs, without a version; each once."""
    found = list(pipelines(text))
    commands = [command for pipeline in found for command in pipeline]
    settled = any(_after(command, "git")[:1] in (["checkout"], ["switch"], ["reset"]) for command in commands)
    seen: list[Unpinned] = []
    for pipeline in found:
        seen += _fetched_and_run(pipeline)
        for command in pipeline:
            for tools, read in _READERS.items():
                for tool in tools:
                    seen += read(words) if (words := _after(command, tool)) else ()
            if not settled:
                seen += _clone(_after(command, "git"))
    return iter(dict.fromkeys(seen))


def pipelines(text: str) -> Iterator[Pipeline]:
    """The pipelines that a text runs, with those inside of its substitutions, quoted scripts and here-documents.

    What a shell reads from a substitution is shown as what is piped into it.
    """
    reader = _Reader(text)
    yield from reader.read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._documents: list[tuple[str, Command]] = []

    def read(self, end: str = "") -> Iterator[Pipeline]:
        pipeline: Pipeline = [[]]
        while found := _TOKEN.match(self._text, self._at):
            self._at = found.end()
            kind, mark = str(found.lastgroup), found[0]
            here = pipeline[-1]
            if mark == end and kind in ("operator", "inner"):
                break
            if kind == "word" and mark.endswith("$") and self._text[self._at : self._at + 1] == "(":
                self._at += 1
                yield from self._inside(here, ")")
                here.append("$")
            elif kind == "word":
                here.append(_plain(mark))
                yield from self._quoted(here, mark)
            elif kind == "inner":
                yield from self._inside(here, "`" if mark == "`" else ")")
            elif kind == "here":
                self._documents.append((found["end"], here))
            elif kind == "redirect":
                self._skip_target()
            elif kind == "operator" and mark in ("|", "|&"):
                pipeline.append([])
            elif kind == "operator":
                yield pipeline
                pipeline = [[]]
                if mark == "\n":
                    yield from self._bodies()
        yield pipeline

    def _inside(self, around: Command, end: str) -> Iterator[Pipeline]:
        """What a substitution runs; a shell around it runs what that writes."""
        for pipeline in self.read(end):
            yield [*pipeline, around[:1]] if _runs_what_it_reads(around) else pipeline

    def _quoted(self, command: Command, token: str) -> Iterator[Pipeline]:
        """What a quoted word runs: a substitution inside of it, or a script that another program is given."""
        if token[0] == '"' or '"' in token:
            for inner in _INNER.finditer(token):
                for pipeline in pipelines(inner[1] or inner[2] or ""):
                    yield [*pipeline, command[:1]] if _runs_what_it_reads(command) else pipeline
        if any(mark in command[-1] for mark in " \n") and program(command) not in _SAYS and len(command) > 1:
            yield from pipelines(command[-1])

    def _skip_target(self) -> None:
        while (found := _TOKEN.match(self._text, self._at)) and found.lastgroup in ("blank", "word"):
            self._at = found.end()
            if found.lastgroup == "word":
                return

    def _bodies(self) -> Iterator[Pipeline]:
        """Here-documents that a shell reads, here or elsewhere, and those that are scripts themselves."""
        for end, command in self._documents:
            stop = re.compile(rf"^\t*{re.escape(end)}[ \t]*$", re.MULTILINE).search(self._text, self._at)
            body = self._text[self._at : stop.start() if stop else len(self._text)]
            self._at = stop.end() if stop else len(self._text)
            if body.startswith("#!") or any(_name(word) in _SHELLS | _CARRIERS for word in command):
                yield from pipelines(body)
        self._documents.clear()


def program(command: Command) -> str:
    """The program that a command runs, without what stands before it."""
    return next((_name(word) for word in command if not _BEFORE.fullmatch(word)), "")


def _name(word: str) -> str:
    return word.rsplit("/", 1)[-1]


def _plain(token: str) -> str:
    return _QUOTED.sub(lambda m: m[1] or m[2] or re.sub(r'\\([\\"$`])', r"\1", m[3] or ""), token)


def _runs_what_it_reads(command: Command) -> bool:
    return any(_name(word) in _SHELLS | _EVALUATORS for word in command[:4])


def _after(command: Command, tool: str) -> list[str]:
    """The words after a tool, wherever it stands in a command that does not merely mention it."""
    if program(command) in _SAYS - {tool}:
        return []
    at = next((number for number, word in enumerate(command) if _name(word) == tool), None)
    return [] if at is None else command[at + 1 :]


def _operands(words: Sequence[str], valued: set[str]) -> list[str]:
    """Words that are neither options nor the values of options."""
    found: list[str] = []
    skip = False
    for word in words:
        if not skip and not word.startswith("-"):
            found.append(word)
        skip = not skip and word in valued
    return found


def _untold(name: str) -> bool:
    """What a variable holds is not told, and a file in place is what it is."""
    return "$" in name or "{{" in name or name.startswith((".", "/", "~"))


def _fetched_and_run(pipeline: Pipeline) -> Iterator[Unpinned]:
    fetched = False
    for command in pipeline:
        shell = next((n for n, word in enumerate(command) if _name(word) in _SHELLS | _EVALUATORS), None)
        if fetched and shell is not None and not _has_its_own_script(command[shell + 1 :]):
            yield Unpinned("what is downloaded is run unseen", "save it, compare its sha256, then run it")
        fetched = fetched or program(command) in ("curl", "wget")


def _has_its_own_script(words: Sequence[str]) -> bool:
    """Whether a shell is told what to run, so that it reads no script from its input."""
    for word in words:
        if word in ("-s", "-", "--", "/dev/stdin"):
            return False
        if word in ("-m", "-c", "-e") or not word.startswith("-"):
            return True
    return False


def _apt(words: list[str]) -> Iterator[Unpinned]:
    valued = {"-t", "--target-release", "-o", "--option", "-c", "--config-file", "-a", "--host-architecture"}
    verb, *names = _operands(words, valued) or [""]
    if {"-s", "--simulate", "--dry-run", "--just-print", "--print-uris"} & {*words}:
        return
    if verb in ("upgrade", "dist-upgrade", "full-upgrade", "safe-upgrade"):
        yield Unpinned(f"apt {verb} installs whatever is newest", "seal a release and let a wave bring it")
    for name in names if verb == "install" else ():
        if "=" not in name and not _untold(name) and not name.endswith(("-", ".deb")):
            yield Unpinned(f"apt installs {name} without a version", f"write {name}=VERSION")


def _rpm(words: list[str]) -> Iterator[Unpinned]:
    verb, *names = _operands(words, {"-c", "--config", "--enablerepo", "--disablerepo", "--repo", "-x"}) or [""]
    if verb in ("update", "upgrade"):
        yield Unpinned(f"{verb} installs whatever is newest", "name packages with their versions")
    for name in names if verb == "install" else ():
        if not re.search(r"-\d", name) and not _untold(name) and not name.endswith(".rpm"):
            yield Unpinned(f"{name} is installed without a version", f"write {name}-VERSION")


def _apk(words: list[str]) -> Iterator[Unpinned]:
    verb, *names = _operands(words, {"-t", "--virtual", "-X", "--repository", "-p", "--root"}) or [""]
    for name in names if verb == "add" else ():
        if not re.search(r"[=~]\d", name) and not _untold(name) and not name.endswith(".apk"):
            yield Unpinned(f"apk adds {name} without a version", f"write {name}=VERSION")


def _pip(words: list[str]) -> Iterator[Unpinned]:
    valued = {"-r", "--requirement", "-e", "--editable", "-i", "--index-url", "--extra-index-url", "-f", "--find-links"}
    valued |= {"-t", "--target", "--prefix", "--root", "--python", "--trusted-host", "--proxy", "--cert", "--timeout"}
    if {"-c", "--constraint"} & {*words}:
        return
    verb, *names = _operands(words, valued) or [""]
    for name in names if verb == "install" else ():
        if _untold(name) or re.search(r"===?[\w]| @ |\.whl$|\.tar\.gz$", name):
            continue
        if "://" in name:
            if "@" not in name.rsplit("/", 1)[-1]:
                yield Unpinned(f"pip installs {name} without a commit", "write …@COMMIT after it")
        elif "/" not in name:
            plain = re.split(r"[<>=!~;\s]", name)[0]
            yield Unpinned(f"pip installs {plain} without a version", f"write {plain}==VERSION")


def _npm(words: list[str]) -> Iterator[Unpinned]:
    verb, *names = _operands(words, {"--prefix", "--registry", "-C"}) or [""]
    for name in names if verb in ("install", "i", "add") else ():
        version = name[1:].partition("@")[2]
        if not _untold(name) and "://" not in name and not name.endswith(".tgz") and version in ("", "latest"):
            yield Unpinned(f"npm installs {name} without a version", "write NAME@VERSION")


def _galaxy(words: list[str]) -> Iterator[Unpinned]:
    operands = _operands(
        words, {"-r", "--role-file", "--requirements-file", "-p", "--collections-path", "-s", "--server"}
    )
    if operands[:1] in (["collection"], ["role"]):
        operands = operands[1:]
    for name in operands[1:] if operands[:1] == ["install"] else ():
        if not re.search(r"[:,]", name) and not _untold(name) and not name.endswith(".tar.gz"):
            yield Unpinned(f"ansible-galaxy installs {name} without a version", "write NAMESPACE.NAME:VERSION")


def _container(words: list[str]) -> Iterator[Unpinned]:
    operands = _operands(words, {"--platform", "--name"})
    if operands[:1] in (["container"], ["image"]):
        operands = operands[1:]
    verb, *names = operands or [""]
    if verb not in ("run", "pull", "create"):
        return
    loose = [name for name in names if name.endswith(":latest")]
    if verb == "pull":
        loose += [name for name in names[:1] if not _untold(name) and not re.search(r"[:@][^/]+$", name)]
    for name in loose:
        yield Unpinned(f"the image {name} is whatever is latest", "write its tag or digest")


def _clone(words: list[str]) -> Iterator[Unpinned]:
    verb, *rest = _operands(words, {"-C", "-c"}) or ["", ""]
    pinned = any(word in ("-b", "--revision") or word.startswith("--branch") for word in words)
    if verb == "clone" and not pinned and rest and not _untold(rest[0]):
        yield Unpinned(f"the clone of {rest[0]} names no tag", "add --branch TAG")


_READERS: dict[tuple[str, ...], Callable[[list[str]], Iterator[Unpinned]]] = {
    ("apt", "apt-get", "aptitude"): _apt,
    ("dnf", "yum", "microdnf"): _rpm,
    ("apk",): _apk,
    ("pip", "pip3"): _pip,
    ("npm", "pnpm"): _npm,
    ("ansible-galaxy",): _galaxy,
    ("docker", "podman", "nerdctl"): _container,
}
