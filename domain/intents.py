"""What a client asks: an intent to place orders, checked for its shape and nothing else.

Shape is everything that can be said of a request without looking anything up: types, ranges, which fields belong
together. Whether an instrument exists, a tick fits or a limit holds is for the stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from domain.orders import OrderType, Product, Side, Validity

QUANTITY_MAX = 10_000_000
PRICE_MAX = Decimal("99999999.9999")

_Word = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:\-]*$")]
_Key = Annotated[str, StringConstraints(min_length=3, max_length=64, pattern=r"^[A-Z]{2,5}:[A-Z0-9][A-Z0-9&._\-]*$")]
_Price = Annotated[Decimal, Field(gt=0, le=PRICE_MAX, max_digits=12, decimal_places=4)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, frozen=True, populate_by_name=True)


class OrderLine(_Wire):
    """One order of a place intent, in the client's words."""

    correlation_id: _Word
    instrument: _Key
    side: Side
    quantity: Annotated[int, Field(strict=True, gt=0, le=QUANTITY_MAX)]
    product: Product
    order_type: OrderType
    price: _Price | None = None
    trigger_price: _Price | None = None
    validity: Validity = Validity.DAY
    broker: _Word | None = None
    account: _Word | None = None
    strategy: _Word | None = None
    disclosed_quantity: Annotated[int, Field(strict=True, ge=0, le=QUANTITY_MAX)] = 0
    market_protection: Annotated[Decimal, Field(ge=-1, le=100, max_digits=5, decimal_places=2)] | None = None
    tag: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x20-\x7e]+$")] | None = None


class PlaceRequest(_Wire):
    orders: Annotated[tuple[OrderLine, ...], Field(min_length=1)]
    max_unsent_sec: Annotated[int, Field(strict=True, ge=1, le=86_400)] | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that the door has let in: who sent it, under which key, and what it asks."""

    user_id: str
    key_id: str
    idempotency_key: str
    fingerprint: bytes  # SHA-256 of method, path and canonical JSON
    request: PlaceRequest


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
