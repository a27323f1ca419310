"""What operators send and get: bodies and answers of `/v2/dlq`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from domain.errors import Fault, Malformed
from domain.intents import QUANTITY_MAX, Price
from domain.lifecycle import OrderState
from domain.orders import Side
from domain.settlements import NotTaken, Settlement, Taken
from ingress.answers import CallView, EventView

DRAIN_MAX = 100
CURSOR = r"^[A-Za-z0-9_-]{21}[AQgw]$"

# At least one character that can be seen.
_Words = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"[!-~\u00a1-\uffff]")]
_Word = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:\-]*$")]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class Because(_Body):
    """Why; it is recorded in the audit log with the name of the API key."""

    reason: _Words


class Park(Because):
    for_minutes: Annotated[int, Field(strict=True, ge=1, le=43_200)] | None = None
    """For how long; until it is taken back when not given."""


class Settle(Because):
    """What the broker did: taken, then with its number and as what; or not taken."""

    evidence: _Words
    """What was seen, and where, so that somebody else can look it up."""

    said: Literal["TAKEN", "NOT_TAKEN"]
    broker_order_id: _Word | None = None
    state: Literal[
        "SUBMITTED", "OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED", "FILLED", "CANCELLED", "REJECTED", "EXPIRED"
    ] | None = None
    filled_quantity: Annotated[int, Field(strict=True, ge=0, le=QUANTITY_MAX)] = 0
    average_price: Price | None = None
    """Rupees, where anything is filled."""

    resend: Annotated[bool, Field(strict=True)] = False
    """With NOT_TAKEN: it isn't rejected, but sent again if its time allows."""

    def settlement(self) -> Settlement:
        """Raises Malformed where it says both, or too little."""
        if self.said == "NOT_TAKEN":
            given: dict[str, object] = {"brokerOrderId": self.broker_order_id, "state": self.state}
            given |= {"filledQuantity": self.filled_quantity, "averagePrice": self.average_price}
            faults = [Fault(f"/{name}", "BAD_VALUE", "it was not taken") for name, value in given.items() if value]
            if faults:
                raise Malformed(tuple(faults))
            return NotTaken(resend=self.resend)
        if self.broker_order_id is None or self.state is None:
            needed = {"brokerOrderId": self.broker_order_id, "state": self.state}
            detail = "this field is required where the broker has taken the order"
            raise Malformed(tuple(Fault(f"/{name}", "REQUIRED", detail) for name, value in needed.items() if value is None))
        return Taken(
            broker_order_id=self.broker_order_id,
            state=OrderState(self.state),
            filled_quantity=self.filled_quantity,
            average_price=self.average_price,
        )


class Drain(Because):
    """The next orders that match, oldest first. `next` of the answer goes into `after` of the next request."""

    act: Literal["requeue", "discard"]
    stage: _Word | None = None
    broker: _Word | None = None
    account: _Word | None = None
    error: _Text | None = None
    """Only those with this text in their last error, in any case."""

    parked: Annotated[bool, Field(strict=True)] = False
    """Those that are parked, instead of those that aren't."""

    limit: Annotated[int, Field(strict=True, ge=1, le=DRAIN_MAX)] = DRAIN_MAX
    after: Annotated[str, StringConstraints(pattern=CURSOR)] | None = None
    dry_run: Annotated[bool, Field(strict=True)] = False
    """Only say what would be done."""


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class Parked(_Answer):
    until: datetime | None
    operator: str
    reason: str


class StuckView(_Answer):
    """An order whose work has stopped."""

    order_id: UUID
    kind: Literal["PLACE", "MODIFY", "CANCEL"]
    stage: str
    work: Literal["STUCK", "UNKNOWN"]
    state: OrderState
    error: str | None
    attempts: int
    deaths: Annotated[int, Field(description="How many workers died with it in their hands.")]
    since: datetime
    instrument: str
    side: Side
    quantity: int
    filled_quantity: int
    broker: str | None
    account: str | None
    broker_tag: str
    broker_order_id: str | None
    buried_at: Annotated[datetime | None, Field(description="When its dead letter was written.")]
    parked: Parked | None


class StuckPage(_Answer):
    items: list[StuckView]
    next: str | None


class PossibleAct(_Answer):
    act: Literal["requeue", "settle", "discard", "park"]
    allowed: bool
    why: Annotated[str, Field(description="What follows of it, or why it is refused.")]


class SearchView(_Answer):
    """How far the search in its account's book has come."""

    looks: int
    clean_reads: int
    proof_from: datetime
    next_at: datetime


class Explanation(_Answer):
    item: StuckView
    why: str
    acts: list[PossibleAct]
    search: SearchView | None
    events: list[EventView]
    calls: list[CallView]


class ActView(_Answer):
    order_id: UUID
    stage: Annotated[str, Field(description="Where it had stopped.")]
    state: OrderState
    goes_to: Annotated[str | None, Field(description="The stage it was sent back to.")] = None
    parked_until: datetime | None = None


class RefusedAct(_Answer):
    order_id: UUID
    code: str
    detail: str


class Drained(_Answer):
    done: list[UUID]
    refused: list[RefusedAct]
    next: str | None
