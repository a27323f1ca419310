"""The commands that ask: intents, orders, trades, brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ops.answers import Json
from ops.changeshow import show_changes
from ops.changewatch import stream_changes, watch_changes, whole
from ops.exits import Exit, Failed
from ops.grid import Column, grid
from ops.placing import end_of, show_intent, watch
from ops.progress import StreamProgress
from ops.session import DEFAULTS, Options, Session, session
from ops.show import (
    BROKER_COLUMNS,
    CHANGED,
    INTENT_COLUMNS,
    ORDER_COLUMNS,
    TRADE_COLUMNS,
    broker_rows,
    moment,
    price,
    reason,
    state,
    terms,
)
from ops.story import story
from ops.watching import follow

if TYPE_CHECKING:
    from ops.client import Client

FULL_ID = 36
SEARCHED = 500  # recent orders among which the end of an id is looked for


def intent_show(intent_id: str, /, *, options: Options = DEFAULTS) -> Exit:
    """One intent and its lines as they stand now.

    Args:
        intent_id: its id.
    """
    with session(options) as here:
        intent = here.client.intent(intent_id)
        if places(intent):
            show_intent(here, intent)
        else:
            show_changes(here, whole(here.client, intent_id) if options.json else intent)
        return Exit.OK


def intent_watch(intent_id: str, /, *, timeout: float = 600.0, options: Options = DEFAULTS) -> Exit:
    """Follow an intent until its lines are settled; exits as the command that made it. With --json, a document per change.

    Args:
        intent_id: its id.
        timeout: seconds to follow it for.
    """
    with session(options) as here:
        intent = here.client.intent(intent_id)
        if not places(intent):
            if options.json:
                return stream_changes(here, intent_id, timeout_s=timeout)
            return watch_changes(here, intent, timeout_s=timeout)
        if not options.json:
            return watch(here, intent, timeout_s=timeout)
        return end_of(here, follow(here.client, intent, StreamProgress(here.screen), timeout_s=timeout))


def intents(*, limit: int = 20, after: str | None = None, options: Options = DEFAULTS) -> Exit:
    """The latest intents, newest first.

    Args:
        limit: how many.
        after: go on from this cursor (`next` of the answer before).
    """
    with session(options) as here:
        return _list(here, here.client.pages("intents", limit=limit, after=after), "intents", INTENT_COLUMNS)


def orders(
    *,
    state: str | None = None,
    broker: str | None = None,
    account: str | None = None,
    instrument: str | None = None,
    intent: str | None = None,
    limit: int = 50,
    after: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Orders, newest first.

    Args:
        state: only those in this state, such as OPEN or UNKNOWN.
        broker: only those at this broker.
        account: only those of this account.
        instrument: only those of this instrument, such as NSE:INFY.
        intent: only the lines of this intent.
        limit: how many.
        after: go on from this cursor (`next` of the answer before).
    """
    wanted = {"state": _upper(state), "broker": _upper(broker), "account": account, "instrument": _upper(instrument)}
    with session(options) as here:
        page = here.client.pages("orders", limit=limit, after=after, intent=intent, **wanted)
        return _list(here, page, "orders", (*ORDER_COLUMNS, CHANGED))


def order_show(order_id: str, /, *, options: Options = DEFAULTS) -> Exit:
    """One order as it stands now.

    Args:
        order_id: its id, or the last characters of it as tables show them.
    """
    with session(options) as here:
        order = here.client.order(find_order_id(here.client, order_id))
        here.screen.result(order, *_order_in_words(order))
        return Exit.OK


def order_explain(order_id: str, /, *, options: Options = DEFAULTS) -> Exit:
    """The whole story of one order: what was asked, each verdict with its numbers, each call, each fill.

    Args:
        order_id: its id, or the last characters of it as tables show them.
    """
    with session(options) as here:
        full_id = find_order_id(here.client, order_id)
        order, history = here.client.order(full_id), here.client.history(full_id)
        trades = here.client.trades_of(full_id)["trades"]
        events, calls = history["events"], history.get("calls", [])
        document = {"order": order, "events": events, "calls": calls, "trades": trades}
        here.screen.result(document, *story(order, events, calls, trades, width=here.screen.out.width))
        return Exit.OK


def order_trades(order_id: str, /, *, options: Options = DEFAULTS) -> Exit:
    """The trades of one order.

    Args:
        order_id: its id, or the last characters of it as tables show them.
    """
    with session(options) as here:
        return _list(here, here.client.trades_of(find_order_id(here.client, order_id)), "trades", TRADE_COLUMNS)


