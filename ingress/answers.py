"""The answers' forms, for openapi.json and for those who generate clients; the views are held to them by a test."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.alias_generators import to_camel

from domain.cancels import AtOnce
from domain.changes import Result, Told
from domain.events import EventType, Source
from domain.groups import GroupPolicy
from domain.lifecycle import OrderState
from domain.orders import OrderType, Product, Side, Validity

# Amounts and prices travel as decimal text.
DecimalText = Annotated[str, Field(pattern=r"^-?[0-9]+\.[0-9]{2,4}$", examples=["1512.50"])]


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class AcceptedOrder(_Answer):
    line: int
    correlation_id: str
    order_id: UUID
    state: Literal["RECEIVED"]


class IntentLinks(_Answer):
    intent: str


class Accepted(_Answer):
    """The intent is durable: whatever happens now, its orders are carried out once, and can be asked for."""

    intent_id: UUID
    status: Literal["RUNNING"]
    orders: list[AcceptedOrder]
    links: IntentLinks


class Reason(_Answer):
    code: str
    text: str


class Work(_Answer):
    """Where an order's place command stands in the pipeline."""

    stage: str
    state: Literal["READY", "HELD", "SENDING", "UNKNOWN", "STUCK", "DONE"]
    attempts: int
    not_before: datetime
    error: str | None


class OrderView(_Answer):
    order_id: UUID
    intent_id: UUID
    parent_id: Annotated[UUID | None, Field(description="Of a slice: the order that was cut.")]
    slices: Annotated[int, Field(description="Into how many slices the order was cut, 0 for none.")]
    line: int
    correlation_id: str
    policy: Annotated[GroupPolicy | None, Field(description="Of its group; null where no line waits for another.")]
    after: Annotated[str | None, Field(description="The correlationId of the line that has to be filled first.")]
    state: OrderState
    version: int
    instrument: str
    side: Side
    quantity: int
    product: Product
    order_type: OrderType
    validity: Validity
    price: DecimalText | None
    trigger_price: DecimalText | None
    disclosed_quantity: int
    market_protection: DecimalText | None
    broker: str | None
    account: str | None
    strategy: str | None
    tag: str | None
    broker_tag: str
    broker_order_id: str | None
    filled_quantity: int
    pending_quantity: int
    average_price: DecimalText | None
    reason: Reason | None
    work: Work | None
    changing: Annotated[int, Field(description="How many modifies and cancels of it are under way.")]
    accepted_at: datetime
    updated_at: datetime
    send_before: datetime


class ChangeView(_Answer):
    """One line of an intent that modifies or cancels. `result` is null until it is known what came of it.

    What follows `work` is the order as it stands; all null where there is none that the caller may see.
    """

    line: int
    order_id: UUID
    correlation_id: str | None
    intent_id: UUID
    kind: Literal["MODIFY", "CANCEL"]
    wanted: Annotated[dict[str, Any], Field(description="The terms asked for, or how to cancel.")]
    result: Result | AtOnce | None
    told: Annotated[Told | None, Field(description="How the newest call ended. It is not the last word.")]
    told_detail: str | None
    reason: Reason | None
    asked_at: datetime
    settled_at: datetime | None
    work: Work | None
    state: OrderState | None
    version: int | None
    instrument: str | None
    side: Side | None
    quantity: int | None
    filled_quantity: int | None
    average_price: DecimalText | None
    broker: str | None
    account: str | None


class OrderDetail(OrderView):
    changes: Annotated[list[ChangeView], Field(description="The modifies and cancels of it that are under way.")]


class IntentSummary(_Answer):
    intent_id: UUID
    kind: Literal["PLACE", "MODIFY", "CANCEL"]
    status: Literal["RUNNING", "MARKED", "DONE", "PARTIAL", "REJECTED", "NONE"]
    accepted_at: datetime
    settled: int
    total: int
    counts: Annotated[
        dict[str, int] | None,
        Field(description="Of modifies and cancels: how many lines have which result; NOT_KNOWN is none yet."),
    ] = None


