"""The table of legal moves, as a whole."""

from __future__ import annotations

from domain.lifecycle import AT_BROKER, MOVES, TERMINAL, UNSENT, OrderState, may_move


def test_every_state_has_its_moves() -> None:
    assert MOVES.keys() == set(OrderState)
    assert set(OrderState) == {OrderState.SENDING, OrderState.UNKNOWN} | UNSENT | AT_BROKER | TERMINAL


def test_nothing_leaves_a_terminal_state() -> None:
    assert all(not MOVES[state] for state in TERMINAL)


def test_every_terminal_state_can_be_reached_from_every_other() -> None:
    for state in set(OrderState) - TERMINAL:
        assert TERMINAL - {OrderState.FILLED} <= MOVES[state] or state in UNSENT, state
        assert state in UNSENT or OrderState.FILLED in MOVES[state], state


def test_only_a_call_under_way_becomes_unknown() -> None:
    assert [state for state in OrderState if may_move(state, OrderState.UNKNOWN)] == [OrderState.SENDING]


def test_nothing_is_unsent_again_but_what_was_provably_not_sent() -> None:
    back = {state for state in OrderState if may_move(state, OrderState.RECEIVED)}

    assert back == {OrderState.HELD, OrderState.SENDING, OrderState.UNKNOWN}


def test_what_is_filled_in_part_never_looks_unfilled_again() -> None:
    assert MOVES[OrderState.PARTIALLY_FILLED] <= TERMINAL | {OrderState.PARTIALLY_FILLED}


def test_an_order_goes_to_a_broker_only_by_way_of_sending() -> None:
    for state in UNSENT:
        assert not MOVES[state] & (AT_BROKER | {OrderState.FILLED, OrderState.UNKNOWN})
