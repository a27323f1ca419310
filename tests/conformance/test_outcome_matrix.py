"""Every kind of failure, over real sockets against the simulated brokers: what we say of it, and what is true."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from outcome_batches import BATCHES, Batch
from outcome_matrix import kinds_of
from outcome_trial import INFY, Trial
from outcome_words import BROKERS, Book, End, Kind, Way, end_of

from brokers.simulator.server import SimulatorServer

PROMISED = {
    "unknown host",
    "refused",
    "no TLS",
    "timeout before",
    "timeout after",
    "reset in the answer",
    "400",
    "400 timed out",
    "401 page",
    "dead session",
    "403 address",
    "429",
    "5xx",
    "HTML",
    "truncated JSON",
    "no id",
}
NO = {End.REFUSED, End.NOT_SENT, End.BUSY, End.LOGGED_OUT}


def rows(*brokers: str, only_places: bool = False) -> list[Any]:
    return [
        pytest.param(broker, kind, way, id=f"{broker}-{kind.name}-{number}")
        for broker in brokers
        for kind in kinds_of(broker)
        for number, way in enumerate(kind.ways, 1)
        if only_places or way.cash is None
    ]


@pytest.fixture(scope="module")
def house() -> Iterator[SimulatorServer]:
    with SimulatorServer() as server:
        server.control("PUT", "/settings", {"rate_limits": False, "step_delay_ms": 1})
        server.control("PUT", f"/prices/{INFY.key}", {"price": str(INFY.close)})
        yield server


@pytest.fixture
def simulator(house: SimulatorServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatorServer]:
    """With its doors open and without faults; the names that no resolver knows are unknown at once."""
    find = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return find(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield house
    house.control("POST", "/reset", {"what": ["faults", "doors"]})


@pytest.mark.parametrize("broker", BROKERS)
def test_the_table_has_every_promised_kind_and_says_no_only_where_no_order_lives(broker: str):
    kinds = kinds_of(broker)

    assert {kind.name for kind in kinds} >= PROMISED
    assert len({kind.name for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.end not in NO or {way.book for way in kind.ways} <= {Book.NOTHING, Book.REJECTED}, kind.name


@pytest.mark.parametrize(("broker", "kind", "way"), rows(*BROKERS, only_places=True))
def test_a_placement(broker: str, kind: Kind, way: Way, simulator: SimulatorServer):
    trial = Trial(broker, simulator, cash=way.cash)
    (line,) = lines = trial.lines()
    (outcome,) = trial.place(lines, way)
    trial.settle(way, "place")

    assert end_of(outcome) is kind.end, outcome
    assert trial.becomes(lambda: trial.book(line), way.book) is way.book
    assert trial.requests("place") == way.is_heard  # nothing is ever sent twice by itself


@pytest.mark.parametrize(("broker", "kind", "way"), rows("upstox", only_places=True))
def test_a_placement_of_many(broker: str, kind: Kind, way: Way, simulator: SimulatorServer):
    trial = Trial(broker, simulator, cash=way.cash)
    lines = trial.lines(3)
    outcomes = trial.place(lines, way)
    trial.settle(way, "multi")

    assert [end_of(outcome) for outcome in outcomes] == [kind.end] * 3, outcomes
    assert trial.becomes(lambda: [trial.book(line) for line in lines], [way.book] * 3) == [way.book] * 3
    assert trial.requests("multi", "place") == way.is_heard


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch.name)
def test_a_placement_of_many_with_fates_of_their_own(batch: Batch, simulator: SimulatorServer):
    trial = Trial("upstox", simulator)
    lines = trial.lines(3)
    for number in batch.bad_lines:
        lines[number].order.quantity = 0
    outcomes = trial.place(lines, Way(book=Book.ORDER, faults=batch.faults))
    trial.becomes(lambda: trial.requests("multi"), batch.requests)

    assert tuple(end_of(outcome) for outcome in outcomes) == batch.ends, outcomes
    assert tuple(trial.book(line) for line in lines) == batch.books
    assert trial.requests("multi", "place") == batch.requests


@pytest.mark.parametrize(("broker", "kind", "way"), rows(*BROKERS))
def test_a_modification(broker: str, kind: Kind, way: Way, simulator: SimulatorServer):
    trial = Trial(broker, simulator)
    line, order_id = trial.resting()
    outcome = trial.modify(order_id, line, way)
    trial.settle(way, "modify")

    assert end_of(outcome) is kind.end, outcome
    assert trial.is_changed(line) == (way.book is Book.ORDER)
    assert trial.requests("modify") == way.is_heard


@pytest.mark.parametrize(("broker", "kind", "way"), rows(*BROKERS))
def test_a_cancellation(broker: str, kind: Kind, way: Way, simulator: SimulatorServer):
    trial = Trial(broker, simulator)
    line, order_id = trial.resting()
    outcome = trial.cancel(order_id, way)
    trial.settle(way, "cancel")

    assert end_of(outcome) is kind.end, outcome
    assert trial.is_cancelled(line) == (way.book is Book.ORDER)
    assert trial.requests("cancel") == way.is_heard
