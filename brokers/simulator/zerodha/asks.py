"""Reads an order out of a request's form."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypeVar

from brokers.simulator.book import NOTHING, Ask, Terms
from brokers.simulator.faults import Kind, Plan
from brokers.simulator.listing import Listing
from brokers.simulator.zerodha.answers import NO_PROTECTION, bad_input
from domain.orders import OrderType, Product, Side, Validity

Word = TypeVar("Word", bound=StrEnum)

TAG_MAX = 20
_NUMBER_MAX = 10**9
VARIETIES = ("regular", "amo")
_LIMITED = (OrderType.LIMIT, OrderType.SL)
_STOPS = (OrderType.SL, OrderType.SL_M)
_UNLIMITED = (OrderType.MARKET, OrderType.SL_M)


def read_order(form: Mapping[str, str], variety: str, listing: Listing, account: str, plan: Plan) -> Ask:
    """
    Raises:
        Refused: for the first thing that is wrong with its form.
    """
    if variety not in VARIETIES:
        raise bad_input("Invalid `variety`.")
    instrument = listing.get(f"{form.get('exchange')}:{form.get('tradingsymbol')}")
    if instrument is None:
        raise bad_input("The instrument you are placing an order for has either expired or does not exist.")
    tag = form.get("tag") or None
    if tag is not None and len(tag) > TAG_MAX:
        raise bad_input(f"Invalid `tag`. The maximum allowed length is {TAG_MAX} characters.")
    return Ask(
        account=account,
        instrument=instrument,
        side=_word(form, "transaction_type", Side),
        product=_word(form, "product", Product),
        terms=read_terms(form, None),
        tag=tag,
        variety=variety,
        hidden_s=plan.seconds(Kind.LATE_VISIBILITY),
        forced_refusal=plan.message(Kind.REJECT, "16388 : The exchange rejected the order"),
    )


def read_terms(form: Mapping[str, str], old: Terms | None) -> Terms:
    """The terms of a new order, or of a modify, whose missing fields keep the old ones.

    Raises:
        Refused
    """
    order_type = (
        old.order_type if old is not None and "order_type" not in form else _word(form, "order_type", OrderType)
    )
    price = _number(form, "price", old.price if old else NOTHING) if order_type in _LIMITED else NOTHING
    trigger = _number(form, "trigger_price", old.trigger if old else NOTHING) if order_type in _STOPS else NOTHING
    if order_type in _LIMITED and price <= 0:
        raise bad_input("Missing or empty field `price`")
    if order_type in _STOPS and trigger <= 0:
        raise bad_input("Missing or empty field `trigger_price`")
    validity = old.validity if old is not None else Validity.DAY
    return Terms(
        quantity=_whole(form, "quantity", old.quantity if old else None),
        order_type=order_type,
        price=price,
        trigger=trigger,
        validity=_word(form, "validity", Validity) if form.get("validity") else validity,
        disclosed=_whole(form, "disclosed_quantity", old.disclosed if old else 0, least=0),
        protection=_protection(form, order_type, old),
    )


def _protection(form: Mapping[str, str], order_type: OrderType, old: Terms | None) -> Decimal | None:
    """Mandatory where an order has no limit; one that was accepted already needn't say it again."""
    if order_type not in _UNLIMITED:
        return None
    if "market_protection" not in form and old is not None and old.order_type in _UNLIMITED:
        return old.protection
    percent = _number(form, "market_protection", NOTHING)
    if percent == 0:
        raise NO_PROTECTION
    if percent != -1 and not 0 < percent <= 100:
        raise bad_input("Invalid `market_protection`.")
    return percent


def _word(form: Mapping[str, str], name: str, words: type[Word]) -> Word:
    try:
        return words(form.get(name, ""))
    except ValueError:
        raise bad_input(f"Invalid `{name}`." if form.get(name) else f"Missing or empty field `{name}`") from None


def _whole(form: Mapping[str, str], name: str, otherwise: int | None, *, least: int = 1) -> int:
    text = form.get(name)
    if not text and otherwise is not None:
        return otherwise
    if not text or len(text) > 12 or not text.isascii() or not text.isdigit() or not least <= int(text) <= _NUMBER_MAX:
        raise bad_input(f"Invalid `{name}`.")
    return int(text)


def _number(form: Mapping[str, str], name: str, otherwise: Decimal) -> Decimal:
    text = form.get(name)
    if not text:
        return otherwise
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise bad_input(f"Invalid `{name}`.") from None
    if not number.is_finite() or not -1 <= number <= _NUMBER_MAX:
        raise bad_input(f"Invalid `{name}`.")
    return number
