"""A broker that costs nothing, for the bench: takes every order at once and remembers none."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from brokers.base import Funds, Hint, Line, Payload, Session, Unsayable
from domain.capabilities import Capabilities
from domain.money import ZERO, Money
from domain.orders import OrderType, Product, Validity
from domain.outcomes import Accepted, BookRow, Outcome, Unknown, Unreadable
from domain.positions import Position

NAME = "stub"


class Stub:
    name = NAME
    capabilities = Capabilities(
        broker=NAME,
        exchanges=frozenset({"NSE", "BSE", "NFO", "BFO", "CDS"}),
        products=frozenset(Product),
        order_types=frozenset(OrderType),
        validities=frozenset(Validity),
        lines_per_call=20,
        tag_length=40,
        call_slots=64,
        keeps_book=False,
    )

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Stub | None:
        """There only with STUB_BROKER=1; STUB_DELAY_S is how long each call takes."""
        return cls(float(env.get("STUB_DELAY_S") or 0)) if env.get("STUB_BROKER") == "1" else None

    def payload(self, session: Session, lines: Sequence[Line]) -> Sequence[Payload | Unsayable]:
        return []  # it sends nothing

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        late = self._wait(timeout_s)
        return [late or Accepted(f"STUB-{line.order.broker_tag}") for line in lines]

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
        return self._wait(timeout_s) or Accepted(broker_order_id)

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        return self._wait(timeout_s) or Accepted(broker_order_id)

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow]:
        return []

    def funds(self, session: Session, *, timeout_s: float) -> Funds:
        return Funds(available=Money.of_rupees(Decimal(1_000_000_000)), used=ZERO)

    def positions(self, session: Session, *, timeout_s: float) -> Sequence[Position] | Unreadable:
        return []

    def hint(self, session: Session, headers: dict[str, str], body: bytes) -> Hint | None:
        return None

    def _wait(self, timeout_s: float) -> Unknown | None:
        """Take as long as was asked for; past the caller's patience nobody hears the answer."""
        if self._delay_s:
            time.sleep(min(self._delay_s, timeout_s))
        return Unknown(f"no answer within {timeout_s:g} s") if self._delay_s > timeout_s else None
