"""Switches as a person sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from ops.answers import Json
from ops.commandline import Flag
from ops.exits import Exit, Failed
from ops.grid import Column, grid
from ops.screen import Screen
from ops.show import moment, short

STYLE = {"HALTED": "bold red", "REDUCING": "yellow", "ACTIVE": "green"}
STEPS = (("unsent", "ended unsent"), ("open", "cancelled open"), ("flatten", "closed positions"))
COLUMNS = (
    Column("for", lambda row: whom(row)),
    Column("mode", lambda row: Text(str(row.get("mode")), style=STYLE.get(str(row.get("mode")), ""))),
    Column("since (IST)", lambda row: moment(row.get("at")), keep=5),
    Column("by", lambda row: str(row.get("by")), keep=6),
    Column("why", lambda row: Text(str(row.get("reason"))), least=16),
    Column("followed by", lambda row: what_followed(row), keep=3),
)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """What is said of a turn."""

    reason: str
    """Why; it is recorded in the audit log, and rejected orders carry it."""

    cancel_open: Flag = False
    """Cancel the open orders as well."""

    flatten: Flag = False
    """Cancel the open orders, then close MIS and NRML positions at market."""


def whom(row: Json) -> str:
    """Such as "everything", "account UP0001", "strategy momentum of …a1b2c3d4"."""
    scope, subject = str(row.get("scope")), str(row.get("subject"))
    match scope:
        case "ALL":
            return "everything"
        case "STRATEGY":
            user, _, strategy = subject.partition(":")
            return f"strategy {strategy} of …{short(user)}"
        case "USER":
            return f"user …{short(subject)}"
    return f"account {subject}"


def what_followed(row: Json) -> str:
    """How many intents its last change has led to, and whether all of it is done."""
    followed = row.get("followed") or {}
    told = [f"{words}: {_count(followed.get(name) or [])}" for name, words in STEPS if followed.get(name)]
    if row.get("carriedOutAt") is None:
        told.append("under way")
    return ", ".join(told)


def _count(steps: Sequence[Json]) -> str:
    """Of orders, where it is known."""
    counts = [step.get("matched", step.get("orders")) for step in steps]
    known = [one for one in counts if isinstance(one, int)]
    return str(sum(known)) if len(known) == len(counts) else "some"


def show(screen: Screen, rows: Sequence[Json]) -> Exit:
    shown: RenderableType = grid(rows, COLUMNS, width=screen.out.width) if rows else Text("nothing was ever switched")
    screen.result({"switches": list(rows)}, shown)
    return Exit.OK


def tell(screen: Screen, row: Json) -> Exit:
    mode = str(row.get("mode"))
    said = {
        "HALTED": "nothing more is sent for it; cancels pass",
        "REDUCING": "only what makes a position smaller is sent for it; cancels pass",
        "ACTIVE": "everything is sent for it again",
    }
    parts = [Text.assemble(whom(row), " is ", (mode, STYLE.get(mode, "")), f": {said.get(mode, '')}")]
    if row.get("carriedOutAt") is None:
        parts.append(Text("what follows is under way; to see it: switch show", style="bright_black"))
    screen.result(row, *parts)
    return Exit.OK


def subject_of(scope: str, subject: str | None) -> str:
    """The subject in a path; of everything and of oneself it needn't be said. Raises Failed."""
    if subject is not None:
        return subject
    default = {"all": "all", "user": "me"}.get(scope)
    if default is None:
        raise Failed(Exit.USAGE, f"which {scope}?", mend=f"Say its name after the word {scope}.")
    return default


def reason_given(reason: str) -> str:
    if not reason.strip():
        raise Failed(Exit.USAGE, "the reason is empty", mend="Say it in a few words, for who reads the audit log.")
    return reason.strip()
