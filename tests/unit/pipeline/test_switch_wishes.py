"""What follows a switch: the wishes of a turn, and those that the turn before has left undone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain.errors import Malformed
from domain.switches import Mode
from pipeline.switches import Turn, joined, wishes

AT = datetime(2026, 11, 26, 4, 0, tzinfo=UTC)
NOTHING = {"unsent": False, "open": False, "flatten": False}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (Turn(mode=Mode.ACTIVE, reason="over"), NOTHING),
        (Turn(mode=Mode.REDUCING, reason="x", cancel_open=True), {**NOTHING, "open": True}),
        (Turn(mode=Mode.HALTED, reason="x"), {**NOTHING, "unsent": True}),
        (
            Turn(mode=Mode.HALTED, reason="x", flatten=True),
            {"unsent": True, "open": True, "flatten": True, "since": AT.isoformat()},
        ),
    ],
)
def test_a_flatten_wants_open_orders_cancelled_and_a_halt_unsent_ones_ended(asked: Turn, wanted: dict[str, object]) -> None:
    assert wishes(asked, AT) == wanted


def test_undone_wishes_join_those_of_the_next_turn_and_keep_their_time() -> None:
    earlier = {"unsent": True, "open": True, "flatten": True, "since": "earlier"}

    assert joined({**NOTHING, "unsent": True}, earlier) == earlier
    assert joined({"unsent": True, "open": True, "flatten": True, "since": "later"}, earlier) == earlier
    assert joined({**NOTHING, "open": True, "flatten": True, "since": "later"}, {**NOTHING, "unsent": True}) == {
        "unsent": True,
        "open": True,
        "flatten": True,
        "since": "later",
    }
    assert joined({**NOTHING, "open": True}, {**NOTHING, "unsent": True}) == {"unsent": True, "open": True, "flatten": False}


def test_whoever_lets_everything_through_wants_nothing_cancelled_or_closed() -> None:
    with pytest.raises(Malformed) as refused:
        Turn(mode=Mode.ACTIVE, reason="over", cancel_open=True, flatten=True).check()

    assert [fault.pointer for fault in refused.value.faults] == ["/cancelOpen", "/flatten"]
    Turn(mode=Mode.HALTED, reason="x", cancel_open=True, flatten=True).check()