def trades(
    *,
    broker: str | None = None,
    account: str | None = None,
    instrument: str | None = None,
    limit: int = 50,
    after: str | None = None,
    options: Options = DEFAULTS,
) -> Exit:
    """Trades, newest first.

    Args:
        broker: only those at this broker.
        account: only those of this account.
        instrument: only those of this instrument, such as NSE:INFY.
        limit: how many.
        after: go on from this cursor (`next` of the answer before).
    """
    with session(options) as here:
        page = here.client.pages(
            "trades", limit=limit, after=after, broker=_upper(broker), account=account, instrument=_upper(instrument)
        )
        return _list(here, page, "trades", TRADE_COLUMNS)


def brokers(*, options: Options = DEFAULTS) -> Exit:
    """The brokers and accounts this key may use: sessions, circuits, queues, money blocked."""
    with session(options) as here:
        answer = here.client.brokers()
        here.screen.result(answer, grid(broker_rows(answer), BROKER_COLUMNS, width=here.screen.out.width))
        return Exit.OK


def version(*, options: Options = DEFAULTS) -> Exit:
    """The version of this command and of the coordinator it talks to."""
    from importlib.metadata import version as installed

    with session(options) as here:
        mine, theirs = installed("order-coordinator"), here.client.version()
        told = "  ".join(f"{name} {value}" for name, value in theirs.items() if value)
        lines = (Text(f"trader       {mine}"), Text(f"coordinator  {told}  ({here.target.base_url})"))
        here.screen.result({"trader": mine, "coordinator": theirs, "baseUrl": here.target.base_url}, *lines)
        return Exit.OK


def places(intent: Json) -> bool:
    """Whether an intent's lines are orders that it places, or changes of orders."""
    return intent.get("kind") in (None, "PLACE")


def find_order_id(client: Client, text: str) -> str:
    """The full id of an order given by its id or by the end of it, among the caller's recent orders.

    Raises:
        Failed: none of them, or several of them, end so.
    """
    if len(text) >= FULL_ID:
        return text
    found = [
        str(order["orderId"])
        for order in client.pages("orders", limit=SEARCHED)["orders"]
        if str(order.get("orderId", "")).endswith(text)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise Failed(Exit.USAGE, f"{len(found)} orders end in {text}", mend="Give more of it: " + ", ".join(found[:5]))
    raise Failed(
        Exit.ERROR, f"none of the last {SEARCHED} orders ends in {text}", mend="Give the whole id.", code="NOT_FOUND"
    )


def _list(here: Session, page: Json, noun: str, columns: tuple[Column, ...]) -> Exit:
    rows = page.get(noun, [])
    if rows:
        here.screen.result(page, grid(rows, columns, width=here.screen.out.width))
    else:
        here.screen.result(page, Text(f"no {noun}", style="bright_black"))
    if page.get("next") and not here.screen.json:
        here.screen.note(f"there are more: --after {page['next']}")
    return Exit.OK


def _order_in_words(order: Json) -> list[Text]:
    filled = f"{order.get('filledQuantity', 0)} of {order.get('quantity')}"
    if order.get("averagePrice") is not None:
        filled += f" at {price(order['averagePrice'])} on average"
    work = order.get("work") or {}
    facts = {
        "order": order.get("orderId"),
        "intent": f"{order.get('intentId')} line {int(order.get('line', 0)) + 1} ({order.get('correlationId')})",
        "state": state(order.get("state")),
        "what": f"{order.get('side')} {order.get('quantity')} {order.get('instrument')}  {terms(order)}",
        "filled": filled,
        "where": " ".join(str(order[name]) for name in ("broker", "account", "brokerOrderId") if order.get(name)),
        "work": " ".join(str(work[name]) for name in ("stage", "state") if work.get(name)),
        "changing": ", ".join(_changing(change) for change in order.get("changes") or []),
        "reason": reason(order),
        "tag": order.get("tag"),
        "strategy": order.get("strategy"),
        "version": order.get("version"),
        "accepted": moment(order.get("acceptedAt")),
        "changed": moment(order.get("updatedAt")),
    }
    return [Text.assemble((f"{name:<10}", "bold"), _plain(value)) for name, value in facts.items() if _plain(value)]


def _changing(change: Json) -> str:
    """ "CANCEL in cancel (READY), told ACCEPTED, intent 0197…"."""
    work = change.get("work") or {}
    told = f", told {change['told']}" if change.get("told") else ""
    return f"{change.get('kind')} in {work.get('stage')} ({work.get('state')}){told}, intent {change.get('intentId')}"


def _upper(word: str | None) -> str | None:
    return word.upper() if word is not None else None


def _plain(value: object) -> Text | str:
    return value if isinstance(value, Text) else "" if value is None else str(value)
