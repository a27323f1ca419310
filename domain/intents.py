"""What a client asks: an intent to place orders, checked for its shape and nothing else.

Shape is everything that can be said of a request without looking anything up: types, ranges, which fields belong
together. Whether an instrument exists, a tick fits or a limit holds is for the stages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from domain.groups import GroupPolicy
from domain.guards import Guard
from domain.orders import OrderType, Product, Side, Validity

QUANTITY_MAX = 10_000_000
PRICE_MAX = Decimal("99999999.9999")

Word = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:\-]*$")]
InstrumentKey = Annotated[str, StringConstraints(min_length=3, max_length=64, pattern=r"^[A-Z]{2,5}:[A-Z0-9][A-Z0-9&._\-]*$")]
_PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,32}(\.[0-9]{1,32})?")


def _plainly_written(value: object) -> object:
    """Digits, at most one point, at most a minus: Decimal would also take "1_000", "1e3" and other alphabets' digits.

    A JSON number is taken by its shortest spelling, which is exact for every price that fits.
    """
    if isinstance(value, Decimal):
        return value
    text = repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _PLAIN_DECIMAL.fullmatch(text):
        raise PydanticCustomError("plain_decimal", 'write a plain decimal number as a string, such as "1512.50"')
    return text


def _decimal_schema(pattern: str, example: str, **limits: float) -> WithJsonSchema:
    text = {"type": "string", "pattern": pattern, "examples": [example]}
    return WithJsonSchema({"anyOf": [text, {"type": "number", **limits}]})


Price = Annotated[
    Decimal,
    Field(gt=0, le=PRICE_MAX, max_digits=12, decimal_places=4),
    BeforeValidator(_plainly_written),
    _decimal_schema(
        r"^([1-9][0-9]{0,7}(\.[0-9]{1,4})?|0\.([1-9][0-9]{0,3}|0[1-9][0-9]{0,2}|00[1-9][0-9]?|000[1-9]))$",
        "1512.50",
        exclusiveMinimum=0,
        maximum=99999999.9999,
    ),
]
Percent = Annotated[
    Decimal,
    Field(ge=-1, le=100, max_digits=5, decimal_places=2),
    BeforeValidator(_plainly_written),
    _decimal_schema(
        r"^(-1(\.0{1,2})?|-0\.[0-9]{1,2}|[0-9]{1,2}(\.[0-9]{1,2})?|100(\.0{1,2})?)$", "3", minimum=-1, maximum=100
    ),
]


class _Wire(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class OrderLine(_Wire):
    """One order of a place intent, in the client's words."""

    correlation_id: Word
    """Your own name for this line, unique in its request; results carry it."""

    instrument: InstrumentKey
    """`EXCHANGE:TRADINGSYMBOL`."""

    side: Side
    quantity: Annotated[int, Field(strict=True, gt=0, le=QUANTITY_MAX)]
    """Units, not lots."""

    product: Product
    order_type: OrderType
    price: Price | None = None
    """Rupees, for LIMIT and SL."""

    trigger_price: Price | None = None
    """Rupees, for SL and SL-M."""

    validity: Validity = Validity.DAY
    broker: Word | None = None
    """The broker to use; without it the coordinator chooses, and may choose another where this is safe."""

    account: Word | None = None
    strategy: Word | None = None
    disclosed_quantity: Annotated[int, Field(strict=True, ge=0, le=QUANTITY_MAX)] = 0
    """How much of it the market is shown; 0 shows all."""

    market_protection: Percent | None = None
    """Percent from the last price that a MARKET or SL-M order may go; -1 leaves it to the broker."""

    tag: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x20-\x7e]+$")] | None = None
    """A note of your own; no broker sees it."""

    after: Word | None = None
    """The correlationId of an earlier line: this one is sent only when that one is filled completely."""


class PlaceRequest(_Wire):
    """Orders that are accepted together, and carried out one by one or as a group."""

    orders: Annotated[tuple[OrderLine, ...], Field(min_length=1)]
    max_unsent_sec: Annotated[int, Field(strict=True, ge=1, le=86_400)] | None = None
    """An order that was not sent within so many seconds is not sent any more."""

    policy: GroupPolicy | None = None
    """BEST_EFFORT: each line on its own. FAIL_FAST: one after another, up to the first that isn't taken. ALL_OR_NONE:
    nothing is sent before every line may be. Left out, it is BEST_EFFORT, or ALL_OR_NONE by the user's settings."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that the door has let in: who sent it, under which key, and what it asks."""

    user_id: str
    key_id: str
    idempotency_key: str
    fingerprint: bytes  # SHA-256 of method, path and canonical JSON
    request: PlaceRequest
    guard: Guard | None = None  # of a signal: what it is the same as


@dataclass(frozen=True, slots=True)
class AcceptedLine:
    line: int
    correlation_id: str
    order_id: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The durable answer to an intent: the same from every process, for as long as its key is honoured."""

    intent_id: str
    accepted_at: datetime
    lines: tuple[AcceptedLine, ...]
    replayed: bool = False
