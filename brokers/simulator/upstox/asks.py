"""Reads an order out of a request's JSON, with every fault of its form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

from brokers.simulator.book import NOTHING, Ask, Terms
from brokers.simulator.faults import Kind, Plan
from brokers.simulator.listing import Listing
from brokers.simulator.upstox import words
from brokers.simulator.upstox.answers import BAD_INPUT, NOT_JSON, Problem, Refused
from brokers.simulator.web import Request
from domain.orders import OrderType, Product, Side, Validity

TAG_MAX = 40
_PROTECTION_MAX = 25
_PRICE_MAX = 10**9
_ORDER_ID = re.compile(r"[A-Za-z0-9-]+\Z")


def body_of(request: Request) -> Any:
    """The JSON body, its numbers exact.

    Raises:
        Refused: it is no JSON.
    """
    try:
        return json.loads(request.body or b"{}", parse_float=Decimal)
    except ValueError:
        raise Refused(NOT_JSON) from None


def order_id_of(value: Any, *, code: str) -> str:
    """
    Raises:
        Refused: it is missing (with the code given), or of other characters than an order id has.
    """
    if not value:
        raise Refused(Problem(code, "Order id is required", "order_id"))
    if not isinstance(value, str) or not _ORDER_ID.match(value):
        raise Refused(Problem("UDAPI1010", "Order id accepts only alphanumeric characters and '-'.", "order_id", value))
    return value


def read_order(line: Any, listing: Listing, account: str, plan: Plan) -> tuple[Ask, bool]:
    """The order and whether it wants to be sliced.

    Raises:
        Refused: with everything that is wrong with it.
    """
    problems = list(_find_problems(line, listing))
    if problems:
        raise Refused(*problems)
    instrument = listing.by(words.instrument_key)[line["instrument_token"]]
    product = words.product(line["product"], instrument)
    assert product is not None
    ask = Ask(
        account=account,
        instrument=instrument,
        side=Side(line["transaction_type"]),
        product=product,
        terms=read_terms(line, None),
        tag=line.get("tag") or None,
        variety="SIMPLE",
        hidden_s=plan.seconds(Kind.LATE_VISIBILITY),
        forced_refusal=plan.message(Kind.REJECT, "16388 : The exchange rejected the order"),
    )
    return ask, line.get("slice") is True


def read_terms(line: dict[str, Any], old: Terms | None) -> Terms:
    """The terms of a new order, or of a modify on top of the old ones. The form was checked before."""
    order_type = OrderType(line["order_type"])
    protection = line.get("market_protection")
    terms = Terms(
        quantity=int(line["quantity"] if old is None else line.get("quantity") or old.quantity),
        order_type=order_type,
        price=_number(line.get("price")) if order_type in (OrderType.LIMIT, OrderType.SL) else NOTHING,
        trigger=_number(line.get("trigger_price")) if order_type in (OrderType.SL, OrderType.SL_M) else NOTHING,
        validity=Validity(line["validity"]),
        disclosed=int(line.get("disclosed_quantity") or 0),
        protection=None if protection is None else _number(protection),
    )
    return terms if old is None or terms.disclosed else replace(terms, disclosed=old.disclosed)


def as_number(value: Any) -> Decimal:
    """
    Raises:
        Refused: it is no number, or none that could be a price.
    """
    if not _is_number(value) or not 0 <= _number(value) <= _PRICE_MAX:
        raise Refused(replace(BAD_INPUT, value=str(value)))
    return _number(value)


def find_term_problems(line: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong with the fields that a place and a modify have in common."""
    yield from _word(line, "order_type", OrderType, "UDAPI1004", "UDAPI1056")
    yield from _word(line, "validity", Validity, "UDAPI1007", "UDAPI1055")
    for name in ("price", "trigger_price"):
        value = line.get(name)
        if not _is_number(value) or not 0 <= _number(value) <= _PRICE_MAX:
            yield replace(BAD_INPUT, message=f"{name} is missing or no possible price", path=name, value=value)
    if line.get("order_type") in ("LIMIT", "SL") and _is_number(line.get("price")) and not line["price"]:
        yield replace(BAD_INPUT, message="price is required for LIMIT and SL orders", path="price", value=0)
    protection = line.get("market_protection")
    if protection is not None and (not _is_number(protection) or not -1 <= _number(protection) <= _PROTECTION_MAX):
        yield Problem("UDAPI1159", "Market protection must be from -1 to 25", "market_protection", protection)


def _find_problems(line: Any, listing: Listing) -> Iterator[Problem]:
    if not isinstance(line, dict):
        yield NOT_JSON
        return
    key = line.get("instrument_token")
    if not key:
        yield Problem("UDAPI1026", "Instrument key is required", "instrument_token")
    instrument = listing.by(words.instrument_key).get(key) if isinstance(key, str) else None
    if key and instrument is None:
        yield Problem("UDAPI100011", "Invalid Instrument key", "instrument_token", key)
    quantity = line.get("quantity")
    if not isinstance(quantity, int) or isinstance(quantity, bool) or quantity <= 0:
        yield Problem("UDAPI1052", "The quantity cannot be zero", "quantity", quantity)
    if line.get("product") not in ("D", "I", "MTF"):
        yield Problem("UDAPI1054", "The product is invalid", "product", line.get("product"))
    elif (
        instrument is not None
        and words.product(line["product"], instrument) is Product.MTF
        and instrument.is_derivative
    ):
        yield Problem("UDAPI1054", "The product is invalid for this instrument", "product", "MTF")
    if line.get("transaction_type") not in ("BUY", "SELL"):
        yield Problem("UDAPI1057", "The transaction type is invalid", "transaction_type", line.get("transaction_type"))
    yield from find_term_problems(line)
    if not isinstance(line.get("is_amo"), bool):
        yield replace(BAD_INPUT, message="is_amo is required", path="is_amo", value=line.get("is_amo"))
    if not isinstance(line.get("disclosed_quantity"), int):
        yield replace(BAD_INPUT, message="disclosed_quantity is required", path="disclosed_quantity")
    tag = line.get("tag")
    if tag is not None and (not isinstance(tag, str) or len(tag) > TAG_MAX):
        yield Problem("UDAPI1119", f"Tag is longer than {TAG_MAX} characters", "tag", tag)


def _word(line: dict[str, Any], name: str, words_of: Any, missing: str, invalid: str) -> Iterator[Problem]:
    value = line.get(name)
    if value is None:
        yield Problem(missing, f"The {name} is required", name)
    elif value not in tuple(words_of):
        yield Problem(invalid, f"The {name} is invalid", name, value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    return Decimal(value).is_finite()


def _number(value: Any) -> Decimal:
    return Decimal(value or 0)
