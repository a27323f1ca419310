"""Brings an exchange back to where its journal says it was; orders that were under way go on from there."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from brokers.simulator.accounts import Account
from brokers.simulator.book import AFTER_MARKET, Ask, Row, SimOrder, Status, Trade
from brokers.simulator.exchange import Exchange
from brokers.simulator.floor import exchange_order_id
from brokers.simulator.journal import Record, to_moment, to_terms
from brokers.simulator.settings import Settings
from domain.money import Money
from domain.orders import Product, Side


def restore(exchange: Exchange, records: Iterable[Record]) -> None:
    """Replay the records into a fresh exchange, then let every live order go on.

    An order of an instrument that is no longer listed is left out: nobody could ask for it any more.
    """
    exchange.journal.paused = True
    is_first_run = True
    for record in records:
        _REPLAY[record["is"]](exchange, record)
        is_first_run = False
    exchange.journal.paused = False
    if is_first_run:
        exchange.journal.write("start", first_number=exchange.first_number)
    for order in list(exchange.books.live()):
        _go_on(exchange, order)
    exchange.journal.flush()


def _start(exchange: Exchange, record: Record) -> None:
    """Ids go on from where the first run began."""
    exchange.first_number = exchange.floor.first_number = record["first_number"]


def _account(exchange: Exchange, record: Record) -> None:
    fields: dict[str, Any] = {k: v for k, v in record.items() if k not in ("is", "cash_paise")}
    found = exchange.accounts.get(record["user_id"])
    if found is not None:
        found.token_alive, found.postback_url = record["token_alive"], record["postback_url"]
        return
    exchange.add_account(Account(cash=Money(record["cash_paise"]), **fields))


def _order(exchange: Exchange, record: Record) -> None:
    instrument = exchange.listing.get(record["instrument"])
    if instrument is None:
        return
    terms = to_terms(record["terms"])
    accepted_at = to_moment(record["accepted_at"])
    exchange.timeline.now = max(exchange.timeline.now, accepted_at)
    ask = Ask(
        account=record["account"],
        instrument=instrument,
        side=Side(record["side"]),
        product=Product(record["product"]),
        terms=terms,
        tag=record["tag"],
        variety=record["variety"],
        parent_order_id=record["parent_order_id"],
    )
    order = SimOrder(
        sequence=record["sequence"],
        order_id=record["order_id"],
        facade=record["facade"],
        ask=ask,
        accepted_at=accepted_at,
        visible_at=to_moment(record["visible_at"]),
        day=record["day"],
        terms=terms,
        refusal=record["refusal"],
        refusal_code=record["refusal_code"],
    )
    exchange.sequence = max(exchange.sequence, order.sequence)
    exchange.books.enter(order)


def _row(exchange: Exchange, record: Record) -> None:
    order = exchange.books.all.get(record["order_id"])
    if order is None:
        return
    order.status, order.message = Status(record["status"]), record["message"]
    order.terms, order.modifications = to_terms(record["terms"]), record["modifications"]
    order.arrived, order.triggered = record["arrived"], record["triggered"]
    order.extra_tags = tuple(record["extra_tags"])
    order.exchange_order_id = exchange_order_id(order) if order.arrived else None
    at = to_moment(record["at"])
    exchange.timeline.now = max(exchange.timeline.now, at)
    order.rows.append(Row(at, order.status, order.message, order.terms, order.filled, order.average))
    if order.refusal is None:
        exchange.accounts[order.account].block(order, exchange.last(order.instrument))


def _trade(exchange: Exchange, record: Record) -> None:
    order = exchange.books.all.get(record["order_id"])
    if order is None:
        return
    trade = Trade(record["trade_id"], record["quantity"], Decimal(record["price"]), to_moment(record["at"]))
    order.add(trade)
    exchange.accounts[order.account].fill(order, trade.quantity, trade.price)
    exchange.floor.trade_count += 1


def _cancel(exchange: Exchange, record: Record) -> None:
    order = exchange.books.all.get(record["order_id"])
    if order is not None:
        order.cancel_wanted = True


def _pin(exchange: Exchange, record: Record) -> None:
    instrument = exchange.listing.get(record["instrument"])
    if instrument is not None:
        exchange.pin(instrument, None if record["price"] is None else Decimal(record["price"]))


def _settings(exchange: Exchange, record: Record) -> None:
    exchange.use(Settings.model_validate(record["settings"]))


def _session(exchange: Exchange, record: Record) -> None:
    exchange.is_open = record["is_open"]


def _day(exchange: Exchange, record: Record) -> None:
    exchange.end_day()


_REPLAY = {
    "start": _start,
    "account": _account,
    "order": _order,
    "row": _row,
    "trade": _trade,
    "cancel": _cancel,
    "pin": _pin,
    "settings": _settings,
    "session": _session,
    "day": _day,
}


def _go_on(exchange: Exchange, order: SimOrder) -> None:
    floor = exchange.floor
    if order.visible_at > exchange.now:
        exchange.timeline.at(order.visible_at, lambda: floor.publish(order))
    if order.status in AFTER_MARKET:
        return
    if not order.arrived:
        floor.receive(order)
    else:
        if order.status in (Status.MODIFY_VALIDATION, Status.MODIFY_PENDING):
            floor.change(order, Status.NOT_MODIFIED, "the exchange was restarted")
        if order.status is not Status.CANCEL_PENDING:
            floor.change(order, order.rests_as, order.message)
        floor.seek_trade(order)
    if order.cancel_wanted:
        floor.cancel(order, None)
