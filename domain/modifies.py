"""Modifies: the terms of an order that may be asked to change, whether they may, and what a broker's book shows of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from domain.capabilities import Capabilities
from domain.intents import QUANTITY_MAX, Price
from domain.lifecycle import AT_BROKER, OrderState
from domain.orders import PRICED, TRIGGERED, Order, OrderType, Validity
from domain.outcomes import BookRow

FOUR_DECIMALS = Decimal("0.0001")
NAMES = ("quantity", "price", "trigger_price", "order_type", "validity", "disclosed_quantity")


class ModifyRequest(BaseModel):
    """New terms for an order that its broker has; what isn't named stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        alias_generator=to_camel,
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
        json_schema_extra={"minProperties": 1},
    )

    quantity: Annotated[int, Field(strict=True, gt=0, le=QUANTITY_MAX)] | None = None
    """All of it in units, what is filled already included."""

    price: Price | None = None
    """Rupees, for LIMIT and SL."""

    trigger_price: Price | None = None
    """Rupees, for SL and SL-M."""

    order_type: OrderType | None = None
    validity: Validity | None = None
    disclosed_quantity: Annotated[int, Field(strict=True, ge=0, le=QUANTITY_MAX)] | None = None
    """How much of it the market is shown; 0 shows all."""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.terms:
            names = ", ".join(to_camel(name) for name in NAMES)
            raise PydanticCustomError("nothing_to_change", f"name at least one of {names}")
        return self

    @property
    def terms(self) -> dict[str, Any]:
        """What is named, as an order holds it."""
        return {name: value for name in NAMES if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class ModifySubmission:
    """A modify that the door has let in. `if_match_version` is the version of the order that its client has read."""

    user_id: str
    key_id: str
    idempotency_key: str
    fingerprint: bytes  # SHA-256 of method, path, If-Match and canonical JSON
    order_id: str
    if_match_version: int
    request: ModifyRequest


@dataclass(frozen=True, slots=True)
class ModifyAcceptance:
    """The durable answer to a modify. `seq` is its command's among the order's."""

    intent_id: str
    accepted_at: datetime
    order_id: str
    seq: int
    replayed: bool = False


Why = tuple[str, str]  # a stable code, and the words for it


def changed_terms(order: Order, named: Mapping[str, Any]) -> dict[str, Any]:
    """Of the named terms those that differ from the order's, with a price or trigger that its new type has no room for."""
    terms = {name: value for name, value in named.items() if getattr(order, name) != value}
    kind = terms.get("order_type", order.order_type)
    if kind is not order.order_type:
        for name, kinds in (("price", PRICED), ("trigger_price", TRIGGERED)):
            if kind not in kinds and name not in terms and getattr(order, name) is not None:
                terms[name] = None
    return terms


def modifiability(
    order: Order, able: Capabilities | None, *, under_way: bool = False, terms: Mapping[str, Any] | None = None
) -> Why | None:
    """Why an order can't be modified, or None. `terms` are those it is to change; `under_way`: a modify of it is.

    Codes: SLICED, ORDER_STATE, CANCEL_REQUESTED, MODIFY_UNDER_WAY, MODIFIES_SPENT, and of the terms NOTHING_TO_CHANGE,
    QUANTITY_FILLED, TRIGGERED.
    """
    if order.is_parent or order.parent_id is not None:
        return "SLICED", "it goes out in slices, each for its share of the quantity: cancel it, and place another"
    if order.state not in AT_BROKER or order.broker_order_id is None:
        named = ", ".join(sorted(AT_BROKER))
        return "ORDER_STATE", f"it is {order.state}; what may be modified is {named}"
    if order.cancel_requested:
        return "CANCEL_REQUESTED", "its cancel was asked for"
    if under_way:
        return "MODIFY_UNDER_WAY", "another modify of it is under way: one at a time"
    if able is not None and able.modifies_max is not None and order.modifies >= able.modifies_max:
        return (
            "MODIFIES_SPENT",
            f"{order.modifies} modifies were sent for it, {able.broker} takes {able.modifies_max}: cancel it, and place another",
        )
    return None if terms is None else _unfit(order, terms)


def outdated(order: Order, wanted: Mapping[str, Any]) -> Why | None:
    """Why a modify that was accepted for the order as it stood may not be sent for it as it stands."""
    base = wanted.get("base_version")
    if base is not None and base != order.version:
        return "STALE_VERSION", f"its terms have moved: it is at version {order.version}, the modify was for {base}"
    return modifiability(order, None, terms=terms_of(wanted))


def _unfit(order: Order, terms: Mapping[str, Any]) -> Why | None:
    if not terms:
        return "NOTHING_TO_CHANGE", "it has all of these terms already"
    quantity = terms.get("quantity", order.quantity)
    if quantity <= order.filled_quantity:
        return (
            "QUANTITY_FILLED",
            f"quantity {quantity} is not above the {order.filled_quantity} that are filled: cancel what is left instead",
        )
    kind = terms.get("order_type", order.order_type)
    if kind in TRIGGERED and order.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED):
        if order.order_type not in TRIGGERED and order.filled_quantity:
            return "TRIGGERED", f"{order.filled_quantity} of it are filled: it can't become a stop order"
        if order.order_type in TRIGGERED and ("trigger_price" in terms or "order_type" in terms):
            return "TRIGGERED", "its trigger has been reached: it is a stop order no more, and keeps its trigger price"
    return None


