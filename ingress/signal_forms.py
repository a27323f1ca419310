"""What is answered about signals, for openapi.json; the views are held to it by a test."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ingress.answers import Reason


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class SignalStrategyView(_Answer):
    name: str
    path: Annotated[str, Field(description="Where its signals are posted to.")]
    enabled: bool
    window_sec: int
    broker: str | None
    account: str | None
    strategy: Annotated[str, Field(description="That its orders carry.")]
    max_unsent_sec: int | None
    template: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


class SignalStrategyDefined(SignalStrategyView):
    secret: Annotated[str | None, Field(description="Of a new strategy; shown this once, and kept as a hash.")]


class SignalStrategyList(_Answer):
    strategies: list[SignalStrategyView]


class NewSecret(_Answer):
    name: str
    secret: Annotated[str, Field(description="Shown this once, and kept as a hash. The one before is none any more.")]


class SignalRemoved(_Answer):
    name: str
    status: Literal["REMOVED"]


class DeliveryView(_Answer):
    """One signal whose secret was right."""

    signal_id: UUID
    at: datetime
    status: Literal["ACCEPTED", "SUPPRESSED", "REPLAYED", "REFUSED"]
    intent_id: Annotated[UUID | None, Field(description="Its own, or that of the signal it is the same as.")]
    nonce: str | None
    order: Annotated[dict[str, Any] | None, Field(description="What it asks for, where an order could be made of it.")]
    reason: Reason | None


class DeliveryPage(_Answer):
    signals: list[DeliveryView]
    next: str | None


class SignalLinks(_Answer):
    intent: str


class SignalTaken(_Answer):
    """ACCEPTED: an order was made of it. SUPPRESSED, REPLAYED: one was before, and `intentId` is that one's."""

    status: Literal["ACCEPTED", "SUPPRESSED", "REPLAYED"]
    signal_id: UUID
    intent_id: UUID
    links: SignalLinks
