"""Which requests a fault hits, and which calls a rate limit lets through."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from brokers.simulator.faults import Fault, Faults, Kind
from brokers.simulator.limits import Windows
from brokers.simulator.settings import Settings


def hits(fault: Fault, times: int, *, endpoint: str = "place", account: str = "UP0001", seed: str = "1") -> str:
    faults = Faults(seed)
    faults.add(fault)
    return "".join("x" if fault.kind in faults.plan("upstox", endpoint, account) else "." for _ in range(times))


@pytest.mark.parametrize(("fault", "expected"), [
    (Fault(kind=Kind.DROP_AFTER), "x..."),
    (Fault(kind=Kind.DROP_AFTER, count=2, skip=1), ".xx."),
    (Fault(kind=Kind.DROP_AFTER, count=None), "xxxx"),
    (Fault(kind=Kind.DROP_AFTER, endpoint="place", count=None), "xxxx"),
    (Fault(kind=Kind.DROP_AFTER, endpoint="book", count=None), "...."),
    (Fault(kind=Kind.DROP_AFTER, facade="zerodha", count=None), "...."),
    (Fault(kind=Kind.DROP_AFTER, account="UP0002", count=None), "...."),
    (Fault(kind=Kind.DROP_AFTER, probability=0, count=None), "...."),
])  # fmt: skip
def test_a_fault_hits_what_it_names_as_often_as_it_says(fault, expected):
    assert hits(fault, 4) == expected


def test_chance_is_drawn_from_the_seed():
    def drawn(seed: str) -> str:
        return hits(Fault(kind=Kind.DROP_AFTER, probability=0.5, count=None), 100, seed=seed)

    assert drawn("1") == drawn("1") != drawn("2")
    assert 30 < drawn("1").count("x") < 70


def test_everything_does_not_mean_postbacks():
    assert hits(Fault(kind=Kind.DROP_AFTER, count=None), 2, endpoint="postback") == ".."
    assert hits(Fault(kind=Kind.POSTBACK_MISSING, endpoint="postback", count=None), 2, endpoint="postback") == "xx"


def test_several_faults_hit_one_request():
    faults = Faults("1")
    faults.add(Fault(kind=Kind.LATE_VISIBILITY, seconds=8))
    faults.add(Fault(kind=Kind.DROP_AFTER))
    plan = faults.plan("upstox", "place", None)

    assert plan.seconds(Kind.LATE_VISIBILITY) == 8
    assert Kind.DROP_AFTER in plan
    assert list(faults.plan("upstox", "place", None)) == []


def test_a_fault_can_be_taken_back():
    faults = Faults("1")
    first, second = (faults.add(Fault(kind=Kind.HTML)) for _ in range(2))
    faults.clear(first.id)
    assert list(faults) == [second]

    faults.clear()
    assert list(faults) == []


def test_a_fault_of_unknown_words_is_refused():
    with pytest.raises(ValidationError):
        Fault.model_validate({"kind": "drop_after", "endpiont": "place"})


def test_a_window_lets_so_many_calls_through_and_opens_again_with_the_next_one():
    now = [1000.9]
    windows = Windows(source=lambda: now[0])
    allowed = {1: 2, 60: 3}

    assert [windows.take("A", "orders", allowed) for _ in range(3)] == [True, True, False]
    assert windows.take("B", "orders", allowed)
    assert windows.take("A", "reads", allowed)
    now[0] = 1001.0
    assert [windows.take("A", "orders", allowed) for _ in range(2)] == [True, False]
    now[0] = 1020.0
    assert windows.take("A", "orders", allowed)


def test_calls_that_count_for_many_need_room_for_all():
    windows = Windows(source=lambda: 1000.0)

    assert not windows.take("A", "orders", {1: 10}, 11)
    assert windows.take("A", "orders", {1: 10}, 10)
    assert not windows.take("A", "orders", {1: 10})


def test_settings_refuse_what_they_do_not_know():
    with pytest.raises(ValidationError):
        Settings().changed({"fill_delay": 3})
    assert Settings().changed({"fill_delay_ms": 3}).fill_delay_ms == 3
