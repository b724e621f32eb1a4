"""The command line: each command prints one object with `--json`, and ends with 0, 1, 2 or 3."""

import os
import sys

import typer

from patchwave.base.errors import PatchwaveError, UsageError
from patchwave.cli import admission, doctor, planning, records, releases, running

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(planning.app)
app.add_typer(releases.app)
app.add_typer(admission.app)
app.add_typer(running.app)
app.add_typer(doctor.app)
app.add_typer(records.app, name="evidence")
# typer brings its own click: the common base of a wrong option, a wrong value and a missing command
CLICK_EXCEPTION: type[typer.BadParameter] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Runs the command line; an error is one line on stderr."""
    os.umask(0o022)
    try:
        code = app(standalone_mode=False)
    except PatchwaveError as error:
        code = _complain(str(error), error.code)
    except CLICK_EXCEPTION as error:
        code = _complain(error.format_message(), UsageError.code)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted: run the same command again, it goes on where it stopped", 130)
    sys.exit(code or 0)


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"patchwave: {' '.join(text.split())}\n")
    return code
