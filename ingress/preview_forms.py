"""The preview's answer, for openapi.json; the view is held to it by a test."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.orders import OrderType, Product, Side
from ingress.answers import DecimalText, Reason


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class StageVerdict(_Answer):
    """What one stage says. `facts` are the numbers it judged by; null where the order doesn't get to it."""

    stage: str
    verdict: Literal["PROCEED", "REJECT", "WAIT", "NOT_REACHED"]
    facts: dict[str, Any] | None = None
    code: str | None = None
    reasons: list[str] | None = None
    why: str | None = None


class MarginEstimate(_Answer):
    required: DecimalText
    available: DecimalText
    basis: str


class ChargesEstimate(_Answer):
    total: DecimalText
    lines: Annotated[dict[str, str], Field(description="Rupees by the kind of charge, not rounded.")]
    rate_card: str
    assumed: list[str]


class RouteChoice(_Answer):
    broker: str
    account: str
    place: Annotated[int | None, Field(description="Among the candidates, from 1; null: it is none of them.")]
    chosen: bool
    why: str


class PreviewedSlice(_Answer):
    quantity: int
    tag: str


class PreviewedOrder(_Answer):
    line: int
    correlation_id: str
    instrument: Annotated[str, Field(description="Canonical, where it was named by an alias.")]
    side: Side
    quantity: int
    product: Product
    order_type: OrderType
    price: DecimalText | None
    trigger_price: DecimalText | None
    outcome: Literal["CLEARED", "REJECTED", "WAITING"]
    reason: Reason | None
    held: Annotated[str | None, Field(description="What it waits for within its request before it is sent.")]
    stages: list[StageVerdict]
    margin: MarginEstimate | None
    charges: ChargesEstimate | None
    broker: str | None
    account: str | None
    route: list[RouteChoice]
    slices: Annotated[list[PreviewedSlice], Field(description="Empty where it goes out whole.")]
    calls: Annotated[list[int], Field(description="The calls, by their numbers, that carry it.")]


class CallLine(_Answer):
    line: int
    quantity: int
    tag: str


class PreviewedRequest(_Answer):
    method: str
    url: str
    headers: dict[str, str]
    hidden_headers: Annotated[list[str], Field(description="Sent as well; their values are secrets.")]
    body: Annotated[str, Field(description="As it is sent, byte for byte, in UTF-8.")]


class PreviewedCallView(_Answer):
    """One call to a broker; `request` is null where nothing is sent, and `refusal` says why."""

    number: int
    broker: str
    account: str
    lines: list[CallLine]
    request: PreviewedRequest | None
    refusal: str | None


class PreviewView(_Answer):
    at: datetime
    status: Literal["CLEARED", "PARTIAL", "NONE"]
    orders: list[PreviewedOrder]
    calls: list[PreviewedCallView]
    notes: list[str]
