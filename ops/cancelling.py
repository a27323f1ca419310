"""`trader order cancel` and `trader order cancel-multi`: the orders that are meant, asked for once, followed to the truth."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.text import Text

from domain.ids import new_id
from ops.answers import Json
from ops.changeshow import ORDER, SHOWN, WHERE, show_changes
from ops.changewatch import PAGE, watch_changes
from ops.commandline import Flag
from ops.exits import Exit, Failed
from ops.grid import Column, grid
from ops.orderfile import STDIN
from ops.placing import hand_in
from ops.reading import find_order_id
from ops.schedules import show_schedule, time_asked
from ops.session import DEFAULTS, Options, Session, session
from ops.show import number, state

MATCH_COLUMNS = (
    *(column for column in ORDER if column.title != "leg"),
    Column("state", lambda order: state(order.get("state"))),
    Column("filled", lambda order: number(order.get("filledQuantity")), keep=8, right=True),
    *WHERE,
    Column("strategy", lambda order: str(order.get("strategy") or ""), keep=3),
    Column("tag", lambda order: str(order.get("tag") or ""), keep=2),
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a command line asks for: the request, and the words that ask the same again."""

    request: Json
    words: str


def order_cancel(
    *order_ids: str,
    wait: bool = True,
    timeout: float = 60.0,
    yes: Flag = False,
    idempotency_key: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Cancel orders by their ids. A fill may come first: what the broker's book shows in the end is what is told.

    Args:
        order_ids: their ids, or the last characters of them as tables show them.
        wait: wait until it is known what came of each, or only hand it in.
        timeout: seconds to wait for; what isn't known then exits with 5.
        yes: don't ask, though it is more than one.
        idempotency_key: 16 to 255 visible ASCII characters; made and printed when not given.
    """
    with session(options) as here:
        if not order_ids:
            raise Failed(Exit.USAGE, "no order is named", mend="Give ids, or: trader order cancel-multi --help")
        ids = list(dict.fromkeys(find_order_id(here.client, text) for text in order_ids))
        asked = _Asked({"orderIds": ids}, f"trader order cancel {' '.join(ids)}")
        return _cancel(here, asked, idempotency_key, wait=wait, timeout=timeout, yes=yes)


def cancel_multi(
    *,
    broker: str | None = None,
    account: str | None = None,
    segment: str | None = None,
    tag: str | None = None,
    strategy: str | None = None,
    instrument: str | None = None,
    intent: str | None = None,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    ids_from: Path | None = None,
    mode: Literal["hard", "soft"] = "hard",
    fail_fast: Annotated[bool | None, Parameter(negative="--best-effort")] = None,
    at: str | None = None,
    at_session_end: Flag = False,
    minutes_before: int | None = None,
    late_by: int | None = None,
    dry_run: Flag = False,
    wait: bool | None = None,
    timeout: float = 60.0,
    yes: Flag = False,
    idempotency_key: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Cancel all live orders that a filter means, or those that a file names.

    Several conditions must all hold. Everything is cancelled only with --all.
    Exits with 0 when all were cancelled, 3 some, 4 none, 5 when it isn't known of every order yet.
    Ctrl-C ends the waiting, not the cancelling.

    Args:
        broker: only those at this broker.
        account: only those of this account.
        segment: only CASH (shares), FO (their futures and options), CURRENCY or COMMODITY.
        tag: only those with this tag of yours.
        strategy: only those of this strategy.
        instrument: only those of this instrument, such as NSE:INFY.
        intent: only those that this intent placed.
        everything: every live order of yours.
        ids_from: a file of order ids, one a line, # begins a remark; - is standard input.
        mode: hard asks the broker now, and waits for its word; soft marks the orders, and is carried out in its own time.
        fail_fast: one after another up to the first that isn't cancelled, or all at once; not given: as the administrator
            has set it.
        at: not now but then: 15:10 is India's time today, else a time with its offset, 2026-11-26T15:10:00+05:30. What the
            filter means is looked up at that time.
        at_session_end: before the session of each order's exchange ends. Simulated accounts have no end.
        minutes_before: so many minutes before it; 0 when not given.
        late_by: seconds after its time in which it may still be done, after an outage (300).
        dry_run: only show what would be cancelled at this moment.
        wait: wait until it is known what came of each (hard: the default), or only hand it in (soft: the default).
        timeout: seconds to wait for; what isn't known then exits with 5.
        yes: don't ask, though it is more than one.
        idempotency_key: 16 to 255 visible ASCII characters; made and printed when not given.
    """
    conditions: Json = {
        "broker": broker and broker.upper(),
        "account": account,
        "segment": segment and segment.upper(),
        "tag": tag,
        "strategy": strategy,
        "instrument": instrument and instrument.upper(),
        "intentId": intent,
        "all": everything or None,
    }
    conditions = {name: value for name, value in conditions.items() if value is not None}
    with session(options) as here:
        later = time_asked(at, at_session_end, minutes_before, late_by)
        asked = _asked(here, conditions, ids_from, mode, fail_fast)
        if dry_run:
            return _show_matching(here, asked.request)
        if later:
            return _schedule(here, asked, later, idempotency_key)
        waits = mode == "hard" if wait is None else wait
        return _cancel(here, asked, idempotency_key, wait=waits, timeout=timeout, yes=yes)


def _asked(here: Session, conditions: Json, ids_from: Path | None, mode: str, fail_fast: bool | None) -> _Asked:
    """Raises Failed: nothing is meant, or two things that don't go together."""
    request: Json = {"mode": mode.upper()}
    if fail_fast is not None:
        request["policy"] = "FAIL_FAST" if fail_fast else "BEST_EFFORT"
    words = ["trader order cancel-multi"]
    if ids_from is not None:
        if conditions:
            raise Failed(Exit.USAGE, "--ids-from names the orders: a filter makes no sense beside it")
        request["orderIds"] = _read_ids(here, ids_from)
        words.append(f"--ids-from {shlex.quote(_name(ids_from))}")
    elif not conditions:
        mend = "Give a filter, --ids-from, or --all for every live order of yours."
        raise Failed(Exit.USAGE, "nothing says which orders are meant", mend=mend)
    else:
        request["filter"] = conditions
        names = {"intentId": "--intent", "all": "--all"}
        words += [
            names.get(name, f"--{name}") + ("" if value is True else f" {shlex.quote(str(value))}")
            for name, value in conditions.items()
        ]
    words += ["--mode soft"] if mode == "soft" else []
    words += [] if fail_fast is None else ["--fail-fast" if fail_fast else "--best-effort"]
    return _Asked(request, " ".join(words))


def _cancel(
    here: Session, asked: _Asked, idempotency_key: str | None, *, wait: bool, timeout: float, yes: bool
) -> Exit:
    if not yes and sys.stdin.isatty() and here.screen.err.is_terminal:
        _confirm(here, asked.request)
    key = idempotency_key or new_id()
    if idempotency_key is None:
        here.screen.note(f"to repeat safely, add --idempotency-key {key}")
    placed = hand_in(
        lambda: here.client.cancel(asked.request, key),
        say=here.screen.note,
        again=f"{asked.words} --idempotency-key {shlex.quote(key)}",
        what="the cancel",
    )
    accepted, about = placed.document, {"idempotencyKey": key, "replayed": placed.replayed}
    if placed.replayed:
        here.screen.note("this key was used before: this is the intent it made then, nothing was asked again")
    if wait:
        return watch_changes(here, accepted, timeout_s=timeout, about=about)
    intent_id = str(accepted["intentId"])
    if here.screen.json:
        here.screen.result({**accepted, **about})
    else:
        show_changes(here, here.client.intent(intent_id, limit=SHOWN))
    here.screen.note(f"accepted, not waited for; to follow: trader intent watch {intent_id}")
    return Exit.OK


def _schedule(here: Session, asked: _Asked, later: Json, idempotency_key: str | None) -> Exit:
    """Nothing is cancelled now: whoever changes their mind has until then to remove it."""
    key = idempotency_key or new_id()
    if idempotency_key is None:
        here.screen.note(f"to repeat safely, add --idempotency-key {key}")
    words = {"at": "--at", "atSessionEnd": "--at-session-end --minutes-before", "lateBySec": "--late-by"}
    again = " ".join([asked.words, *(f"{words[name]} {value}" for name, value in later.items())])
    placed = hand_in(
        lambda: here.client.cancel({**asked.request, **later}, key),
        say=here.screen.note,
        again=f"{again} --idempotency-key {shlex.quote(key)}",
        what="the schedule",
    )
    show_schedule(here, placed.document, about={"idempotencyKey": key, "replayed": placed.replayed})
    here.screen.note(f"scheduled; to take it back: trader schedule remove {placed.document['scheduleId']}")
    return Exit.OK


def _confirm(here: Session, request: Json) -> None:
    """Asks, where more than one order is meant. Raises Failed: the answer is no."""
    matched = int(here.client.cancellable(request, limit=1)["matched"])
    if matched <= 1:
        return
    here.screen.err.print(f"cancel {matched} orders? [y/N] ", end="", markup=False, highlight=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed(Exit.ERROR, "nothing was cancelled", mend="Say y, or give --yes.", code="NOT_CONFIRMED")


def _show_matching(here: Session, request: Json) -> Exit:
    """What would be cancelled: all of it for a program, the first lines for a person."""
    page = here.client.cancellable(request, limit=PAGE if here.screen.json else SHOWN)
    orders: list[Json] = page["orders"]
    while here.screen.json and page.get("next"):
        page = here.client.cancellable(request, limit=PAGE, after=page["next"])
        orders += page["orders"]
    matched = int(page["matched"])
    count = f"{matched} {'order' if matched == 1 else 'orders'}"
    parts: list[object] = [Text(f"{count} would be cancelled; nothing was done")]
    if orders:
        parts += [Text(""), grid(orders, MATCH_COLUMNS, width=here.screen.out.width)]
    if matched > len(orders):
        parts.append(Text(f"… and {matched - len(orders)} more orders", style="bright_black"))
    here.screen.result({"matched": matched, "orders": orders}, *parts)  # type: ignore[arg-type]
    return Exit.OK


def _read_ids(here: Session, path: Path) -> list[str]:
    """The ids in a file, each once; faults are told by their line in it. Raises Failed."""
    name = _name(path)
    try:
        text = sys.stdin.read() if str(path) == STDIN else path.read_text("utf-8-sig")
    except OSError as error:
        raise Failed(Exit.USAGE, f"{name} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failed(Exit.USAGE, f"{name} isn't UTF-8 text") from error
    rows: dict[str, int] = {}
    for row, line in enumerate(text.splitlines(), 1):
        for word in line.partition("#")[0].split():
            rows.setdefault(word.lower(), row)
    if not rows:
        raise Failed(Exit.USAGE, f"{name} names no order", mend="One id a line is wanted.")
    places = list(rows.values())

    def place_of(pointer: str) -> str:
        number = pointer.rpartition("/")[2]
        known = pointer.startswith("/orderIds/") and number.isdigit() and int(number) < len(places)
        return f"{name}:{places[int(number)]}" if known else pointer

    here.place_of = place_of
    return list(rows)


def _name(path: Path) -> str:
    return "-" if str(path) == STDIN else str(path)
