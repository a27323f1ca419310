"""`trader order explain`: an order's history as a story with its numbers, from the record alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from domain.changes import ATTEMPTS_OF_A_SEQ
from domain.money import Money
from ops.answers import Json
from ops.grid import Column, grid
from ops.show import TRADE_COLUMNS, clock, moment, parse_time, price, reason, rupees, state, terms

VERDICT_SIGN = {"PROCEED": ("✓", "green"), "REJECT": ("✗", "bold red"), "WAIT": ("‖", "magenta")}
PPM_PER_PERCENT = 10_000
ABBREVIATED = 4  # up to so many capitals are an abbreviation: STT, GST, SEBI
UNITS = frozenset({"paise", "ppm"})  # told with the figure, not in its name
HIDDEN = frozenset({"set", "verdicts", "charges", "charges_paise", "rate_card", "request", "tag"})  # told elsewhere

SENTENCES = {
    "RECEIVED": "accepted and written down",
    "CLEARED": "validate, risk, margin and route let it pass",
    "RELEASED": "what it waited for in its group has come: it may be sent",
    "SLICED": "over the freeze quantity: cut into slices, which go out in its place",
    "SENDING": "about to be sent to {broker}",
    "NOT_SENT": "provably not sent; it may be sent again",
    "PROVEN_ABSENT": "{broker}'s book proves that it was not taken; it may be sent again",
    "RECONCILED": "{broker} has told more than the record had; it is there now",
    "SUBMITTED": "{broker} gave a receipt: {broker_order_id}",
    "UNKNOWN": "nobody can say yet whether {broker} took it; its book is being read",
    "OPENED": "rests at the exchange",
    "TRIGGER_PENDING": "waits at the exchange for its trigger",
    "PARTIALLY_FILLED": "filled {filled_quantity} of {quantity}",
    "FILLED": "filled, {filled_quantity} of {quantity}, at {average_price} on average",
    "CANCELLED": "cancelled",
    "REJECTED": "rejected",
    "EXPIRED": "the day ended first",
    "STUCK": "its stage gave up; an operator must look",
    "REQUEUED": "sent back to its stage",
    "NEW_TERMS": "its new terms may be asked for",
    "CANCEL_REQUESTED": "its cancel was asked for",
    "CANCEL_REFUSED": "{broker} did not take the cancel: it goes on as it was",
    "CANCEL_WITHDRAWN": "its cancel was taken back before it was asked for",
    "MODIFYING": "new terms are about to be asked for at {broker}",
    "MODIFIED": "{broker}'s book shows the new terms",
    "MODIFY_REFUSED": "the new terms were not taken; it goes on as it was",
    "SETTLED": "settled by hand: what follows is an operator's word",
}
SOURCELESS = ("UNKNOWN", "NOT_SENT")  # that an answer is missing isn't told by anybody
SOURCES = {
    "CLIENT": "by the client",
    "PIPELINE": "",
    "BROKER_ANSWER": "by the broker's answer",
    "POLL": "found in the broker's book",
    "EVIDENCE": "by two clean reads of the broker's book",
    "POSTBACK": "after a postback",
    "STREAM": "by the broker's stream",
    "LATE_ANSWER": "by a late answer",
    "RECONCILE": "by reconciliation",
    "OPERATOR": "by an operator",
    "CLOCK": "by the clock",
}


def story(
    order: Json, events: Sequence[Json], calls: Sequence[Json], trades: Sequence[Json], *, width: int
) -> list[RenderableType]:
    """The order, its timeline, its calls, its fills, its charges, how it ended."""
    parts: list[RenderableType] = [*_heading(order), Text(""), timeline(order, events)]
    if calls:
        parts += [Text(""), Text("calls", style="bold"), grid(calls, CALL_COLUMNS, width=width)]
    if trades:
        parts += [Text(""), Text("fills", style="bold"), grid(trades, _FILL_COLUMNS, width=width)]
    charges = _charges(order, events)
    if charges:
        parts += [Text(""), Text("charges, estimated", style="bold"), *charges]
    return [*parts, Text(""), _ending(order, events)]


CALL_COLUMNS = (
    Column("#", lambda call: str(int(call.get("number") or 0) % ATTEMPTS_OF_A_SEQ), right=True),
    Column("began (IST)", lambda call: clock(call.get("startedAt")), keep=6),
    Column("took", lambda call: _took(call), keep=7, right=True),
    Column("kind", lambda call: "" if call.get("kind") == "PLACE" else str(call.get("kind") or ""), keep=6),
    Column("at", lambda call: str(call.get("broker") or ""), keep=5),
    Column("account", lambda call: str(call.get("account") or ""), keep=2),
    Column("lines", lambda call: str(call.get("lines") or ""), keep=1, right=True),
    Column("outcome", lambda call: _outcome(call)),
    Column("answer", lambda call: facts(call.get("answer") or {}), keep=8, least=12),
)
_OUTCOME_STYLE = {"ACCEPTED": "green", "REFUSED": "red", "NOT_SENT": "yellow"}


def _took(call: Json) -> str:
    began, ended = parse_time(call.get("startedAt")), parse_time(call.get("endedAt"))
    return duration((ended - began).total_seconds()).removeprefix("+") if began and ended else ""


def _outcome(call: Json) -> Text:
    word = call.get("outcome")
    if word is None:
        return Text(f"none was written by {clock(call.get('leaseUntil'))}", style="bold yellow")
    return Text(str(word), style=_OUTCOME_STYLE.get(str(word), "bold yellow"))


_FILL_COLUMNS = tuple(column for column in TRADE_COLUMNS if column.title not in ("order", "instrument", "side"))


def _heading(order: Json) -> list[Text]:
    what = f"{order.get('side')} {order.get('quantity')} {order.get('instrument')}  {terms(order)}"
    where = [f"{word} {order[name]}" for name, word in _WHERE.items() if order.get(name)]
    return [
        Text.assemble(("order ", "bold"), str(order.get("orderId"))),
        Text(f"  {what}"),
        Text(
            f"  line {int(order.get('line', 0)) + 1} ({order.get('correlationId')}) of intent {order.get('intentId')}"
        ),
        *([Text("  " + ", ".join(where))] if where else []),
    ]


_WHERE = {
    "broker": "at",
    "account": "account",
    "brokerOrderId": "their number",
    "brokerTag": "our tag",
    "policy": "policy",
    "after": "after",
}


def timeline(order: Json, events: Sequence[Json]) -> Table:
    """What happened, event by event, with the time between them where it is known."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    timed = any(event.get("at") for event in events)
    if timed:
        table.add_column("time (IST)", no_wrap=True)
        table.add_column("after", justify="right", no_wrap=True, style="bright_black")
    table.add_column("event", no_wrap=True)
    table.add_column("what happened", overflow="fold")
    known: dict[str, Any] = {"quantity": order.get("quantity"), "broker": order.get("broker") or "the broker"}
    before: datetime | None = None
    for event in events:
        detail = event.get("detail") or {}
        known.update({name: value for name, value in (detail.get("set") or {}).items() if value is not None})
        known["broker"] = str(known["broker"]).upper() if "broker" in (detail.get("set") or {}) else known["broker"]
        at = parse_time(event.get("at"))
        between = duration((at - before).total_seconds()) if at and before else ""
        times = (clock(event.get("at")), between) if timed else ()
        table.add_row(*times, _event_name(event), Group(*_told(event, detail, known)))
        before = at or before
    return table


