"""What is answered to those who modify and cancel."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.cancels import AtOnce
from domain.lifecycle import OrderState
from domain.orders import Side
from ingress.answers import IntentLinks


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class ModifyLinks(IntentLinks):
    order: str


class AcceptedModify(_Answer):
    """The modify is durable: it is carried out once, or it is told why not."""

    intent_id: UUID
    order_id: UUID
    status: Literal["RUNNING"]
    links: ModifyLinks


class AnsweredLine(_Answer):
    """A line of which the truth is known at once. NOT_FOUND: there is no such order, or it is another user's."""

    line: int
    order_id: UUID
    code: AtOnce
    state: OrderState | None
    intent_id: Annotated[UUID | None, Field(description="Of ALREADY_CANCELLING: the intent that cancels it.")]


class AcceptedCancel(_Answer):
    """The cancel is durable, and nothing that it means is sent any more."""

    intent_id: UUID
    status: Literal["RUNNING"]
    matched: Annotated[int, Field(description="How many orders are being cancelled now.")]
    answered: Annotated[list[AnsweredLine], Field(description="The other lines, by their numbers.")]
    links: IntentLinks


class MatchView(_Answer):
    order_id: UUID
    state: OrderState
    instrument: str
    side: Side
    quantity: int
    filled_quantity: int
    broker: str | None
    account: str | None
    tag: str | None
    strategy: str | None


class MatchPage(_Answer):
    matched: int
    orders: list[MatchView]
    next: str | None