def terms_of(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The changed terms of a modify, as an order holds them, from what its change row keeps."""
    read: dict[str, Callable[[Any], Any]] = {
        "quantity": int,
        "order_type": OrderType,
        "validity": Validity,
        "price": _decimal,
        "trigger_price": _decimal,
        "disclosed_quantity": int,
    }
    return {name: read[name](value) for name, value in wanted.items() if name in read}


def modified(order: Order, terms: Mapping[str, Any]) -> Order:
    """A copy of the order with these terms."""
    return replace(order, **terms)


def has(order: Order, terms: Mapping[str, Any]) -> bool:
    return all(getattr(order, name) == value for name, value in terms.items())


# What a broker's book shows.


def shows(row: BookRow, order: Order, changed: Collection[str] = ()) -> bool:
    """Whether the row shows the order with these terms, as far as it says anything of them.

    A MARKET or SL-M order may be shown with the limit that its market protection has given it. The disclosed quantity
    counts only where it is among the `changed` terms: brokers show it as it is used up.
    """
    if row.quantity != order.quantity:
        return False
    if order.order_type in TRIGGERED and row.trigger_price not in (None, order.trigger_price):
        return False
    if not is_rewritten(row, order):
        if row.order_type not in (None, order.order_type):
            return False
        if order.order_type in PRICED and row.price not in (None, order.price):
            return False
    if row.validity not in (None, order.validity):
        return False
    return "disclosed_quantity" not in changed or row.disclosed_quantity in (None, order.disclosed_quantity)


def shows_taken(row: BookRow, order: Order, wanted: Mapping[str, Any]) -> bool:
    """Whether the row shows the order with the terms that were asked for.

    What might be the new terms as the broker keeps them, with a limit, is the old ones where it shows just these.
    """
    target = modified(order, wanted)
    return shows(row, target, wanted) and not (is_rewritten(row, target) and shows(row, order))


def is_rewritten(row: BookRow, order: Order) -> bool:
    """Whether the row shows an order without a limit as its broker keeps it: with one, for its market protection."""
    return (order.order_type, row.order_type) in (
        (OrderType.MARKET, OrderType.LIMIT),
        (OrderType.SL_M, OrderType.SL),
    )


def terms_shown(order: Order, row: BookRow, wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    """The terms that the row shows and the order hasn't; none where it shows the order as it is, or says nothing.

    `wanted` are the terms of a modify under way. What the row can't say of them comes with the rest that it shows.
    """
    if not row.quantity:
        return {}
    as_it_is = shows(row, order)
    if wanted and shows_taken(row, order, wanted):
        return {name: value for name, value in wanted.items() if getattr(order, name) != value}
    if as_it_is:
        return {}
    kind = order.order_type if row.order_type is None or is_rewritten(row, order) else row.order_type
    shown = {
        "quantity": row.quantity,
        "order_type": kind,
        "validity": row.validity or order.validity,
        "price": _in_column(row.price or order.price) if kind in PRICED else None,
        "trigger_price": _in_column(row.trigger_price or order.trigger_price) if kind in TRIGGERED else None,
    }
    return {name: value for name, value in shown.items() if getattr(order, name) != value}


def _in_column(price: Decimal | None) -> Decimal | None:
    return None if price is None else price.quantize(FOUR_DECIMALS)


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)
