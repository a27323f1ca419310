"""How documents look to a person: their columns, states in their colours, times in India's time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation

from rich.text import Text

from domain.money import Money
from ops.answers import Json
from ops.grid import Column
from ops.orderfile import line_label

IST = timezone(timedelta(hours=5, minutes=30), "IST")
SHORT_ID = 8  # trailing characters of an id: the random ones, the leading ones are its time

STATE_STYLE = {
    "RECEIVED": "default",
    "HELD": "magenta",
    "SENDING": "blue",
    "UNKNOWN": "bold yellow",
    "SUBMITTED": "blue",
    "OPEN": "cyan",
    "TRIGGER_PENDING": "cyan",
    "PARTIALLY_FILLED": "cyan",
    "FILLED": "green",
    "CANCELLED": "bright_black",
    "REJECTED": "red",
    "EXPIRED": "bright_black",
    "DONE": "green",
    "PARTIAL": "yellow",
    "RUNNING": "blue",
    "MARKED": "magenta",
    "NONE": "red",
}

# What an order shows, by column.

ORDER_COLUMNS = (
    Column("order", lambda order: short(order.get("orderId")), keep=6),
    Column("leg", lambda order: str(order.get("correlationId") or ""), keep=5, least=8),
    Column("instrument", lambda order: str(order.get("instrument") or "")),
    Column("side", lambda order: side(order)),
    Column("quantity", lambda order: number(order.get("quantity")), right=True),
    Column("terms", lambda order: terms(order), keep=1),
    Column("state", lambda order: state(order.get("state"))),
    Column("broker", lambda order: str(order.get("broker") or ""), keep=7),
    Column("account", lambda order: str(order.get("account") or ""), keep=0),
    Column("filled", lambda order: number(order.get("filledQuantity")), keep=8, right=True),
    Column("average", lambda order: price(order.get("averagePrice")), keep=4, right=True),
    Column("reason", lambda order: Text(reason_code(order), style="red"), keep=3),
)
LINE = Column("#", lambda order: str(int(order.get("line", 0)) + 1), right=True)
CHANGED = Column("changed (IST)", lambda order: clock(order.get("updatedAt")), keep=2)

TRADE_COLUMNS = (
    Column("time (IST)", lambda trade: moment(trade.get("at"))),
    Column("trade", lambda trade: str(trade.get("tradeId") or ""), keep=4),
    Column("order", lambda trade: short(trade.get("orderId")), keep=6),
    Column("instrument", lambda trade: str(trade.get("instrument") or "")),
    Column("side", lambda trade: side(trade)),
    Column("quantity", lambda trade: number(trade.get("quantity")), right=True),
    Column("price", lambda trade: price(trade.get("price")), right=True),
    Column("value", lambda trade: value(trade), keep=3, right=True),
    Column("broker", lambda trade: str(trade.get("broker") or ""), keep=7),
    Column("account", lambda trade: str(trade.get("account") or ""), keep=1),
)

INTENT_COLUMNS = (
    Column("intent", lambda intent: str(intent.get("intentId") or "")),
    Column("kind", lambda intent: str(intent.get("kind") or ""), keep=5),
    Column("status", lambda intent: state(intent.get("status"))),
    Column("settled", lambda intent: f"{intent.get('settled', '?')} of {intent.get('total', '?')}", right=True),
    Column("accepted (IST)", lambda intent: moment(intent.get("acceptedAt")), keep=6),
)

BROKER_COLUMNS = (
    Column("broker", lambda row: str(row.get("broker") or "")),
    Column("account", lambda row: str(row.get("account") or ""), keep=8),
    Column("session", lambda row: health(row.get("session"))),
    Column("circuit", lambda row: health(row.get("circuit"))),
    Column("queued", lambda row: number(row.get("queued")), right=True),
    Column("open orders", lambda row: number(row.get("openOrders")), keep=6, right=True),
    Column("blocked", lambda row: rupees(row.get("blocked")), keep=7, right=True),
    Column("limit", lambda row: rupees(row.get("limit")), keep=5, right=True),
    Column("lines a call", lambda row: number(row.get("multiPlace")), keep=3, right=True),
    Column("calendar", lambda row: str(row.get("calendar") or ""), keep=2),
)


def broker_rows(answer: Json) -> list[Json]:
    """One row per account, its broker's figures beside it."""
    rows: list[Json] = []
    for broker in answer.get("brokers", []):
        figures = {name: broker.get(name) for name in ("broker", "circuit", "queued", "multiPlace")}
        rows += [{**account, **figures} for account in broker.get("accounts") or [{}]]
    return rows


