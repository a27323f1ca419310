"""`coordinator dlq list`, `show`, `explain` and `tidy`: what has stopped, and why."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ops.answers import Json
from ops.commandline import Flag
from ops.dlq.here import ALL, Matching, desk_here, whole_id
from ops.exits import Exit
from ops.grid import Column, grid
from ops.operating import DEFAULTS, Options
from ops.show import moment, short, state
from ops.story import CALL_COLUMNS, timeline

COLUMNS = (
    Column("order", lambda item: short(item.get("orderId"))),
    Column("work", lambda item: state(item.get("work")), keep=8),
    Column("stage", lambda item: str(item.get("stage"))),
    Column("since (IST)", lambda item: moment(item.get("since")), keep=5),
    Column("tries", lambda item: str(item.get("attempts", "")), keep=4, right=True),
    Column("deaths", lambda item: str(item.get("deaths", "")), keep=3, right=True),
    Column("state", lambda item: state(item.get("state")), keep=6),
    Column(
        "what", lambda item: " ".join(str(item.get(name, "")) for name in ("side", "quantity", "instrument")), keep=7
    ),
    Column("broker", lambda item: str(item.get("broker") or ""), keep=2),
    Column("account", lambda item: str(item.get("account") or ""), keep=1),
    Column("parked until", lambda item: _parked(item), keep=5),
)


def dlq_list(
    *,
    matching: Matching = ALL,
    unknown: Flag = False,
    limit: int = 200,
    after: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Everything that is stuck, oldest order first, with its last error.

    Args:
        unknown: orders whose call ended without a documented answer, instead of those that are stuck.
        limit: how many.
        after: go on from this cursor (`next` of the answer before).
    """
    from pipeline import stuck
    from readmodel.pages import read_id_cursor

    with desk_here(options) as (screen, desk):
        work = "UNKNOWN" if unknown else "STUCK"
        wanted = matching.wanted(work)
        page = stuck.list_stuck(desk, wanted, limit=limit, after=read_id_cursor(after) if after else None)
        document = {"stuck": page.rows, "next": page.next}
        word = "unknown" if unknown else "stuck"
        if page.rows:
            errors = [
                Text(f"{short(item['orderId'])}  {item['error'] or 'no error was recorded'}") for item in page.rows
            ]
            screen.result(document, grid(page.rows, COLUMNS, width=screen.out.width), Text(""), *errors)
        else:
            screen.result(document, Text(f"nothing is {word}{' that matches' if matching.is_narrow else ''}", style="green"))
        if page.next and not options.json:
            screen.note(f"there are more: --after {page.next}")
        others = stuck.count_stuck(desk, ALL.wanted("STUCK" if unknown else "UNKNOWN"))
        if others and not options.json:
            screen.note(f"{others} stuck: coordinator dlq list" if unknown else f"{others} unknown: coordinator dlq list --unknown")
        return Exit.OK


def dlq_show(order_id: str, /, *, options: Options = DEFAULTS) -> Exit:
    """One order that has stopped: everything that is recorded of it.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
    """
    from pipeline import stuck

    with desk_here(options) as (screen, desk):
        document = stuck.explain(desk, whole_id(desk, order_id))
        screen.result(document, *_item(document["item"]), *_record(document, screen.out.width))
        return Exit.OK


def dlq_explain(order_id: str, /, *, options: Options = DEFAULTS) -> Exit:
    """Why an order has stopped, and what may safely be done about it.

    Args:
        order_id: its id, or the last characters of it as the list shows them.
    """
    from pipeline import stuck

    with desk_here(options) as (screen, desk):
        document = stuck.explain(desk, whole_id(desk, order_id))
        screen.result(document, *_explained(document), *_record(document, screen.out.width))
        return Exit.OK


def dlq_tidy(*, stage: str | None = None, options: Options = DEFAULTS) -> Exit:
    """Take letters off the dead-letter queues whose orders aren't stuck any more, as after a killed drain.

    Args:
        stage: only this stage's queue.
    """
    from pipeline import drain

    with desk_here(options) as (screen, desk):
        taken = drain.tidy_after(desk, Matching(stage=stage).wanted("STUCK"))
        screen.result({"taken": taken}, Text(f"{taken} letters were taken off; the rows in the database are the truth"))
        return Exit.OK


def _explained(document: Json) -> list[RenderableType]:
    item = document["item"]
    what = f"{item['side']} {item['quantity']} {item['instrument']}"
    where = " ".join(str(item[name]) for name in ("broker", "account") if item.get(name))
    parts: list[RenderableType] = [
        Text.assemble(("order ", "bold"), item["orderId"], "  ", state(item["work"]), f" at {item['stage']}"),
        Text(f"  {what}{' at ' + where if where else ''}, {item['state']}, our tag {item['brokerTag']}"),
        Text(""),
        Text(document["why"]),
    ]
    search = document.get("search")
    if search:
        told = f"Looked for {search['looks']} times, {search['cleanReads']} reads count; next {moment(search['nextAt'])} IST"
        parts.append(Text(f"{told}, a proof of absence is possible from {moment(search['proofFrom'])} IST."))
    if item.get("parked"):
        parked = item["parked"]
        parts.append(Text(f"Parked by {parked['operator']} {_until(parked)}: {parked['reason']}", style="magenta"))
    return [*parts, Text(""), Text("what may be done", style="bold"), _acts(document["acts"])]


def _acts(acts: Sequence[Json]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 1))
    for act in acts:
        sign = Text("✓", style="green") if act["allowed"] else Text("✗", style="red")
        table.add_row(sign, Text(act["act"], style="bold"), Text(act["why"]))
    return table


def _item(item: Json) -> Sequence[RenderableType]:
    told = {name: value for name, value in item.items() if value is not None and name != "parked"}
    if item.get("parked"):
        told["parked"] = f"{_until(item['parked'])}, by {item['parked']['operator']}: {item['parked']['reason']}"
    return [Text.assemble((f"{name:<15}", "bold"), str(value)) for name, value in told.items()]


def _record(document: Json, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(""), timeline(document["item"], document["events"])]
    if document["calls"]:
        parts += [Text(""), Text("calls", style="bold"), grid(document["calls"], CALL_COLUMNS, width=width)]
    return parts


def _parked(item: Json) -> str:
    return _until(item["parked"]).removeprefix("until ") if item.get("parked") else ""


def _until(parked: Json) -> str:
    return f"until {moment(parked['until'])}" if parked.get("until") else "until taken back"
