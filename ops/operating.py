"""What the operator's commands share: their options, and a desk on the servers of this installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ops.exits import Exit, Failed
from ops.surroundings import look_around

if TYPE_CHECKING:
    from pipeline.desk import Desk


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Options:
    """What every command takes."""

    json: Annotated[bool, Parameter(negative=())] = False
    """One JSON document on standard output, all else on standard error."""


DEFAULTS = Options()


@contextmanager
def open_desk() -> Iterator[Desk]:
    """A desk as the processes have it; its wake-ups are published as long as it is open.

    Raises:
        Failed: the environment lacks something, and no stack runs here.
    """
    from pipeline.desk import from_env

    look_around().adopt()
    try:
        desk = from_env("coordinator-command", pool_size=2, by_key=False)
    except KeyError as error:
        mend = "Set it as the Procfile's processes have it, or run this in the folder of a running stack."
        raise Failed(Exit.USAGE, f"{error.args[0]} isn't set", mend=mend) from error
    desk.wakeups.start()
    try:
        yield desk
    finally:
        desk.close()
