"""What every broker adapter offers: our words in, our words out; no exception for what a broker or a network does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.capabilities import Capabilities
from domain.instruments import Instrument
from domain.money import Money
from domain.orders import Order
from domain.outcomes import BookRow, Outcome, Refused, Unreadable
from domain.positions import Position


@dataclass(frozen=True, slots=True)
class Session:
    """One account's open session at its broker. Secrets never show in a repr, a log or an error."""

    account_id: str
    broker: str
    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    access_token: str = field(repr=False)
    calendar: str = "NSE"  # "SIM" for simulated accounts: always open


@dataclass(frozen=True, slots=True)
class Line:
    """An order with the instrument it is for."""

    order: Order
    instrument: Instrument


@dataclass(frozen=True, slots=True)
class Payload:
    """One request that places, as it leaves. Headers that carry a secret stand apart, so that the others can be shown.

    The transport adds what any request has: Host, Content-Length and Accept-Encoding.
    """

    lines: tuple[int, ...]  # which of the lines that were given, by their place among them
    method: str
    base_url: str
    target: str  # path and query, escaped
    headers: Mapping[str, str]
    secret_headers: Mapping[str, str] = field(repr=False)
    body: bytes

    @property
    def all_headers(self) -> dict[str, str]:
        return {**self.secret_headers, **self.headers}


@dataclass(frozen=True, slots=True)
class Unsayable:
    """A line for which the broker has no words: nothing is sent for it."""

    line: int
    refusal: Refused


@dataclass(frozen=True, slots=True)
class Hint:
    """What a postback lets us suspect: it is never applied, only followed by an authenticated read."""

    broker_order_id: str | None
    verified: bool  # its checksum was right, where the broker has one


@dataclass(frozen=True, slots=True)
class Funds:
    """An account's money as its broker counts it: what may still be used, and what is in use."""

    available: Money
    used: Money


class Adapter(Protocol):
    """One broker's dialect over HTTP.

    Every call ends within `timeout_s`. Calls that change something take `send_by`, a time on the boot clock
    (`brokers.transport.boot_clock`), the end of the caller's lease: past it no byte of a request leaves, and the
    outcome is NotSent. A process that was stopped and wakes up late sends nothing.
    """

    name: str
    capabilities: Capabilities

    def payload(self, session: Session, lines: Sequence[Line]) -> Sequence[Payload | Unsayable]:
        """What `place` would send first for these lines, and the lines that it can't say; sends nothing.

        `place` itself sends what this gives: a preview can't differ from the truth.
        """
        ...

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        """Place the lines of one call; one outcome per line, in the same order.

        At most `capabilities.lines_per_call` lines, all of one intent. Each order's `broker_tag` travels along. Makes
        one HTTP request (after a multi-place refused as a whole for bad lines: one more, without these); raises
        nothing for what a broker or the network does: that is an outcome. A line that can't be said in the broker's
        words is Refused with code `NOT_TRANSLATABLE`, and the others go.
        """
        ...

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow] | Unreadable:
        """Every order of the account's day, each with its fills where it has any.

        Two reads, orders first and then trades: fills may run ahead of `filled_quantity`.
        """
        ...

    def modify(
        self,
        session: Session,
        broker_order_id: str,
        line: Line,
        *,
        changed: Collection[str],
        timeout_s: float,
        send_by: float | None = None,
    ) -> Outcome:
        """Ask for the terms that `line.order` has now (its quantity is the total); Accepted means asked for.

        `changed` are those of `quantity`, `price`, `trigger_price`, `order_type`, `validity` and `disclosed_quantity`
        that differ from what the broker has. Of the others only what its API demands goes out: each adapter says which.
        """
        ...

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        """Ask for a cancel; Accepted means asked for, not cancelled. Refused may mean that it is over: read the book."""
        ...

    def funds(self, session: Session, *, timeout_s: float) -> Funds | Unreadable:
        """What the account has at the broker."""
        ...

    def positions(self, session: Session, *, timeout_s: float) -> Sequence[Position] | Unreadable:
        """What the account traded today and carried over, each instrument and product once. No holdings."""
        ...

    def hint(self, session: Session, headers: dict[str, str], body: bytes) -> Hint | None:
        """What a postback points at, or None where it makes no sense. Takes any bytes."""
        ...