def _event_name(event: Json) -> Text:
    name = str(event.get("type"))
    return Text(name, style=state(event.get("state")).style if name not in ("STUCK", "NOT_SENT") else "bold yellow")


def _told(event: Json, detail: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The event's sentence, then what its detail adds: a line per verdict, the rest as facts."""
    source = SOURCES.get(str(event.get("source")), str(event.get("source") or ""))
    source = "" if event.get("type") in SOURCELESS else source
    told = "NEW_TERMS" if event.get("type") == "CLEARED" and detail.get("modify") else str(event.get("type"))
    sentence = SENTENCES.get(told, "").format_map(_Words(known))
    yield Text(", ".join(words for words in (sentence, source) if words))
    if isinstance(detail.get("request"), Mapping):
        yield Text(_asked(detail["request"]), style="bright_black")
    rest = {name: value for name, value in detail.items() if name not in HIDDEN}
    if detail.get("verdicts"):
        yield _verdicts(detail["verdicts"])
        rest.pop("stage", None)  # the last verdict's
    elif event.get("type") == "REJECTED" and known.get("reason_code"):
        told = f"{known['reason_code']}: {known['reason']}" if known.get("reason") else str(known["reason_code"])
        yield Text(told, style="red")
    if facts(rest):
        yield Text(facts(rest), style="bright_black")


def _asked(request: Json) -> str:
    """ "asked for BUY 10 NSE:INFY CNC LIMIT 1,512.50 at UPSTOX"."""
    what = " ".join(str(request[name]) for name in ("side", "quantity", "instrument") if request.get(name))
    where = [str(request[name]) for name in ("broker", "account") if request.get(name)]
    protection = request.get("marketProtection")
    more = [f"market protection {protection} %"] if protection else []
    more += [f"{_name(name)} {request[name]}" for name in ("disclosedQuantity", "strategy", "tag") if request.get(name)]
    at = f" at {' '.join(where)}" if where else ""
    return ", ".join([f"asked for {what} {terms(request)}{at}", *more])


def _verdicts(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """What each stage said, and the numbers by which it judged."""
    table = Table.grid(padding=(0, 1, 0, 0))
    for verdict in verdicts:
        word = str(verdict.get("verdict") or "")
        told = [str(one) for one in (*(verdict.get("reasons") or []), verdict.get("why")) if one]
        judged_by = {name: value for name, value in (verdict.get("facts") or {}).items() if name not in HIDDEN}
        if judged_by:
            told.append(facts(judged_by))
        sign, style = VERDICT_SIGN.get(word, (word or "?", "default"))
        words = "; ".join(told) or "nothing to add"
        words = f"{verdict['code']}: {words}" if verdict.get("code") else words
        table.add_row(str(verdict.get("stage") or "?"), Text(sign, style), Text(words))
    return table


def facts(value: Any) -> str:
    """Names and numbers as they were judged: "order value ₹15,125.00 · limit ₹5,00,000.00"."""
    if not isinstance(value, Mapping):
        return ", ".join(facts(one) for one in value) if isinstance(value, list | tuple) else str(value)
    told = [(_name(str(name)), _fact(str(name), one)) for name, one in value.items() if one is not None]
    return " · ".join(f"{name} {words}" for name, words in told if words)


def _name(name: str) -> str:
    if name.isupper() and len(name) <= ABBREVIATED:
        return name
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name)).lower().split("_")
    return " ".join(word for word in words if word not in UNITS)


