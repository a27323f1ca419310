"""Upstox's reading side of orders and trades, and how a row of them looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any

from brokers.simulator.book import NOTHING, Row, SimOrder, Status, Trade
from brokers.simulator.clock import ist_date
from brokers.simulator.exchange import Exchange
from brokers.simulator.faults import Kind
from brokers.simulator.service import Call
from brokers.simulator.upstox import words
from brokers.simulator.upstox.answers import BAD_INPUT, NO_SUCH_ORDER, Problem, Refused, success
from brokers.simulator.upstox.asks import order_id_of
from brokers.simulator.web import Answer
from domain.instruments import Segment

_SEGMENT_LETTERS = {
    Segment.CASH: "EQ",
    Segment.EQUITY_DERIVATIVES: "FO",
    Segment.COMMODITY: "COM",
    Segment.CURRENCY: "CD",
}


class Reads:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def book(self, call: Call) -> Answer:
        orders = self._exchange.book(call.owner.user_id)
        if Kind.DUPLICATE_ROWS in call.plan:
            orders = [order for order in orders for _ in range(2)]
        return success([book_row(order) for order in orders])

    def details(self, call: Call) -> Answer:
        return success(book_row(self._find(call)))

    def history(self, call: Call) -> Answer:
        """Every state of one order, or of all the orders that carry a tag."""
        order_id, tag = call.request.first("order_id"), call.request.first("tag")
        if order_id is None and tag is None:
            raise Refused(Problem("UDAPI100059", "Either order_id or tag is required"))
        if order_id is not None:
            orders = [self._find(call)]
            if tag is not None:
                orders = [order for order in orders if order.ask.tag == tag]
        else:
            orders = self._exchange.tagged(call.owner.user_id, tag or "")
        if not orders:
            raise Refused(replace(NO_SUCH_ORDER, path="tag", value=tag))
        return success([history_row(order, row) for order in orders for row in order.rows])

    def trades(self, call: Call) -> Answer:
        return success(_trade_rows(self._exchange.book(call.owner.user_id)))

    def order_trades(self, call: Call) -> Answer:
        return success(_trade_rows([self._find(call)]))

    def historical_trades(self, call: Call) -> Answer:
        """Trades of any day, without order ids, as the back office tells them."""
        fields = {name: call.request.first(name) for name in ("start_date", "end_date", "page_number", "page_size")}
        try:
            first, end = (date.fromisoformat(fields[name] or "") for name in ("start_date", "end_date"))
            page, size = (int(fields[name] or "") for name in ("page_number", "page_size"))
        except ValueError:
            raise Refused(BAD_INPUT) from None
        if page < 1 or size < 1:
            raise Refused(BAD_INPUT)
        segment = call.request.first("segment")
        rows = [
            _historical_row(order, trade)
            for order in self._exchange.books.all.values()
            if order.account == call.owner.user_id and segment in (None, _SEGMENT_LETTERS[order.instrument.segment])
            for trade in order.trades
            if first <= ist_date(trade.at) <= end
        ]
        pages = {
            "page_number": page,
            "page_size": size,
            "total_records": len(rows),
            "total_pages": -(-len(rows) // size),
        }
        return success(rows[(page - 1) * size : page * size], errors=None, meta_data={"page": pages})

    def _find(self, call: Call) -> SimOrder:
        order_id = order_id_of(call.request.first("order_id"), code="UDAPI1023")
        order = self._exchange.find(call.owner.user_id, order_id)
        if order is None:
            raise Refused(replace(NO_SUCH_ORDER, value=order_id))
        return order


def history_row(order: SimOrder, row: Row) -> dict[str, Any]:
    instrument, terms = order.instrument, row.terms
    reached = row.status not in (Status.RECEIVED, Status.VALIDATION, Status.OPEN_PENDING, Status.AMO_RECEIVED)
    exchange_id = order.exchange_order_id if reached else None
    return {
        "exchange": instrument.exchange,
        "product": words.PRODUCTS[order.ask.product],
        "price": terms.price,
        "quantity": terms.quantity,
        "status": row.status,
        "tag": order.ask.tag,
        "instrument_token": words.instrument_key(instrument),
        "placed_by": order.account,
        "trading_symbol": words.book_symbol(instrument),
        "tradingsymbol": words.book_symbol(instrument),
        "order_type": terms.order_type,
        "validity": terms.validity,
        "trigger_price": terms.trigger,
        "disclosed_quantity": terms.disclosed,
        "transaction_type": order.ask.side,
        "average_price": row.average,
        "filled_quantity": row.filled,
        "status_message": row.message,
        "exchange_order_id": exchange_id or "",
        "parent_order_id": order.ask.parent_order_id,
        "order_id": order.order_id,
        "variety": "SIMPLE",
        "order_timestamp": words.timestamp(row.at),
        "exchange_timestamp": words.timestamp(row.at) if exchange_id else None,
        "is_amo": order.rows[0].status is Status.AMO_RECEIVED,
        "order_request_id": str(order.modifications + 1),
    }


def book_row(order: SimOrder) -> dict[str, Any]:
    return book_row_at(order, order.rows[-1])


def book_row_at(order: SimOrder, row: Row) -> dict[str, Any]:
    return history_row(order, row) | {
        "guid": None,
        "pending_quantity": 0 if row.status in _NOTHING_PENDING else row.terms.quantity - row.filled,
        "status_message_raw": row.message,
        "order_ref_id": f"5774{order.sequence:010d}",
    }


_NOTHING_PENDING = (Status.COMPLETE, Status.REJECTED)


def _trade_rows(orders: Iterable[SimOrder]) -> list[dict[str, Any]]:
    return [trade_row(order, trade) for order in orders for trade in order.trades]


def trade_row(order: SimOrder, trade: Trade) -> dict[str, Any]:
    instrument = order.instrument
    return {
        "exchange": instrument.exchange,
        "product": words.PRODUCTS[order.ask.product],
        "trading_symbol": words.book_symbol(instrument),
        "tradingsymbol": words.book_symbol(instrument),
        "instrument_token": words.instrument_key(instrument),
        "order_type": order.terms.order_type,
        "transaction_type": order.ask.side,
        "quantity": trade.quantity,
        "exchange_order_id": order.exchange_order_id,
        "order_id": order.order_id,
        "exchange_timestamp": words.trade_timestamp(trade.at),
        "average_price": trade.price,
        "trade_id": trade.trade_id,
        "order_ref_id": f"5774{order.sequence:010d}",
        "order_timestamp": words.trade_timestamp(order.accepted_at),
    }


def _historical_row(order: SimOrder, trade: Trade) -> dict[str, Any]:
    instrument = order.instrument
    amount = trade.price * trade.quantity * instrument.multiplier
    return {
        "exchange": instrument.exchange if not instrument.is_derivative else words.segment(instrument)[:3],
        "segment": _SEGMENT_LETTERS[instrument.segment],
        "option_type": instrument.kind if instrument.is_option else "",
        "quantity": trade.quantity,
        "amount": amount,
        "trade_id": trade.trade_id,
        "trade_date": ist_date(trade.at).isoformat(),
        "transaction_type": order.ask.side,
        "scrip_name": instrument.underlying or instrument.symbol,
        "strike_price": str(float(instrument.strike or NOTHING)),
        "expiry": instrument.expiry.isoformat() if instrument.expiry else "",
        "price": trade.price,
        "isin": instrument.isin or "",
        "symbol": instrument.symbol,
        "instrument_token": words.instrument_key(instrument),
    }
