"""What a client asks: an intent to cancel orders, by their ids or by what they have in common; and the answer to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from domain.errors import Fault, Malformed
from domain.events import Source
from domain.instruments import Segment
from domain.intents import InstrumentKey, Word
from domain.lifecycle import OrderState

IDS_MAX = 10_000
FAIL_FAST_MAX = 500  # lines that go one after another
FAULTS_MAX = 50

_Id = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"),
    AfterValidator(str.lower),
]
_Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\x20-\x7e]+$")]


class CancelMode(StrEnum):
    HARD = "HARD"  # the broker is asked before anything new is placed, and its book has the last word
    SOFT = "SOFT"  # marked, and done for whoever waits; the broker is asked as its budget allows


class CancelPolicy(StrEnum):
    BEST_EFFORT = "BEST_EFFORT"  # all lines at once, each for itself
    FAIL_FAST = "FAIL_FAST"  # one line after another; the first that isn't cancelled ends it


URGED_BY = "urged_by"  # in what is wanted of a cancel: the later intent that wants it done at once


def is_soft(wanted: Mapping[str, Any]) -> bool:
    """Whether a cancel is made in its own time, and nobody has asked for it to be made now."""
    return wanted.get("mode") == CancelMode.SOFT and URGED_BY not in wanted


def waits_its_turn(wanted: Mapping[str, Any]) -> bool:
    """Whether a cancel goes after the lines before it, and nobody has asked for it whatever comes of these."""
    return wanted.get("policy") == CancelPolicy.FAIL_FAST and URGED_BY not in wanted


def is_urged(wanted: Mapping[str, Any], mode: CancelMode, policy: CancelPolicy, line: int) -> bool:
    """Whether a cancel that is under way would keep a later request for its order waiting longer than that one has to.

    The later one waits for nobody as a line of a BEST_EFFORT intent, or as the first one of any.
    """
    if mode is CancelMode.SOFT:
        return False
    if waits_its_turn(wanted):
        return policy is CancelPolicy.BEST_EFFORT or line == 0
    return is_soft(wanted)


class _Wire(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class CancelFilter(_Wire):
    """What the orders have in common; every field given must hold. Only live orders are ever meant."""

    broker: Word | None = None
    account: Word | None = None
    segment: Segment | None = None
    tag: _Tag | None = None
    strategy: Word | None = None
    instrument: InstrumentKey | None = None
    """`EXCHANGE:TRADINGSYMBOL`."""

    intent_id: _Id | None = None
    """The intent that placed them."""

    all: Literal[True] | None = None
    """Every live order of yours. It must be said: an empty filter is refused."""


class CancelRequest(_Wire):
    """Orders to cancel: `orderIds` or `filter`, never both."""

    order_ids: Annotated[tuple[_Id, ...], Field(min_length=1)] | None = None
    filter: CancelFilter | None = None
    mode: CancelMode = CancelMode.HARD
    policy: CancelPolicy | None = None
    """Without it the administrator's default holds."""


def find_faults(request: CancelRequest) -> Iterator[Fault]:
    """What the fields can't say one by one."""
    if request.order_ids is None and request.filter is None:
        yield Fault("/orderIds", "REQUIRED", "give orderIds, or a filter")
    if request.order_ids is not None and request.filter is not None:
        yield Fault("/filter", "CONTRADICTS", "give orderIds or a filter, not both")
    if request.filter is not None:
        given = request.filter.model_dump(exclude_none=True)
        if not given:
            yield Fault("/filter", "EMPTY_FILTER", 'nothing is given; to cancel everything, say "all": true')
        if "all" in given and len(given) > 1:
            yield Fault("/filter/all", "CONTRADICTS", "all orders are meant, or those of the other fields, not both")
    ids = request.order_ids or ()
    if len(ids) > IDS_MAX:
        yield Fault(f"/orderIds/{IDS_MAX}", "TOO_MANY", f"one request takes at most {IDS_MAX} ids")
    elif request.policy is CancelPolicy.FAIL_FAST and len(ids) > FAIL_FAST_MAX:
        yield Fault(f"/orderIds/{FAIL_FAST_MAX}", "TOO_MANY", f"FAIL_FAST takes at most {FAIL_FAST_MAX} ids")
    if len(set(ids)) < len(ids):
        first_use: dict[str, int] = {}
        for number, order_id in enumerate(ids):
            if (first := first_use.setdefault(order_id, number)) != number:
                yield Fault(f"/orderIds/{number}", "REPEATED", f"it stands at {first} already")


def check(request: CancelRequest) -> CancelRequest:
    """The request itself. Raises Malformed."""
    faults = tuple(fault for fault, _ in zip(find_faults(request), range(FAULTS_MAX), strict=False))
    if faults:
        raise Malformed(faults)
    return request


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelSubmission:
    """A cancel request that was let in. Only the user's own orders are ever meant.

    `code` and `reason` are what an order that was not sent yet is told to have ended for. `must_be_there`: without any of
    its orders there is no intent.
    """

    user_id: str
    key_id: str
    idempotency_key: str
    fingerprint: bytes
    request: CancelRequest
    source: Source = Source.CLIENT
    code: str | None = None
    reason: str | None = None
    must_be_there: bool = False


class AtOnce(StrEnum):
    """What a line is told that needs no work."""

    NOT_FOUND = "NOT_FOUND"  # there is none, or it is another user's
    ALREADY_ENDED = "ALREADY_ENDED"
    ALREADY_CANCELLING = "ALREADY_CANCELLING"
    SKIPPED = "SKIPPED"  # a line before it failed, and the intent wants to stop there


@dataclass(frozen=True, slots=True)
class Answered:
    """A line that was answered at once. `intent_id` is the intent that is cancelling the order already."""

    line: int
    order_id: str
    code: AtOnce
    state: OrderState | None = None
    intent_id: str | None = None

    @property
    def is_failure(self) -> bool:
        """Whether FAIL_FAST stops at it."""
        return self.code is AtOnce.NOT_FOUND or (
            self.code is AtOnce.ALREADY_ENDED and self.state is not OrderState.CANCELLED
        )


@dataclass(frozen=True, slots=True)
class CancelAcceptance:
    """The durable answer: how many lines have work under way, and the others' answers, by line."""

    intent_id: str
    accepted_at: datetime
    matched: int
    answered: tuple[Answered, ...]
    replayed: bool = False

    def to_json(self) -> dict[str, Any]:
        """What is kept of it beside the intent's own row."""
        return {"matched": self.matched, "answered": [asdict(line) for line in self.answered]}


def acceptance_from(intent_id: str, accepted_at: datetime, kept: dict[str, Any]) -> CancelAcceptance:
    """The answer of before, from what was kept of it."""
    answered = tuple(
        Answered(
            line["line"],
            line["order_id"],
            AtOnce(line["code"]),
            OrderState(line["state"]) if line["state"] else None,
            line["intent_id"],
        )
        for line in kept["answered"]
    )
    return CancelAcceptance(intent_id, accepted_at, kept["matched"], answered, replayed=True)