def _fact(name: str, value: Any) -> str:
    if name.lower().endswith("paise") and isinstance(value, int):
        return str(Money(value))
    if name.lower().endswith("ppm") and isinstance(value, int):
        return f"{value / PPM_PER_PERCENT:g} %"
    if name == "band" and isinstance(value, list | tuple) and len(value) == 2:
        return f"{price(value[0])} to {price(value[1])}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"({facts(value)})" if isinstance(value, Mapping) else facts(value)


def _charges(order: Json, events: Sequence[Json]) -> list[Text]:
    """The newest estimate there is: the order's own, else the last that a verdict or an event tells, line by line."""
    told: Mapping[str, Any] = order
    for event in events if not order.get("charges") else ():
        detail = event.get("detail") or {}
        for place in (detail, *(verdict.get("facts") or {} for verdict in detail.get("verdicts") or [])):
            told = place if place.get("charges") else told
    lines = told.get("charges")
    if not isinstance(lines, Mapping):
        return []
    shown = [
        Text(f"  {_name(name):<24}{rupees(amount):>14}") for name, amount in lines.items() if rupees(amount) != "₹0.00"
    ]
    if isinstance(told.get("charges_paise"), int):
        card = f"  (rates of {told['rate_card']})" if told.get("rate_card") else ""
        shown.append(
            Text.assemble((f"  {'total':<24}{Money(told['charges_paise'])!s:>14}", "bold"), (card, "bright_black"))
        )
    return shown


def _ending(order: Json, events: Sequence[Json]) -> Text:
    first, last = (parse_time(events[index].get("at")) if events else None for index in (0, -1))
    words = f" {order.get('filledQuantity', 0)} of {order.get('quantity')} filled"
    if order.get("averagePrice") is not None:
        words += f" at {price(order['averagePrice'])}"
    if first and last:
        words += f", {duration((last - first).total_seconds()).removeprefix('+')} from first to last event"
    words += f"; last change {moment(order.get('updatedAt'))} IST" if order.get("updatedAt") else ""
    why = f"\n{reason(order)}" if reason(order) else ""
    return Text.assemble(("now ", "bold"), state(order.get("state")), words, (why, "red"))


def duration(seconds: float) -> str:
    """ "+4.2 ms", "+1.50 s", "+2 min 05 s"."""
    if seconds < 1:
        return f"+{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"+{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"+{minutes} min {rest:02d} s"


class _Words(dict[str, Any]):
    """What is known so far, for a sentence; prices grouped, a gap where nothing is known."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        super().__init__(
            {**known, **({"average_price": price(known["average_price"])} if known.get("average_price") else {})}
        )

    def __missing__(self, name: str) -> str:
        return "…"
