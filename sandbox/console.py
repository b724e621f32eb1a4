"""What `make up` prints: one aligned line for each thing done, and a sign of life while something takes long."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LABEL = 9
_WIDTH = 70


class Report:
    """The text that the line of a step will carry; whoever does the step sets it."""

    text = ""
    quick = False

    def __call__(self, text: str) -> None:
        self.text = text


@contextmanager
def step(label: str) -> Iterator[Report]:
    """Prints `label text duration` when the step has ended well; a step that did nothing leaves the duration out."""
    report = Report()
    begun = time.monotonic()
    yield report
    _erase()
    if report.text:
        spent = time.monotonic() - begun
        line(label, report.text, None if report.quick else spent)


def line(label: str, text: str, seconds: float | None = None) -> None:
    """One aligned line."""
    shown = f"{label:<{_LABEL}} {text}"
    if seconds is not None:
        shown = f"{shown:<{_WIDTH}} {duration(seconds):>12}"
    print(shown, flush=True)


def working(label: str, text: str) -> None:
    """A sign of life: on a terminal it is overwritten by what comes next."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{label:<{_LABEL}} {text} …", end="", flush=True)
    else:
        print(f"{label:<{_LABEL}} {text} …", flush=True)


def duration(seconds: float) -> str:
    """A span as people read it: 4 s, 3 min 12 s."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02} s"


def span(seconds: float) -> str:
    """A long span: 24 h, 40 min, 12 s."""
    return f"{seconds / 3600:.0f} h" if seconds >= 3600 else duration(seconds)


def _erase() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="", flush=True)
