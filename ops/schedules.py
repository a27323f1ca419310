"""`trader schedules`, `trader schedule show|remove`: cancels that are to come, and what has come of the others."""

from __future__ import annotations

import re
import shlex
from datetime import datetime

from rich.text import Text

from domain.ids import new_id
from ops.answers import Json
from ops.commandline import Flag
from ops.exits import Exit, Failed
from ops.grid import Column, grid
from ops.placing import hand_in
from ops.session import DEFAULTS, Options, Session, session
from ops.show import IST, moment, number

CLOCK = re.compile(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?")
STATE_STYLE = {
    "PENDING": "cyan", "FIRING": "blue", "FIRED": "green", "MISSED": "bold red", "FAILED": "red", "REMOVED": "bright_black",
}  # fmt: skip
TIME_COLUMNS = (
    Column("when (IST)", lambda row: moment(row.get("at"))),
    Column("state", lambda row: state(row.get("state"))),
    Column("what", lambda row: str(row.get("what") or ""), keep=6),
    Column("sessions", lambda row: ", ".join(row.get("sessions") or ()), keep=3),
    Column("orders", lambda row: number(row.get("matched")), keep=5, right=True),
    Column("intent", lambda row: str(row.get("intentId") or ""), keep=4),
    Column("schedule", lambda row: str(row.get("scheduleId") or ""), keep=7),
)


def schedules(*, live: Flag = False, limit: int = 20, after: str | None = None, options: Options = DEFAULTS) -> Exit:
    """What is to be cancelled at a time, newest first, and what has come of it.

    Args:
        live: only those of which something is still to come.
        limit: how many.
        after: go on from this cursor (`next` of the answer before).
    """
    with session(options) as here:
        page = here.client.pages("schedules", limit=limit, after=after, live="true" if live else None)
        found: list[Json] = page["schedules"]
        parts: list[object] = [_times(here, found)] if found else [Text("nothing is scheduled")]
        parts += _details(found)
        if page.get("next"):
            parts.append(Text(f"more: --after {page['next']}", style="bright_black"))
        here.screen.result(page, *parts)  # type: ignore[arg-type]
        return Exit.OK


def schedule_show(schedule_id: str, /, *, options: Options = DEFAULTS) -> Exit:
    """One schedule, with what has come of each of its times.

    Args:
        schedule_id: its id.
    """
    with session(options) as here:
        show_schedule(here, here.client.schedule(schedule_id))
        return Exit.OK


def schedule_remove(schedule_id: str, /, *, idempotency_key: str | None = None, options: Options = DEFAULTS) -> Exit:
    """Take a schedule back: nothing of it that was not begun is begun any more.

    Args:
        schedule_id: its id.
        idempotency_key: 16 to 255 visible ASCII characters; made when not given.
    """
    with session(options) as here:
        key = idempotency_key or new_id()
        removed = hand_in(
            lambda: here.client.remove_schedule(schedule_id, key),
            say=here.screen.note,
            again=f"trader schedule remove {schedule_id} --idempotency-key {shlex.quote(key)}",
            what="the removal",
        )
        show_schedule(here, removed.document)
        return Exit.OK


def time_asked(at: str | None, at_session_end: bool, minutes_before: int | None, late_by: int | None) -> Json:
    """What a cancel is told of its time; nothing, where it is for now. Raises Failed."""
    if at is not None and at_session_end:
        raise Failed(Exit.USAGE, "--at and --at-session-end don't go together")
    if minutes_before is not None and not at_session_end:
        raise Failed(Exit.USAGE, "--minutes-before goes with --at-session-end")
    asked: Json = {}
    if at_session_end:
        asked["atSessionEnd"] = minutes_before or 0
    elif at is not None:
        asked["at"] = _moment(at)
    elif late_by is not None:
        raise Failed(Exit.USAGE, "--late-by goes with --at or --at-session-end")
    return asked if late_by is None else {**asked, "lateBySec": late_by}


def show_schedule(here: Session, schedule: Json, *, about: Json | None = None) -> None:
    parts: list[object] = [
        Text.assemble(("schedule ", "bold"), str(schedule.get("scheduleId")), "  ", state(schedule.get("status"))),
        Text(""),
        _times(here, [schedule]),
        *_details([schedule]),
    ]
    if schedule.get("leftOut"):
        parts.append(Text(f"left out, since simulated accounts never close: {', '.join(schedule['leftOut'])}", style="yellow"))
    here.screen.result({**schedule, **(about or {})}, *parts)  # type: ignore[arg-type]


def state(word: object) -> Text:
    return Text(str(word or ""), style=STATE_STYLE.get(str(word), "default"))


def _times(here: Session, found: list[Json]) -> object:
    rows = [
        {**time, "scheduleId": schedule.get("scheduleId"), "what": _what(schedule)}
        for schedule in found
        for time in schedule.get("times", [])
    ]
    return grid(rows, TIME_COLUMNS, width=here.screen.out.width)


def _details(found: list[Json]) -> list[Text]:
    return [
        Text.assemble(f"{moment(time.get('at'))} ", state(time.get("state")), f"  {time['detail']}")
        for schedule in found
        for time in schedule.get("times", [])
        if time.get("detail")
    ]


def _what(schedule: Json) -> str:
    """ "cancel strategy=breakout", "cancel 3 orders", "square off the rest"."""
    request = schedule.get("request") or {}
    if schedule.get("kind") == "SQUARE_OFF":
        return "square off the rest"
    if request.get("orderIds"):
        count = len(request["orderIds"])
        return f"cancel {count} {'order' if count == 1 else 'orders'}"
    conditions = {name: value for name, value in (request.get("filter") or {}).items() if name != "all"}
    return "cancel " + (" ".join(f"{name}={value}" for name, value in conditions.items()) or "everything")


def _moment(text: str) -> str:
    """RFC 3339 with its offset; of a time of day alone, today's in India."""
    if CLOCK.fullmatch(text):
        hour, minute, *rest = (int(part) for part in text.split(":"))
        today = datetime.now(IST).replace(hour=hour, minute=minute, second=rest[0] if rest else 0, microsecond=0)
        return today.isoformat()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        mend = "Write 15:10, India's time today, or 2026-11-26T15:10:00+05:30."
        raise Failed(Exit.USAGE, f"{text!r} is no time", mend=mend)
    return at.isoformat()
