"""Upstox's words (v2 and v3 of its API): our order in them, its book, errors and statuses in ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from brokers.answers import Unfit, last_of, order_id_of, price_of, retry_after_s, signed, text_of, time_of, whole, word
from brokers.base import Line
from brokers.dialects import terms
from brokers.dialects.books import state_of
from brokers.dialects.meanings import outcome_of, outcome_without_words
from brokers.dialects.terms import NotTranslatable
from brokers.dialects.upstox_errors import ErrorTable
from brokers.transport import Answer, Answered
from domain import reference
from domain.instruments import Instrument
from domain.lifecycle import OrderState
from domain.market import trading_day
from domain.orders import Order, Product
from domain.outcomes import BookRow, Fill, Outcome, Unknown
from domain.positions import Position

PRODUCTS = {Product.CNC: "D", Product.MIS: "I", Product.NRML: "D", Product.MTF: "MTF"}
SEGMENTS = {"NSE": "NSE_EQ", "BSE": "BSE_EQ", "NFO": "NSE_FO", "BFO": "BSE_FO", "CDS": "NCD_FO"}


@dataclass(frozen=True, slots=True)
class Error:
    code: str
    message: str
    correlation_id: str | None


# None: an interim word that leaves the order in the state it had.
STATES: Mapping[str, OrderState | None] = {
    "put order req received": OrderState.SUBMITTED,
    "after market order req received": OrderState.SUBMITTED,
    "validation pending": OrderState.SUBMITTED,
    "open pending": OrderState.SUBMITTED,
    "open": OrderState.OPEN,
    "trigger pending": OrderState.TRIGGER_PENDING,
    "modify validation pending": None,
    "modify pending": None,
    "modified": None,
    "not modified": None,
    "modify after market order req received": None,
    "cancel pending": None,
    "not cancelled": None,
    "complete": OrderState.FILLED,
    "cancelled": OrderState.CANCELLED,
    "cancelled after market order": OrderState.CANCELLED,
    "rejected": OrderState.REJECTED,
}


def place_fields(line: Line) -> dict[str, Any]:
    """The line as v3 place takes it. Slicing stays off: one order, one tag, one order at the broker."""
    order = line.order
    return {
        "product": PRODUCTS[order.product],
        "tag": terms.tag(order),
        "instrument_token": instrument_key(line.instrument),
        "transaction_type": order.side.value,
        "is_amo": False,
        "slice": False,
        **_terms(order),
    }


# Of a modify: "order_id, validity, price, order_type, trigger_price" are required in the documentation of PUT
# /v3/order/modify, and so in the model of the broker's own SDK; quantity, disclosed_quantity and market_protection are not.
_DEMANDED = frozenset({"validity", "price", "order_type", "trigger_price"})


def modify_fields(broker_order_id: str, line: Line, changed: Collection[str]) -> dict[str, Any]:
    """The changed terms and what a modify demands. A market protection goes with a type that needs one from now on."""
    if "disclosed_quantity" in changed and not line.order.disclosed_quantity:
        raise NotTranslatable("Upstox takes no disclosed quantity of 0 in a modify: what is disclosed stays disclosed")
    wanted = {*_DEMANDED, *changed, *(("market_protection",) if "order_type" in changed else ())}
    return {"order_id": broker_order_id, **{name: of for name, of in _terms(line.order).items() if name in wanted}}


def instrument_key(instrument: Instrument) -> str:
    """Upstox's key: NSE_EQ|ISIN for equity, NSE_FO|token for derivatives."""
    segment = SEGMENTS.get(instrument.exchange)
    if segment is None:
        raise NotTranslatable(f"Upstox has no segment for exchange {instrument.exchange}")
    if instrument.is_derivative:
        if instrument.multiplier != 1:
            raise NotTranslatable(f"{instrument.key} isn't counted in units, and Upstox takes units")
        return f"{segment}|{instrument.token}"
    if not instrument.isin:
        raise NotTranslatable(f"{instrument.key} has no ISIN, by which Upstox knows equities")
    return f"{segment}|{instrument.isin}"