def reasons(orders: Iterable[Json]) -> list[Text]:
    """For each line that was refused or is in doubt, the whole reason: a table has no room for it."""
    found = []
    for order in orders:
        words = reason(order)
        if words:
            label = line_label(int(order.get("line", 0)), order)
            found.append(Text.assemble(f"{label} ", state(order.get("state")), f"  {words}"))
    return found


def reason(order: Json) -> str:
    """Why it stands where it stands: "RISK_LIMIT: order value …", or what its stage last met."""
    given, work = order.get("reason"), order.get("work") or {}
    if isinstance(given, dict):
        return f"{given.get('code')}: {given.get('text')}" if given.get("text") else str(given.get("code"))
    if work.get("state") == "STUCK":
        return f"stuck in {work.get('stage')}: {work.get('error') or 'no error was recorded'}; an operator must look"
    if order.get("state") == "UNKNOWN":
        where = order.get("broker") or "the broker"
        return f"nobody can say yet whether {where} took it; its book is searched. Don't place it again."
    if work.get("state") == "HELD":
        return str(work.get("error") or "waits for its group")
    if work.get("error"):
        return f"{work.get('stage')} tries again: {work['error']}"
    return ""


def reason_code(order: Json) -> str:
    given = order.get("reason")
    return str(given.get("code") or "") if isinstance(given, dict) else ""


def terms(order: Json) -> str:
    """ "CNC LIMIT 1,512.50", with the trigger of a stop and the validity when it isn't the day."""
    words = [str(order.get(name)) for name in ("product", "orderType") if order.get(name)]
    if order.get("price") is not None:
        words.append(price(order["price"]))
    if order.get("triggerPrice") is not None:
        words.append(f"at {price(order['triggerPrice'])}")
    if order.get("validity") not in (None, "DAY"):
        words.append(str(order["validity"]))
    return " ".join(words)


def state(name: object) -> Text:
    return Text(str(name or ""), style=STATE_STYLE.get(str(name), "default"))


def health(word: object) -> Text:
    """A session's or circuit's word in the colour of what it means."""
    text = str(word if word is not None else "")
    style = "red" if text in ("DEAD", "OPEN", "HALTED") else "green" if text in ("ALIVE", "CLOSED") else "yellow"
    return Text(text, style=style)


def side(document: Json) -> Text:
    word = str(document.get("side") or "")
    return Text(word, style="green" if word == "BUY" else "red" if word == "SELL" else "default")


def number(value: object) -> str:
    return "" if value is None or isinstance(value, bool) else str(value)


def price(value: object) -> str:
    """A price with as many decimals as it needs, at least two, and the digits grouped as in India: "1,23,456.7525"."""
    exact = _decimal(value)
    if exact is None:
        return "" if value is None else str(value)
    whole, _, part = f"{abs(exact):f}".partition(".")
    grouped = str(Money(int(whole) * 100)).removeprefix("₹").removesuffix(".00")
    return f"{'-' if exact < 0 else ''}{grouped}.{part.rstrip('0').ljust(2, '0')}"


def rupees(value: object) -> str:
    exact = _decimal(value)
    return ("" if value is None else str(value)) if exact is None else str(Money.of_rupees(exact))


def value(trade: Json) -> str:
    exact, quantity = _decimal(trade.get("price")), trade.get("quantity")
    return str(Money.of_rupees(exact * quantity)) if exact is not None and isinstance(quantity, int) else ""


def short(identifier: object) -> str:
    return str(identifier or "")[-SHORT_ID:]


def parse_time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(IST)
    except ValueError:
        return None


def clock(text: object) -> str:
    """The time of day in India, to the millisecond."""
    at = parse_time(text)
    return "" if at is None else at.strftime("%H:%M:%S.") + f"{at.microsecond // 1000:03d}"


def moment(text: object) -> str:
    at = parse_time(text)
    return "" if at is None else at.strftime("%d %b %H:%M:%S")


def _decimal(value: object) -> Decimal | None:
    try:
        return None if value is None or isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        return None
