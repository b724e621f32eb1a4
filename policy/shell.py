"""Shell text as far as a rule reads it: which commands it runs, and what they fetch without a version.

It is read, never run. What cannot be told from the text, such as what a variable holds, is taken to be in order.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

Command = list[str]
"""Words without their quotes."""
Pipeline = list[Command]

_BASH = Parser(Language(tree_sitter_bash.language()))
_QUOTED = re.compile(r"""\\(.)|'([^']*)'|"((?:\\.|[^"\\])*)\"""", re.DOTALL)
_TEXTS = ("string", "raw_string", "ansi_c_string", "concatenation", "word")
_SUBSTITUTIONS = ("command_substitution", "process_substitution")
_REDIRECTS = ("file_redirect", "herestring_redirect", "heredoc_redirect")
_SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "ash", "python", "python3", "perl", "ruby", "node", "pwsh"}
_EVALUATORS = {"eval", "source", "."}
_CARRIERS = {"ssh", "su"}
_SAYS = {"echo", "printf", "logger", "grep", "egrep", "sed", "awk", "git", "cat", "tee", "test", "[", "curl", "wget"}
_BEFORE = re.compile(
    r"\w+=.*|-.*|\d\w*|if|then|else|elif|do|while|until|!|\{|time|exec|command|nohup|sudo|env|nice|timeout"
)


class Unpinned(NamedTuple):
    """What a command fetches without saying which version, and the fix."""

    what: str
    fix: str


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
    return _inside(_BASH.parse(text.encode()).root_node)


def _inside(node: Node) -> Iterator[Pipeline]:
    """The pipelines of a piece of a script."""
    if node.type in ("pipeline", "command", "redirected_statement"):
        parts = list(_parts(node))
        yield [_words(part) for part in parts]
        for part in parts:
            yield from _given(part)
        yield from _documents(node)
    elif node.type != "comment":
        for child in node.children:
            yield from _inside(child)


def _parts(node: Node) -> Iterator[Node]:
    """The commands of a pipeline, in order; what stands behind a here-document's mark belongs to it too."""
    if node.type == "command":
        yield node
    elif node.type in ("pipeline", "redirected_statement"):
        for child in node.named_children:
            if child.type == "heredoc_redirect":
                yield from (part for one in child.named_children if one.type == "pipeline" for part in _parts(one))
            elif child.type not in _REDIRECTS:
                yield from _parts(child)
    else:
        yield node


def _words(part: Node) -> Command:
    """A command's words without their quotes; a group of commands has none of its own."""
    if part.type != "command":
        return []
    return [_plain(_text(word)) for word in part.named_children if word.type not in _REDIRECTS]


def _given(part: Node) -> Iterator[Pipeline]:
    """What runs inside of a command: its substitutions, a script that it is given, a group's commands."""
    command = _words(part)
    if part.type != "command":
        yield from _inside(part)
        return
    for word in part.named_children:
        for substitution in _substitutions(word):
            for pipeline in _inside(substitution):
                yield [*pipeline, command[:1]] if _runs_what_it_reads(command) else pipeline
        script = _plain(_text(word))
        is_script = word.type in _TEXTS and re.search(r"[ \n]", script) and script != command[0]
        if is_script and program(command) not in _SAYS:
            yield from pipelines(script)


def _substitutions(node: Node) -> Iterator[Node]:
    if node.type in _SUBSTITUTIONS:
        yield node
    else:
        for child in node.children:
            yield from _substitutions(child)


def _documents(statement: Node) -> Iterator[Pipeline]:
    """Here-documents that a shell reads, here or elsewhere, and those that are scripts themselves."""
    for redirect in (child for child in statement.children if child.type == "heredoc_redirect"):
        words = [word for part in _parts(statement) for word in _words(part)]
        for child in redirect.named_children:
            body = _text(child)
            if child.type == "heredoc_body":
                if body.startswith("#!") or any(_name(word) in _SHELLS | _CARRIERS for word in words):
                    yield from pipelines(body)
            elif child.type not in ("heredoc_start", "heredoc_end", "pipeline"):
                yield from _inside(child)


def _text(node: Node) -> str:
    return (node.text or b"").decode()


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
