"""The three ways in which a command ends other than well, each with the exit code of its kind."""


class PatchwaveError(Exception):
    """One line: what, where, the fix; `code` is the process's exit code."""

    code = 1


class Failed(PatchwaveError):
    """The work was tried and did not succeed."""


class UsageError(PatchwaveError):
    """The request itself is wrong: a bad option, a stack file that does not parse, a missing tool."""

    code = 2


class Refused(PatchwaveError):
    """The work is possible but not permitted: window, freeze, policy, approval or gate."""

    code = 3
