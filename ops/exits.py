"""How a command ends: the exit codes, and the failures that carry one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2
    PARTIAL = 3  # some lines were rejected, the others weren't
    REJECTED = 4  # every line was
    NOT_KNOWN = 5  # the outcome isn't known yet: a timeout, a lost answer, an order in UNKNOWN
    UNREACHABLE = 7  # nobody answers at that address; nothing was sent


class Failed(Exception):
    """A command that can't go on: its exit code, what happened, and what the reader can do about it."""

    def __init__(self, exit_code: Exit, message: str, *, mend: str = "", code: str = "") -> None:
        super().__init__(message)
        self.exit_code, self.message, self.mend = exit_code, message, mend
        self.code = code or exit_code.name


class Ended(Exception):
    """A command that has told its failure already; only its exit code is left."""

    def __init__(self, exit_code: Exit) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
