"""Strays: at most one row in all books may be live or filled for a tag; what else is there is told."""

from __future__ import annotations

from typing import Any

from domain.lifecycle import OrderState
from domain.outcomes import BookRow
from pipeline.strays import Known, sort_out

TAG = "OCABCDEFGHIJKLMNOPQ"


def row(broker_order_id: str, state: OrderState | None = OrderState.OPEN, filled: int = 0) -> BookRow:
    return BookRow(broker_order_id, TAG, state, "open", 10, filled, None)


def known(broker_order_id: str | None = None, account: str | None = "A1", state: OrderState = OrderState.OPEN) -> Any:
    return {TAG: Known("o1", broker_order_id, account, state)}


def sorted_ids(*rows: BookRow, account: str = "A1", of: Any = None) -> tuple[list[str], list[str], list[str]]:
    found = sort_out(account, {TAG: rows}, known() if of is None else of)
    return (
        [each.broker_order_id for each in found.ours.values()],
        [each.broker_order_id for _, each in found.twins],
        [each.broker_order_id for each in found.orphans],
    )


def test_one_row_is_the_order():
    assert sorted_ids(row("7")) == (["7"], [], [])


def test_the_known_row_is_ours_wherever_it_stands():
    assert sorted_ids(row("7"), row("8"), of=known("8")) == (["8"], ["7"], [])


def test_where_none_is_known_the_first_that_lives_is_ours():
    assert sorted_ids(row("10"), row("9"), row("8", OrderState.REJECTED)) == (["9"], ["10"], [])


def test_what_ended_without_a_fill_is_no_twin_and_what_filled_is():
    cancelled, filled = row("8", OrderState.CANCELLED), row("9", OrderState.CANCELLED, filled=3)

    assert sorted_ids(row("7"), cancelled, filled, of=known("7")) == (["7"], ["9"], [])


def test_an_interim_word_may_still_become_a_fill():
    assert sorted_ids(row("7"), row("8", None), of=known("7")) == (["7"], ["8"], [])


def test_a_tag_that_no_order_has_is_an_orphan():
    assert sorted_ids(row("7"), of={}) == ([], [], ["7"])


def test_a_row_in_an_account_that_the_order_has_left_is_a_twin():
    assert sorted_ids(row("7"), account="A0") == ([], ["7"], [])
    assert sorted_ids(row("7", OrderState.REJECTED), account="A0") == ([], [], [])


def test_it_is_the_order_as_long_as_nothing_was_sent_elsewhere():
    unsent = known(account="A1", state=OrderState.RECEIVED)

    assert sorted_ids(row("7"), account="A0", of=unsent) == (["7"], [], [])


def test_a_row_that_the_book_repeats_is_no_twin_of_itself():
    assert sorted_ids(row("7"), row("7"), of=known("7")) == (["7"], [], [])
    assert sorted_ids(row("7"), row("7"), of={}) == ([], [], ["7"])
