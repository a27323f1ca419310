"""Faults on command: which requests they hit, and what then goes wrong.

A fault is matched by broker, account and endpoint; it may skip some requests, hit so many, or hit by chance (drawn
from the seed). Several may hit one request, so an order can appear late *and* its answer be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from brokers.simulator.prices import draw

POSTBACK = "postback"  # the endpoints by which outgoing messages are matched; "*" doesn't mean them
FRAME = "frame"  # ... those of an order stream


class Kind(StrEnum):
    # Before the request is looked at: no order comes of it
    LATENCY_BEFORE = "latency_before"  # `seconds`, real time
    DROP_BEFORE = "drop_before"  # the connection is closed unanswered
    RESET_BEFORE = "reset_before"  # ... by a TCP reset
    ERROR_BEFORE = "error_before"  # `status` (503), HTML unless `body` is given
    RATE_LIMITED = "rate_limited"  # 429 in the broker's words; `retry_after` adds that header
    TOKEN_DEAD = "token_dead"
    IP_NOT_REGISTERED = "ip_not_registered"
    REFUSED = "refused"  # a 400 of the broker's own, with `code` and `message`
    REFUSE_LINES = "refuse_lines"  # Upstox multi-place: the `lines` given (from 0) fail, the others are placed
    # After it was done: the order lives
    LATENCY_AFTER = "latency_after"  # `seconds`, real time
    DROP_AFTER = "drop_after"
    RESET_AFTER = "reset_after"
    CUT = "cut"  # half of the answer, then a TCP reset
    ERROR_AFTER = "error_after"
    HTML = "html"  # a 200 with an HTML page
    TRUNCATED = "truncated"  # a 200 with half of the JSON, and a length that fits
    NO_ID = "no_id"  # a 200 without an order id
    TIMED_OUT = "timed_out"  # a 400 that says the request timed out
    DRIP = "drip"  # the answer comes byte by byte over `seconds`
    HUGE = "huge"  # 10 MB of a body
    # At the exchange
    LATE_VISIBILITY = "late_visibility"  # the order appears in the book `seconds` later, simulator's time
    REJECT = "reject"  # accepted, then rejected by the exchange with `message`
    REFUSE_CHANGE = "refuse_change"  # a modify or cancel that is accepted, then not done
    DUPLICATE_ROWS = "duplicate_rows"  # each order shows twice in the book
    # Postbacks, by the endpoint "postback"
    POSTBACK_MISSING = "postback_missing"
    POSTBACK_REPEATED = "postback_repeated"
    POSTBACK_REORDERED = "postback_reordered"  # comes after the one that follows it
    # Frames of an order stream, by the endpoint "frame"
    FRAME_MISSING = "frame_missing"
    FRAME_REPEATED = "frame_repeated"
    FRAME_REORDERED = "frame_reordered"  # comes after the one that follows it
    FRAME_DELAYED = "frame_delayed"  # comes `seconds` later
    STREAM_CUT = "stream_cut"  # instead of the frame, the connection is reset
    STREAM_SILENT = "stream_silent"  # the connection stands, but nothing comes over it any more


BEFORE = frozenset(
    {
        Kind.DROP_BEFORE,
        Kind.RESET_BEFORE,
        Kind.ERROR_BEFORE,
        Kind.RATE_LIMITED,
        Kind.TOKEN_DEAD,
        Kind.IP_NOT_REGISTERED,
        Kind.REFUSED,
    }
)


class Fault(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Kind
    facade: str | None = None  # "upstox", "zerodha"; None: any
    account: str | None = None  # a user id; None: any
    endpoint: str = "*"  # "place", "multi", "modify", "cancel", "book", … ; "*": any
    skip: int = Field(default=0, ge=0)  # so many matching requests pass first
    count: int | None = Field(default=1, ge=1)  # then so many are hit; None: all
    probability: float = Field(default=1.0, ge=0, le=1)  # of a hit, drawn from the seed
    seconds: float = Field(default=1.0, ge=0)
    status: int = Field(default=503, ge=300, le=599)
    code: str | None = None
    message: str | None = None
    body: str | None = None
    lines: list[int] | None = None
    retry_after: int | None = None

    id: int = 0
    matched: int = 0
    hits: int = 0

    @property
    def is_spent(self) -> bool:
        return self.count is not None and self.hits >= self.count


class Plan:
    """The faults that hit one request."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = {fault.kind: fault for fault in faults}

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults.values())

    def get(self, kind: Kind) -> Fault | None:
        return self._faults.get(kind)

    def __contains__(self, kind: Kind) -> bool:
        return kind in self._faults

    def seconds(self, kind: Kind) -> float:
        fault = self._faults.get(kind)
        return 0.0 if fault is None else fault.seconds

    def message(self, kind: Kind, otherwise: str) -> str | None:
        """The fault's words, or the usual ones; None where it doesn't hit."""
        fault = self._faults.get(kind)
        return None if fault is None else fault.message or otherwise


NO_FAULTS = Plan()


class Faults:
    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self._count = 0

    def add(self, fault: Fault) -> Fault:
        self._count += 1
        fault.id = self._count
        self._faults.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> None:
        self._faults = [fault for fault in self._faults if fault_id is not None and fault.id != fault_id]

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def plan(self, facade: str, endpoint: str, account: str | None) -> Plan:
        """What hits this request; counts it."""
        if not self._faults:
            return NO_FAULTS
        return Plan([fault for fault in self._faults if self._hits(fault, facade, endpoint, account)])

    def _hits(self, fault: Fault, facade: str, endpoint: str, account: str | None) -> bool:
        if fault.facade not in (None, facade) or fault.account not in (None, account):
            return False
        everything = fault.endpoint == "*" and endpoint not in (POSTBACK, FRAME)
        if (not everything and fault.endpoint != endpoint) or fault.is_spent:
            return False
        fault.matched += 1
        if fault.matched <= fault.skip:
            return False
        if fault.probability < 1 and draw(1_000_000, self._seed, fault.id, fault.matched) >= fault.probability * 1e6:
            return False
        fault.hits += 1
        return True
