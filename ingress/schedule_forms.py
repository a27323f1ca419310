"""What is answered of schedules and square-offs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.alias_generators import to_camel

from domain.orders import Product, Side
from domain.schedules import Kind, State
from domain.squareoff import Why
from ingress.answers import DecimalText
from ingress.change_forms import AcceptedCancel


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class ScheduleLinks(_Answer):
    schedule: str


class ScheduleTime(_Answer):
    at: datetime
    sessions: Annotated[
        list[str] | None, Field(description="Whose instruments are meant, such as NSE:CASH; null: everything.")
    ]
    state: State
    intent_id: Annotated[UUID | None, Field(description="What carries it out; null where nothing was meant then.")]
    matched: Annotated[int | None, Field(description="How many orders it meant.")]
    detail: Annotated[str | None, Field(description="Why it failed or was missed, or what is left.")]
    ended_at: datetime | None


class ScheduleView(_Answer):
    """A schedule with each of its times. Its status is PENDING while any of them is to come."""

    schedule_id: UUID
    kind: Kind
    status: State
    request: Annotated[dict[str, Any], Field(description="What is asked for, as it came.")]
    late_by_sec: int
    created_at: datetime
    times: list[ScheduleTime]
    links: ScheduleLinks


class AcceptedSchedule(ScheduleView):
    """The schedule is durable; nothing was cancelled yet."""

    left_out: Annotated[list[str], Field(description="Simulated accounts, which have no session's end.")]


class SchedulePage(_Answer):
    schedules: list[ScheduleView]
    next: str | None


class CancelOrSchedule(RootModel[AcceptedCancel | AcceptedSchedule]):
    """With `at` or `atSessionEnd` the schedule, else the cancel."""


class ClosingOrder(_Answer):
    """One order that closes something. Without an id nothing was stored."""

    line: int | None = None
    correlation_id: str | None = None
    order_id: UUID | None = None
    state: Literal["RECEIVED"] | None = None
    account: str
    instrument: str
    product: Product
    side: Side
    quantity: int
    price: DecimalText | None


class LeftPosition(_Answer):
    """What stays of a position, and why."""

    account: str
    instrument: str
    product: Product
    quantity: Annotated[int, Field(description="Units, negative of a short position.")]
    why: Why


class SquareOffLinks(_Answer):
    intent: str | None
    cancel_intent: str | None
    schedule: str | None


class SquaredOffView(_Answer):
    """What closes the positions. Without `intentId` nothing was to be closed at this moment, or nothing was to be done."""

    intent_id: UUID | None
    orders: list[ClosingOrder]
    left: list[LeftPosition]
    cancel_intent_id: Annotated[UUID | None, Field(description="Cancels the open orders, with `cancelOpen`.")]
    schedule_id: Annotated[UUID | None, Field(description="Closes what these leave, when they have ended.")]
    links: SquareOffLinks
