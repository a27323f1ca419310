"""Zerodha's reading side of orders and trades, how a row of them looks, and what is pushed."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from brokers.simulator.accounts import Account
from brokers.simulator.book import Row, SimOrder, Status, Trade
from brokers.simulator.clock import ist
from brokers.simulator.exchange import Exchange
from brokers.simulator.faults import Kind
from brokers.simulator.service import Call
from brokers.simulator.web import Answer
from brokers.simulator.zerodha import words
from brokers.simulator.zerodha.answers import NO_SUCH_ORDER, success

_BEFORE_EXCHANGE = (Status.RECEIVED, Status.VALIDATION, Status.OPEN_PENDING, Status.AMO_RECEIVED)
_CANCELLED = (Status.CANCELLED, Status.AMO_CANCELLED)
_PUSHED = (Status.COMPLETE, Status.REJECTED, Status.CANCELLED)
# The history shows less than the book.
_BOOK_ONLY = ("exchange_update_timestamp", "status_message_raw", "market_protection", "meta", "tags", "guid")


class Reads:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def book(self, call: Call) -> Answer:
        orders = self._exchange.book(call.owner.user_id)
        if Kind.DUPLICATE_ROWS in call.plan:
            orders = [order for order in orders for _ in range(2)]
        return success([book_row(order, order.rows[-1]) for order in orders])

    def history(self, call: Call) -> Answer:
        order = self._find(call)
        return success([history_row(order, row) for row in order.rows])

    def trades(self, call: Call) -> Answer:
        return success(_trade_rows(self._exchange.book(call.owner.user_id)))

    def order_trades(self, call: Call) -> Answer:
        return success(_trade_rows([self._find(call)]))

    def _find(self, call: Call) -> SimOrder:
        order = self._exchange.find(call.owner.user_id, call.path["order_id"])
        if order is None:
            raise NO_SUCH_ORDER
        return order


def book_row(order: SimOrder, row: Row) -> dict[str, Any]:
    instrument, terms = order.instrument, row.terms
    exchange_id = None if row.status in _BEFORE_EXCHANGE else order.exchange_order_id
    at = words.timestamp(row.at)
    cancelled = terms.quantity - row.filled if row.status in _CANCELLED else 0
    tags = [tag for tag in (order.ask.tag, *order.extra_tags) if tag]
    shown: dict[str, Any] = {
        "placed_by": order.account,
        "order_id": order.order_id,
        "exchange_order_id": exchange_id,
        "parent_order_id": order.ask.parent_order_id,
        "status": words.status_word(row.status),
        "status_message": row.message,
        "status_message_raw": row.message,
        "order_timestamp": words.timestamp(order.accepted_at),
        "exchange_update_timestamp": at if exchange_id else None,
        "exchange_timestamp": at if exchange_id else None,
        "variety": order.ask.variety,
        "modified": order.modifications > 0,
        "exchange": instrument.exchange,
        "tradingsymbol": instrument.symbol,
        "instrument_token": words.instrument_token(instrument),
        "order_type": terms.order_type,
        "transaction_type": order.ask.side,
        "validity": terms.validity,
        "validity_ttl": 0,
        "product": order.ask.product,
        "quantity": terms.quantity,
        "disclosed_quantity": terms.disclosed,
        "price": terms.price,
        "trigger_price": terms.trigger,
        "average_price": row.average,
        "filled_quantity": row.filled,
        "pending_quantity": 0 if row.status is Status.REJECTED else terms.quantity - row.filled,
        "cancelled_quantity": cancelled,
        "market_protection": 0,
        "meta": {},
        "tag": order.ask.tag,
        "guid": f"{order.sequence}XSIM",
    }
    if tags:
        shown["tags"] = tags
    return shown


def history_row(order: SimOrder, row: Row) -> dict[str, Any]:
    shown = book_row(order, row)
    return {name: value for name, value in shown.items() if name not in _BOOK_ONLY} | {
        "order_timestamp": words.timestamp(row.at)
    }


def _trade_rows(orders: Iterable[SimOrder]) -> list[dict[str, Any]]:
    return [_trade_row(order, trade) for order in orders for trade in order.trades]


def _trade_row(order: SimOrder, trade: Trade) -> dict[str, Any]:
    return {
        "trade_id": trade.trade_id,
        "order_id": order.order_id,
        "exchange": order.instrument.exchange,
        "tradingsymbol": order.instrument.symbol,
        "instrument_token": words.instrument_token(order.instrument),
        "product": order.ask.product,
        "average_price": trade.price,
        "quantity": trade.quantity,
        "exchange_order_id": order.exchange_order_id,
        "transaction_type": order.ask.side,
        "fill_timestamp": words.timestamp(trade.at),
        "order_timestamp": f"{ist(order.accepted_at):%H:%M:%S}",
        "exchange_timestamp": words.timestamp(trade.at),
    }


def update(order: SimOrder, row: Row, account: Account) -> dict[str, Any] | None:
    """What a postback says of a change: only an end, a modification or a partial fill is told."""
    before = order.rows[-2].filled if len(order.rows) > 1 else 0
    shown = book_row(order, row)
    if row.status not in _PUSHED:
        if row.status is not Status.MODIFIED and row.filled <= before:
            return None
        shown["status"] = "UPDATE"
    secret = f"{order.order_id}{shown['order_timestamp']}{account.api_secret}"
    return shown | {
        "user_id": order.account,
        "app_id": 1001,
        "unfilled_quantity": row.terms.quantity - row.filled,
        "checksum": sha256(secret.encode()).hexdigest(),
    }
