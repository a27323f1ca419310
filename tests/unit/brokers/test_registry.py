"""A sixth broker: its file, and a row in the registry."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import loopback as far
import pytest
from given import SESSION, a_line, some_lines
from loopback import loopback

from brokers import registry
from brokers.answers import dump_json
from brokers.base import Funds, Hint, Line, Payload, Session
from brokers.dialects.meanings import outcome_without_words
from brokers.stub import Stub
from brokers.transport import Answered, Deadline, Wire
from domain.capabilities import Capabilities
from domain.money import ZERO
from domain.orders import OrderType, Product, Validity
from domain.outcomes import Accepted, BookRow, Outcome, Unknown, Unreadable
from domain.positions import Position


class Toy:
    """A whole broker: what its one file would hold."""

    name = "toy"
    capabilities = Capabilities(
        broker="toy",
        exchanges=frozenset({"NSE"}),
        products=frozenset({Product.CNC}),
        order_types=frozenset({OrderType.LIMIT}),
        validities=frozenset({Validity.DAY}),
    )

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Toy:
        return cls(Wire("toy", env.get("TOY_BASE_URL", "https://toy.example")))

    def payload(self, session: Session, lines: Sequence[Line]) -> Sequence[Payload]:
        secret = {"Authorization": session.access_token}
        bodies = [dump_json({"symbol": line.instrument.symbol, "tag": line.order.broker_tag}) for line in lines]
        return [
            Payload((at,), "POST", self._wire.base_url, "/o", {}, secret, body.encode()) for at, body in enumerate(bodies)
        ]

    def place(
        self, session: Session, lines: Sequence[Line], *, timeout_s: float, send_by: float | None = None
    ) -> Sequence[Outcome]:
        deadline = Deadline.within(timeout_s, send_by=send_by)
        return [self._place(payload, deadline) for payload in self.payload(session, lines)]

    def _place(self, payload: Payload, deadline: Deadline) -> Outcome:
        headers, content = payload.all_headers, payload.body
        answer = self._wire.call("place", "POST", payload.target, headers=headers, content=content, deadline=deadline)
        match answer:
            case Answered(201, {"id": str(broker_order_id)}):
                return Accepted(broker_order_id)
        return outcome_without_words(answer)

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow] | Unreadable:
        return Unreadable("a toy has no book")

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
        return Unknown("a toy changes nothing")

    def cancel(
        self, session: Session, broker_order_id: str, *, timeout_s: float, send_by: float | None = None
    ) -> Outcome:
        return Unknown("a toy cancels nothing")

    def funds(self, session: Session, *, timeout_s: float) -> Funds | Unreadable:
        return Funds(ZERO, ZERO)

    def positions(self, session: Session, *, timeout_s: float) -> Sequence[Position] | Unreadable:
        return []

    def hint(self, session: Session, headers: dict[str, str], body: bytes) -> Hint | None:
        return None


def test_a_new_broker_takes_one_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(registry.BROKERS, "toy", Toy.from_env)
    with loopback(far.answer(201, '{"id":"t1"}'), far.hang_up) as broker:
        toy = registry.build({"TOY_BASE_URL": broker.url})["toy"]
        assert toy.place(SESSION, [a_line()], timeout_s=1) == [Accepted("t1")]
        (outcome,) = toy.place(SESSION, [a_line()], timeout_s=1)

    assert isinstance(outcome, Unknown)
    assert toy.capabilities.broker == "toy"


def test_the_stub_is_there_only_when_asked_for():
    assert set(registry.build({})) == {"upstox", "zerodha"}
    assert set(registry.build({"STUB_BROKER": "1"})) == {"upstox", "zerodha", "stub"}


def test_every_adapter_is_named_as_its_row_and_its_capabilities():
    for name, adapter in registry.build({"STUB_BROKER": "1"}).items():
        assert name == adapter.name == adapter.capabilities.broker
        assert adapter.capabilities.tag_length >= 19


def test_the_stub_takes_all_and_keeps_nothing():
    stub = Stub.from_env({"STUB_BROKER": "1", "STUB_DELAY_S": "0.001"})
    assert isinstance(stub, Stub)
    lines = some_lines(20)
    outcomes = stub.place(SESSION, lines, timeout_s=1)

    assert len({outcome.broker_order_id for outcome in outcomes if isinstance(outcome, Accepted)}) == 20
    assert stub.cancel(SESSION, "x", timeout_s=1) == Accepted("x")
    assert stub.modify(SESSION, "x", lines[0], changed={"price"}, timeout_s=1) == Accepted("x")
    assert stub.book(SESSION, timeout_s=1) == []
    assert stub.capabilities.order_windows == ()
    assert stub.funds(SESSION, timeout_s=1).available.paise > 0
    assert stub.hint(SESSION, {}, b"") is None
