"""`coordinator reconcile`: has accounts compared to their brokers now, follows it, and shows what differs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from ops.answers import Json
from ops.dlq.here import desk_here
from ops.exits import Exit
from ops.grid import Column, grid
from ops.operating import DEFAULTS, Options
from ops.show import moment, short

if TYPE_CHECKING:
    from pipeline.desk import Desk

LOOK_EVERY_S = 0.25
COMPARED = ("AGREES", "DIFFERS", "NO_BOOK")
STYLE = {"AGREES": "green", "DIFFERS": "bold red", "SUSPECTS": "yellow"}

ACCOUNTS = (
    Column("account", lambda row: str(row.get("account"))),
    Column("broker", lambda row: str(row.get("broker")).upper()),
    Column("outcome", lambda row: _outcome(row)),
    Column("looked at (IST)", lambda row: moment(row.get("endedAt")), keep=5),
    Column("what hindered it", lambda row: Text(str(row.get("detail") or "")), keep=4),
)
FINDINGS = (
    Column("account", lambda row: str(row.get("account"))),
    Column("kind", lambda row: Text(str(row.get("kind")), style="bold red")),
    Column("what", lambda row: _subject(row)),
    Column("the record", lambda row: str(row.get("ours")), least=12),
    Column("the broker", lambda row: str(row.get("theirs")), least=12),
    Column("since (IST)", lambda row: moment(row.get("foundAt")), keep=5),
)
STRAYS = (
    Column("account", lambda row: str(row.get("account"))),
    Column("kind", lambda row: Text(str(row.get("kind")), style="bold red")),
    Column("broker's order", lambda row: str(row.get("brokerOrderId"))),
    Column("tag", lambda row: str(row.get("tag")), keep=3),
    Column("order", lambda row: short(row.get("orderId")), keep=6),
    Column("status", lambda row: str(row.get("status") or "")),
    Column("filled", lambda row: str(row.get("filled") or ""), right=True),
    Column("cancel", lambda row: str(row.get("cancel") or ""), keep=4),
    Column("since (IST)", lambda row: moment(row.get("foundAt")), keep=5),
)


def reconcile(
    *, broker: str | None = None, account: str | None = None, timeout: float = 60.0, options: Options = DEFAULTS
) -> Exit:
    """Compare accounts to their brokers now: orders, fills, positions and funds; show what differs, and strays.

    What a broker has and the record lacks is mended on the way. A difference counts once a second look shows it, a few seconds
    after the first. Exits with 1 while anything differs, or where an account couldn't be compared.

    Args:
        broker: only accounts at this broker.
        account: only this account.
        timeout: seconds to follow it for; it goes on without being followed.
    """
    from pipeline import reconcile as reconciling

    with desk_here(options) as (screen, desk):
        ids = reconciling.wanted(desk, broker=broker.lower() if broker else None, account=account)
        reconciling.ask(desk, ids)
        screen.note(f"{len(ids)} accounts are compared to their brokers")
        seen = _follow(desk, ids, timeout)
        undone = [row["account"] for row in seen["accounts"] if not row["done"]]
        parts: list[RenderableType] = [grid(seen["accounts"], ACCOUNTS, width=screen.out.width)]
        for title, rows, columns in (("findings", seen["findings"], FINDINGS), ("strays", seen["strays"], STRAYS)):
            if rows:
                parts += [Text(f"\n{len(rows)} {title}", style="bold"), grid(rows, columns, width=screen.out.width)]
        screen.result({**seen, "done": not undone}, *parts)
        if undone:
            screen.note(f"not done yet: {', '.join(undone)}; is its broker's dispatch process there? coordinator doctor")
        compared = not undone and all(row["outcome"] in COMPARED for row in seen["accounts"])
        return Exit.OK if compared and not seen["findings"] and not seen["strays"] else Exit.ERROR


def _follow(desk: Desk, account_ids: list[str], timeout_s: float) -> dict[str, list[Json]]:
    from pipeline import reconcile as reconciling

    end = time.monotonic() + timeout_s
    while True:
        seen = reconciling.overview(desk, account_ids)
        if all(row["done"] for row in seen["accounts"]) or time.monotonic() >= end:
            return seen
        time.sleep(LOOK_EVERY_S)


def _outcome(row: Json) -> Text:
    outcome = str(row.get("outcome") or "not yet")
    return Text(outcome, style=STYLE.get(outcome, "yellow"))


def _subject(row: Json) -> str:
    """An order by the end of its id, as everywhere; anything else by its name."""
    subject = str(row.get("subject"))
    return short(subject) if row.get("kind") in ("ORDER", "MISSING", "DAY_OVER") else subject