class PlaceIntent(_Answer):
    """An intent that places."""

    intent_id: UUID
    kind: Literal["PLACE"]
    status: Literal["RUNNING", "DONE", "PARTIAL", "REJECTED"]
    accepted_at: datetime
    settled: int
    total: int
    orders: list[OrderView]


class ChangeIntent(_Answer):
    """An intent that modifies or cancels, with a page of its lines.

    DONE: all are cancelled (modified); PARTIAL: some; NONE: none. MARKED: nothing is waited for, but not everything that
    was marked is carried out yet.
    """

    intent_id: UUID
    kind: Literal["MODIFY", "CANCEL"]
    status: Literal["RUNNING", "MARKED", "DONE", "PARTIAL", "NONE"]
    accepted_at: datetime
    settled: int
    total: int
    counts: Annotated[dict[str, int], Field(description="How many lines have which result; NOT_KNOWN is none yet.")]
    changes: list[ChangeView]
    next: Annotated[str | None, Field(description="The cursor of the next page of lines.")]


class IntentView(RootModel[PlaceIntent | ChangeIntent]):
    """An intent with its lines."""


class IntentPage(_Answer):
    intents: list[IntentSummary]
    next: str | None


class OrderPage(_Answer):
    orders: list[OrderView]
    next: str | None


class EventView(_Answer):
    seq: int
    type: EventType
    prev_state: OrderState | None
    state: OrderState
    source: Source
    at: datetime
    detail: dict[str, Any]


class CallView(_Answer):
    """One call to a broker for one order."""

    number: int
    kind: Annotated[Literal["PLACE", "MODIFY", "CANCEL"], Field(description="Which instruction it carried.")]
    call_id: Annotated[UUID, Field(description="The lines of one call share it.")]
    broker: str
    account: str
    tag: str
    lines: int | None
    started_at: datetime
    lease_until: datetime
    ended_at: datetime | None
    outcome: Annotated[
        Literal["ACCEPTED", "REFUSED", "NOT_SENT", "UNKNOWN"] | None,
        Field(description="null: nobody has written down how it ended; after its lease that is UNKNOWN."),
    ]
    answer: dict[str, Any] | None


class History(_Answer):
    order_id: UUID
    events: list[EventView]
    calls: list[CallView]


class TradeView(_Answer):
    trade_id: str
    order_id: UUID
    instrument: str
    exchange: str
    side: Side
    quantity: int
    price: DecimalText
    broker: str
    account: str
    at: datetime


class TradePage(_Answer):
    trades: list[TradeView]
    next: str | None


class AccountView(_Answer):
    account: str
    calendar: str
    session: Literal["ALIVE", "DEAD"]
    open_orders: int
    blocked: DecimalText
    limit: DecimalText


class BrokerView(_Answer):
    broker: str
    accounts: list[AccountView]
    circuit: Literal["CLOSED", "HALF_OPEN", "OPEN", "UNKNOWN"]
    queued: int
    multi_place: int | None


class BrokerList(_Answer):
    brokers: list[BrokerView]


class Fault(_Answer):
    """One thing that is wrong, and where: a JSON pointer into the body, or a parameter's name."""

    pointer: str | None = None
    parameter: str | None = None
    code: str
    detail: str


class ProblemView(BaseModel):
    """RFC 9457, with a stable code."""

    model_config = ConfigDict(alias_generator=to_camel, title="Problem")

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: list[Fault] | None = None


class Heard(_Answer):
    status: Literal["heard"]


class Live(_Answer):
    status: Literal["alive"]


class CheckView(_Answer):
    ok: bool
    needed: bool
    ms: float | None  # null: no answer


class Ready(_Answer):
    """`degraded`: served, though something that isn't needed for accepting orders is away."""

    status: Literal["ready", "degraded", "unavailable", "draining"]
    checks: dict[str, CheckView]


class Version(_Answer):
    version: str
    revision: str | None
