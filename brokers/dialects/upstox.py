"""Upstox's words (v2 and v3 of its API): our order in them, its book, errors and statuses in ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brokers.answers import Unfit, last_of, order_id_of, price_of, retry_after_s, text_of, time_of, whole, word
from brokers.base import Line
from brokers.dialects import terms
from brokers.dialects.books import state_of
from brokers.dialects.meanings import Meaning, outcome_of, outcome_without_words
from brokers.dialects.terms import NotTranslatable
from brokers.transport import Answer, Answered
from domain.instruments import Instrument
from domain.lifecycle import OrderState
from domain.orders import Order, Product
from domain.outcomes import BookRow, Fill, Outcome

PRODUCTS = {Product.CNC: "D", Product.MIS: "I", Product.NRML: "D", Product.MTF: "MTF"}
SEGMENTS = {"NSE": "NSE_EQ", "BSE": "BSE_EQ", "NFO": "NSE_FO", "BFO": "BSE_FO", "CDS": "NCD_FO"}


@dataclass(frozen=True, slots=True)
class Error:
    code: str
    message: str
    correlation_id: str | None


# Codes are reused with other meanings in other calls, so each call has its table. What isn't here is not documented
# for the call, and means nothing. 4xx only: a 5xx says nothing whatever its code.
_ANY_CALL = {
    "UDAPI10005": Meaning.BUSY,
    "UDAPI100099": Meaning.BUSY,  # the token's own limit
    "UDAPI100050": Meaning.LOGGED_OUT,  # invalid token
    "UDAPI100016": Meaning.LOGGED_OUT,  # invalid credentials
    "UDAPI100067": Meaning.LOGGED_OUT,  # a read-only token
    "UDAPI10000": Meaning.REFUSED,  # the request isn't known
    "UDAPI100060": Meaning.REFUSED,  # the path isn't known
    "UDAPI100073": Meaning.REFUSED,  # the app is inactive
    "UDAPI100015": Meaning.REFUSED,  # API version missing
    "UDAPI100036": Meaning.REFUSED,  # invalid input
    "UDAPI100038": Meaning.REFUSED,  # invalid input
    "UDAPI100074": Meaning.REFUSED,  # between midnight and 05:30
    "UDAPI100049": Meaning.REFUSED,  # the account must use another product
    "UDAPI1154": Meaning.REFUSED,  # the address isn't the registered one
    "UDAPI1156": Meaning.REFUSED,  # X-Algo-Name missing or not known
}
_TERMS = {
    "UDAPI1004": Meaning.REFUSED,  # order_type missing
    "UDAPI1056": Meaning.REFUSED,  # order_type invalid
    "UDAPI1007": Meaning.REFUSED,  # validity missing
    "UDAPI1055": Meaning.REFUSED,  # validity invalid
    "UDAPI1052": Meaning.REFUSED,  # quantity zero
    "UDAPI1158": Meaning.REFUSED,  # market orders are blocked
    "UDAPI1159": Meaning.REFUSED,  # market_protection over 25 %
    "UDAPI1161": Meaning.REFUSED,  # MCX is disabled
}
PLACE_ERRORS = {
    **_ANY_CALL,
    **_TERMS,
    "UDAPI1026": Meaning.REFUSED,  # instrument key missing
    "UDAPI100011": Meaning.REFUSED,  # instrument key invalid
    "UDAPI1054": Meaning.REFUSED,  # product invalid
    "UDAPI1057": Meaning.REFUSED,  # transaction_type invalid
    "UDAPI1104": Meaning.REFUSED,  # not a multiple of the lot
    "UDAPI100039": Meaning.REFUSED,  # after-market flag wrong
    "UDAPI1118": Meaning.REFUSED,  # too many slices or lines
    "UDAPI1119": Meaning.REFUSED,  # tag too long
}
MULTI_PLACE_ERRORS = {
    **PLACE_ERRORS,
    "UDAPI1114": Meaning.REFUSED,  # no lines
    "UDAPI1115": Meaning.REFUSED,  # correlation_id missing
    "UDAPI1116": Meaning.REFUSED,  # correlation_id too long
    "UDAPI1117": Meaning.REFUSED,  # correlation_id twice
}
MODIFY_ERRORS = {
    **_ANY_CALL,
    **_TERMS,
    "UDAPI1003": Meaning.REFUSED,  # order id missing
    "UDAPI100010": Meaning.REFUSED,  # order id not known
    "UDAPI100041": Meaning.REFUSED,  # the order is over
}
READ_ERRORS = {**_ANY_CALL, "UDAPI100072": Meaning.REFUSED}  # funds between midnight and 05:30
CANCEL_ERRORS = {
    **_ANY_CALL,
    "UDAPI1023": Meaning.REFUSED,  # order id missing
    "UDAPI1010": Meaning.REFUSED,  # order id of a wrong form
    "UDAPI100010": Meaning.REFUSED,  # order id not known
    "UDAPI100040": Meaning.REFUSED,  # the order is over
}

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


def modify_fields(broker_order_id: str, line: Line) -> dict[str, Any]:
    return {"order_id": broker_order_id, **_terms(line.order)}


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


def outcome_of_error(answer: Answer, table: Mapping[str, Meaning]) -> Outcome:
    """The outcome of a call that gave no receipt. With several errors every one must be a documented no."""
    if isinstance(answer, Answered) and 400 <= answer.status < 500:
        errors = errors_of(answer.body)
        if errors:
            return outcome_of_errors(errors, table, answer)
    return outcome_without_words(answer)


def outcome_of_errors(errors: Sequence[Error], table: Mapping[str, Meaning], answer: Answered) -> Outcome:
    first = errors[0]
    known = all(error.code in table for error in errors)
    return outcome_of(
        table[first.code] if known else None,
        first.code,
        "; ".join(error.message for error in errors),
        status=answer.status,
        retry_after_s=retry_after_s(answer.headers),
    )


def errors_of(body: object) -> list[Error]:
    """The errors of an answer, each with the line it is of in a multi-place. Keys come in two spellings."""
    rows = body.get("errors") if isinstance(body, Mapping) else None
    return [
        Error(
            code=text_of(row.get("error_code")) or text_of(row.get("errorCode")) or "",
            message=text_of(row.get("message")) or "",
            correlation_id=text_of(row.get("correlation_id")) or text_of(row.get("correlationId")),
        )
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, Mapping)
    ]


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
