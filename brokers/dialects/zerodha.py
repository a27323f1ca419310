"""Zerodha's words (Kite Connect 3): our order in them, its book, errors and statuses in ours."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal

from brokers.answers import (
    Unfit,
    last_of,
    order_id_of,
    plain_number,
    price_of,
    retry_after_s,
    signed,
    text_of,
    time_of,
    whole,
    word,
)
from brokers.base import Line
from brokers.dialects import terms
from brokers.dialects.books import Row, state_of
from brokers.dialects.meanings import Documented, Meaning, outcome_of, outcome_without_words
from brokers.dialects.terms import NotTranslatable
from brokers.transport import Answer, Answered
from domain.ids import TAG_ALPHABET, TAG_LENGTH
from domain.lifecycle import OrderState
from domain.orders import Order, Product
from domain.outcomes import BookRow, Fill, Outcome
from domain.positions import Position

EXCHANGES = frozenset({"NSE", "BSE", "NFO", "BFO"})  # CDS is counted in lots there; our quantities are units
TAG_FORM = re.compile(f"[{TAG_ALPHABET}]{{{TAG_LENGTH}}}")

# By status and error_type: the same type says another thing under another status. A pair that isn't here is not
# documented, and proves nothing.
ErrorTable = Mapping[tuple[int, str], Documented]

CANCEL_ERRORS: ErrorTable = {
    (403, "TokenException"): Documented(Meaning.LOGGED_OUT, "the session is over or invalid"),
    (403, "PermissionException"): Documented(Meaning.REFUSED, "not permitted; the address isn't registered"),
    (403, "UserException"): Documented(Meaning.REFUSED, "something about the account"),
    (400, "UserException"): Documented(Meaning.REFUSED, "something about the account"),
    (400, "InputException"): Documented(Meaning.REFUSED, "a parameter is missing or wrong"),
    (400, "OrderException"): Documented(Meaning.REFUSED, "the order can't be placed or changed"),
    (429, "NetworkException"): Documented(Meaning.BUSY, "over the rate limit"),
    (500, "OrderException"): Documented(Meaning.NOTHING, "the order couldn't be placed or fetched"),
    (503, "NetworkException"): Documented(Meaning.NOTHING, "the order system can't be reached"),
    (502, "DataException"): Documented(Meaning.NOTHING, "the order system's answer isn't understood"),
    (504, "DataException"): Documented(Meaning.NOTHING, "the order system's answer isn't understood"),
    (500, "GeneralException"): Documented(Meaning.NOTHING, "anything else"),
}
READ_ERRORS = CANCEL_ERRORS
MODIFY_ERRORS: ErrorTable = {
    **CANCEL_ERRORS,
    (400, "MarginException"): Documented(Meaning.REFUSED, "not enough funds; a new order stands in the book, rejected"),
    (400, "HoldingException"): Documented(Meaning.REFUSED, "not enough holdings; likewise"),
}
PLACE_ERRORS = MODIFY_ERRORS

# None: an interim word that leaves the order in the state it had.
STATES: Mapping[str, OrderState | None] = {
    "PUT ORDER REQ RECEIVED": OrderState.SUBMITTED,
    "AMO REQ RECEIVED": OrderState.SUBMITTED,
    "VALIDATION PENDING": OrderState.SUBMITTED,
    "OPEN PENDING": OrderState.SUBMITTED,
    "OPEN": OrderState.OPEN,
    "TRIGGER PENDING": OrderState.TRIGGER_PENDING,
    "MODIFY VALIDATION PENDING": None,
    "MODIFY PENDING": None,
    "MODIFIED": None,
    "NOT MODIFIED": None,
    "MODIFY AMO REQ RECEIVED": None,
    "CANCEL PENDING": None,
    "NOT CANCELLED": None,
    "COMPLETE": OrderState.FILLED,
    "CANCELLED": OrderState.CANCELLED,
    "CANCELLED AMO": OrderState.CANCELLED,
    "REJECTED": OrderState.REJECTED,
}


def place_fields(line: Line) -> dict[str, str]:
    """The form of a regular order."""
    order, instrument = line.order, line.instrument
    if instrument.exchange not in EXCHANGES:
        raise NotTranslatable(f"{instrument.key} isn't counted in units at Zerodha, or not sold there")
    return {
        "exchange": instrument.exchange,
        "tradingsymbol": instrument.symbol,
        "transaction_type": order.side.value,
        "product": order.product.value,
        "tag": terms.tag(order),
        **change_fields(order),
    }


def change_fields(order: Order) -> dict[str, str]:
    """The terms, those only that the type of order has; Zerodha wants nothing else."""
    fields = {
        "order_type": order.order_type.value,
        "quantity": str(order.quantity),
        "validity": order.validity.value,
    }
    optional: dict[str, Decimal | None] = {
        "price": terms.price(order),
        "trigger_price": terms.trigger_price(order),
        "market_protection": terms.market_protection(order),
        "disclosed_quantity": Decimal(order.disclosed_quantity) if order.disclosed_quantity else None,
    }
    return {**fields, **{name: plain_number(value) for name, value in optional.items() if value is not None}}


def modify_fields(order: Order, changed: Collection[str]) -> dict[str, str]:
    """The changed terms alone; all fields of PUT /orders/:variety/:order_id are optional.

    "LIMIT→MARKET needs market_protection; already-MARKET need not resend" (Kite's forum, 2026).
    """
    fields = change_fields(order)
    if "disclosed_quantity" in changed:
        fields["disclosed_quantity"] = str(order.disclosed_quantity)
    wanted = {*changed, *(("market_protection",) if "order_type" in changed else ())}
    return {name: value for name, value in fields.items() if name in wanted}


def book_row(row: Row, fills: tuple[Fill, ...]) -> BookRow:
    broker_order_id = order_id_of(row.get("order_id"))
    if broker_order_id is None:
        raise Unfit("a row of the book has no order id")
    status = word(row, "status").strip().upper()
    quantity, filled = whole(row, "quantity"), whole(row, "filled_quantity")
    return BookRow(
        broker_order_id=broker_order_id,
        tag=tag_of(row),
        state=state_of(STATES.get(status), quantity, filled),
        status=status,
        quantity=quantity,
        filled_quantity=filled,
        average_price=price_of(row, "average_price"),
        price=price_of(row, "price"),
        trigger_price=price_of(row, "trigger_price"),
        message=text_of(row.get("status_message")),
        exchange_order_id=text_of(row.get("exchange_order_id")),
        at=last_of(row, "exchange_update_timestamp", "order_timestamp"),
        fills=fills,
        order_type=terms.order_type_of(row),
        validity=terms.validity_of(row),
        disclosed_quantity=terms.disclosed_of(row),
    )


def tag_of(row: Row) -> str | None:
    """The order's tag: the one of our form, be it in `tag` or among `tags`, where Zerodha puts words of its own."""
    tag, tags = text_of(row.get("tag")), row.get("tags")
    if tag is None or not TAG_FORM.fullmatch(tag):
        for other in tags if isinstance(tags, list) else ():
            if isinstance(other, str) and TAG_FORM.fullmatch(other):
                return other
    return tag


def fill(row: Row) -> tuple[str, Fill]:
    """One trade, with the id of its order."""
    broker_order_id = order_id_of(row.get("order_id"))
    at = time_of(row.get("fill_timestamp")) or time_of(row.get("exchange_timestamp"))
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


def position(row: Row) -> Position:
    """One position. Our instruments are named as Zerodha's are, but for currency contracts, which it counts in lots."""
    exchange, name = word(row, "exchange"), f"{word(row, 'exchange')}:{word(row, 'tradingsymbol')}"
    product = word(row, "product")
    return Position(
        instrument=name if exchange in EXCHANGES else None,
        name=name,
        product=Product(product) if product in Product.__members__ else None,
        quantity=signed(row, "quantity"),
        carried=signed(row, "overnight_quantity"),
        average_price=price_of(row, "average_price"),
    )


def outcome_of_error(answer: Answer, table: ErrorTable) -> Outcome:
    """The outcome of a call that gave no receipt."""
    match answer:
        case Answered(status, {"status": "error", "error_type": str(kind)} as body) if not body.get("data"):
            documented = table.get((status, kind))
            return outcome_of(
                documented.meaning if documented else None,
                kind,
                text_of(body.get("message")) or "",
                status=status,
                retry_after_s=retry_after_s(answer.headers),
            )
    return outcome_without_words(answer)