def book_row(row: Mapping[str, Any], fills: tuple[Fill, ...]) -> BookRow:
    broker_order_id = order_id_of(row.get("order_id"))
    if broker_order_id is None:
        raise Unfit("a row of the book has no order id")
    status = word(row, "status").strip().lower()
    quantity, filled = whole(row, "quantity"), whole(row, "filled_quantity")
    return BookRow(
        broker_order_id=broker_order_id,
        tag=text_of(row.get("tag")),
        state=state_of(STATES.get(status), quantity, filled),
        status=status,
        quantity=quantity,
        filled_quantity=filled,
        average_price=price_of(row, "average_price"),
        price=price_of(row, "price"),
        trigger_price=price_of(row, "trigger_price"),
        message=text_of(row.get("status_message")),
        exchange_order_id=text_of(row.get("exchange_order_id")),
        at=last_of(row, "order_timestamp", "exchange_timestamp"),
        fills=fills,
        order_type=terms.order_type_of(row),
        validity=terms.validity_of(row),
        disclosed_quantity=terms.disclosed_of(row),
    )


def fill(row: Mapping[str, Any]) -> tuple[str, Fill]:
    """One trade, with the id of its order."""
    broker_order_id = order_id_of(row.get("order_id"))
    at = time_of(row.get("exchange_timestamp")) or time_of(row.get("order_timestamp"))
    price = price_of(row, "average_price")
    if broker_order_id is None or at is None or price is None:
        raise Unfit("a trade has no order id, time or price")
    return broker_order_id, Fill(
        trade_id=word(row, "trade_id"),
        exchange=word(row, "exchange"),
        quantity=whole(row, "quantity"),
        price=price,
        at=at,
    )


def position(row: Mapping[str, Any]) -> Position:
    name, letter = word(row, "instrument_token"), word(row, "product")
    return Position(
        instrument=_instruments(trading_day(datetime.now(UTC))).get(name),
        name=name,
        product=_product(letter, is_derivative="_FO|" in name),
        quantity=signed(row, "quantity"),
        carried=signed(row, "overnight_quantity"),
        average_price=price_of(row, "average_price"),
    )


def _product(letter: str, *, is_derivative: bool) -> Product | None:
    match letter:
        case "D":  # delivery: one letter for what is carried, be it shares or contracts
            return Product.NRML if is_derivative else Product.CNC
        case "I":
            return Product.MIS
        case "MTF":
            return Product.MTF
    return None


@lru_cache(maxsize=2)
def _instruments(today: date) -> Mapping[str, str]:
    """Canonical keys by Upstox's, of all that it has words for."""
    keys = {}
    for instrument in reference.all_instruments(today).values():
        try:
            keys[instrument_key(instrument)] = instrument.key
        except NotTranslatable:
            continue
    return keys


def outcome_of_error(answer: Answer, table: ErrorTable) -> Outcome:
    """The outcome of a call that gave no receipt. With several errors every one must be a documented no."""
    match answer:
        case Answered(status, {"errors": [_, *_]} as body) if 400 <= status < 500:
            if body.get("status") in (None, "error") and not body.get("data"):  # else it says yes and no
                return outcome_of_errors(errors_of(body), table, answer)
    return outcome_without_words(answer)


def outcome_of_errors(errors: Sequence[Error], table: ErrorTable, answer: Answered) -> Outcome:
    code, message = errors[0].code, "; ".join(error.message for error in errors)
    status, wait_s = answer.status, retry_after_s(answer.headers)
    known = [table[error.code].meaning if error.code in table else None for error in errors]
    outcomes = [outcome_of(meaning, code, message, status=status, retry_after_s=wait_s) for meaning in known]
    return next((outcome for outcome in outcomes if isinstance(outcome, Unknown)), outcomes[0])


def errors_of(body: Mapping[str, Any]) -> list[Error]:
    """The errors of an answer, each with the line it is of in a multi-place. Keys come in two spellings."""
    rows = body.get("errors")
    return [_error(row if isinstance(row, Mapping) else {}) for row in (rows if isinstance(rows, list) else ())]


def _error(row: Mapping[str, Any]) -> Error:
    return Error(
        code=text_of(row.get("error_code")) or text_of(row.get("errorCode")) or "",
        message=text_of(row.get("message")) or "",
        correlation_id=text_of(row.get("correlation_id")) or text_of(row.get("correlationId")),
    )


def _terms(order: Order) -> dict[str, Any]:
    fields = {
        "quantity": order.quantity,
        "disclosed_quantity": order.disclosed_quantity,
        "order_type": order.order_type.value,
        "validity": order.validity.value,
        "price": terms.price(order) or 0,
        "trigger_price": terms.trigger_price(order) or 0,
    }
    protection = terms.market_protection(order)
    return fields if protection is None else {**fields, "market_protection": protection}
