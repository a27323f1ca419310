"""What becomes of held lines, by policy and leg: each rule at its edge, and what holds of every group."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.groups import Decision, GroupPolicy, Line, Part, decide, find_after_faults, holds
from domain.lifecycle import AT_BROKER, TERMINAL, UNSENT, OrderState

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
LIMIT = NOW + timedelta(seconds=120)
BEST_EFFORT, FAIL_FAST, ALL_OR_NONE = GroupPolicy


def held(number: int, after: str | None = None, **given: object) -> Line:
    return line(number, OrderState.HELD, after=after, is_held=True, **given)


def line(
    number: int, state: OrderState, *, has_number: bool | None = None, stuck: bool = False, **given: object
) -> Line:
    at_broker = state in AT_BROKER | {OrderState.FILLED, OrderState.CANCELLED} if has_number is None else has_number
    terms = {"name": f"leg-{number + 1}", "send_before": LIMIT, "quantity": 10, **given}
    return Line(number=number, state=state, parts=(Part(state, at_broker, stuck),), **terms)  # type: ignore[arg-type]


def coming(number: int, **given: object) -> Line:
    return line(number, OrderState.RECEIVED, has_number=False, **given)  # type: ignore[arg-type]


def test_a_line_that_waits_for_nothing_is_not_held():
    assert not holds(BEST_EFFORT, 3, None)
    assert not holds(FAIL_FAST, 0, None)
    assert holds(FAIL_FAST, 1, None)
    assert holds(ALL_OR_NONE, 0, None)
    assert holds(BEST_EFFORT, 1, "leg-1")


# ALL_OR_NONE


def test_all_are_released_when_the_last_one_is_held():
    decision = decide(ALL_OR_NONE, [held(0), held(1), held(2)], NOW)

    assert decision == Decision(releases=[0, 1, 2])


def test_as_long_as_one_is_coming_all_wait_for_it():
    decision = decide(ALL_OR_NONE, [held(0), coming(1), held(2)], NOW)

    words = "waits for line 2 (leg-2) to be ready: all lines are sent together, or none"
    assert decision == Decision(waits={0: words, 2: words})


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        (line(1, OrderState.REJECTED, why="LOT_SIZE: 7 is no lot"), "was REJECTED: LOT_SIZE: 7 is no lot"),
        (
            line(1, OrderState.CANCELLED, has_number=False, why="CANCELLED_UNSENT: by you"),
            "was CANCELLED: CANCELLED_UNSENT: by you",
        ),
        (coming(1, stuck=True, why="risk gave it up"), "is stuck: risk gave it up"),
        (held(1, is_cancelling=True), "was CANCELLED: cancelled before it was sent"),
    ],
)
def test_one_that_fails_ends_all_that_are_held(failed: Line, words: str):
    decision = decide(ALL_OR_NONE, [held(0), failed, held(2)], NOW)

    assert decision.rejections == {0: f"line 2 (leg-2) {words}", 2: f"line 2 (leg-2) {words}"}
    assert decision.releases == []


def test_at_the_limit_none_is_sent_any_more():
    decision = decide(ALL_OR_NONE, [held(0), coming(1)], LIMIT)

    assert decision.rejections == {0: "line 2 (leg-2) was not ready by 2026-11-23T05:02:00+00:00, the limit"}
    assert decide(ALL_OR_NONE, [held(0), coming(1)], LIMIT - timedelta(microseconds=1)).rejections == {}
    assert decide(ALL_OR_NONE, [held(0), held(1)], LIMIT).releases == []


def test_legs_stay_behind_when_the_others_are_let_go():
    decision = decide(ALL_OR_NONE, [held(0), held(1, "leg-1"), held(2)], NOW)

    assert decision.releases == [0, 2]
    assert decision.waits == {1: "waits for line 1 (leg-1) to be filled"}


def test_once_released_a_line_lives_on_its_own():
    lines = [line(0, OrderState.OPEN), held(1, "leg-1"), line(2, OrderState.REJECTED, has_number=False)]

    assert decide(ALL_OR_NONE, lines, NOW, released=True).waits.keys() == {1}


# FAIL_FAST


@pytest.mark.parametrize("state", sorted(AT_BROKER | {OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED}))
def test_the_next_one_goes_when_the_one_before_was_taken(state: OrderState):
    lines = [line(0, state, has_number=True), held(1), held(2)]

    decision = decide(FAIL_FAST, lines, NOW)

    assert decision.releases == [1]
    assert decision.waits == {2: "waits for line 2 (leg-2) to be confirmed at its broker"}


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (line(0, OrderState.SENDING, has_number=False), ""),
        (line(0, OrderState.SUBMITTED, has_number=False), ""),
        (line(0, OrderState.UNKNOWN, has_number=False), ": nobody can say yet whether its broker took it"),
        (coming(0), ""),
    ],
)
def test_until_then_the_rest_waits(first: Line, words: str):
    decision = decide(FAIL_FAST, [first, held(1)], NOW)

    assert decision == Decision(waits={1: f"waits for line 1 (leg-1) to be confirmed at its broker{words}"})


def test_the_first_refusal_ends_what_stands_behind_it_and_nothing_before_it():
    lines = [
        line(0, OrderState.SENDING),
        held(1),
        line(2, OrderState.REJECTED, has_number=False, why="TICK_SIZE: no"),
        held(3),
    ]

    decision = decide(FAIL_FAST, lines, NOW)

    assert decision.rejections == {3: "line 3 (leg-3) was REJECTED: TICK_SIZE: no"}
    assert decision.waits.keys() == {1}


def test_a_line_that_stays_unknown_ends_the_rest_at_their_limit():
    decision = decide(FAIL_FAST, [line(0, OrderState.UNKNOWN, has_number=False), held(1)], LIMIT)

    limit = "by 2026-11-23T05:02:00+00:00, the limit"
    assert decision.rejections == {1: f"line 1 (leg-1) was not confirmed at its broker {limit}"}


def test_a_cut_line_is_confirmed_by_all_of_its_slices_and_refused_by_one():
    taken, sending = Part(OrderState.OPEN, True), Part(OrderState.SENDING, False)
    refused = Part(OrderState.REJECTED, False)
    parent = line(0, OrderState.OPEN)

    assert decide(FAIL_FAST, [replace(parent, parts=(taken, sending)), held(1)], NOW).waits.keys() == {1}
    assert decide(FAIL_FAST, [replace(parent, parts=(taken, taken)), held(1)], NOW).releases == [1]
    told = decide(FAIL_FAST, [replace(parent, parts=(taken, refused)), held(1)], NOW).rejections
    assert told == {1: "line 1 (leg-1) was refused in part"}


def test_a_line_in_turn_still_waits_for_its_leg():
    lines = [line(0, OrderState.OPEN), held(1, "leg-1"), held(2)]

    decision = decide(FAIL_FAST, lines, NOW)

    assert decision.waits == {
        1: "waits for line 1 (leg-1) to be filled",
        2: "waits for line 2 (leg-2) to be confirmed at its broker",
    }


def test_a_leg_that_was_not_filled_ends_its_line_and_all_behind_it():
    lines = [line(0, OrderState.CANCELLED, why="BROKER_CANCELLED: IOC"), held(1, "leg-1"), held(2)]

    decision = decide(FAIL_FAST, lines, NOW)

    words = "LEG_NOT_FILLED: line 1 (leg-1) was CANCELLED: BROKER_CANCELLED: IOC"
    assert decision.rejections == {1: words, 2: f"line 2 (leg-2) was REJECTED: {words}"}


# legs


def test_a_line_goes_when_its_leg_is_filled_completely():
    assert decide(BEST_EFFORT, [line(0, OrderState.FILLED), held(1, "leg-1")], NOW).releases == [1]
    partly = line(0, OrderState.PARTIALLY_FILLED, filled_quantity=9)
    assert decide(BEST_EFFORT, [partly, held(1, "leg-1")], NOW).waits == {1: "waits for line 1 (leg-1) to be filled"}


def test_a_leg_that_ended_with_a_part_filled_is_not_filled():
    leg = line(0, OrderState.CANCELLED, filled_quantity=4, why="BROKER_CANCELLED: by you")

    decision = decide(BEST_EFFORT, [leg, held(1, "leg-1")], NOW)

    words = "LEG_NOT_FILLED: line 1 (leg-1), 4 of 10 filled, was CANCELLED: BROKER_CANCELLED: by you"
    assert decision.rejections == {1: words}


def test_legs_of_legs_end_with_the_first():
    leg = line(0, OrderState.REJECTED, why="MARGIN_ESTIMATE: too much")

    decision = decide(BEST_EFFORT, [leg, held(1, "leg-1"), held(2, "leg-2"), held(3, "leg-3")], NOW)

    assert decision.rejections.keys() == {1, 2, 3}
    assert decision.rejections[3].startswith("LEG_NOT_FILLED: line 3 (leg-3) was REJECTED: LEG_NOT_FILLED: line 2")
    assert all(len(words) < 300 for words in decision.rejections.values())


def test_a_leg_that_rests_longer_than_the_limit_ends_its_line():
    decision = decide(BEST_EFFORT, [line(0, OrderState.OPEN), held(1, "leg-1")], LIMIT)

    limit = "2026-11-23T05:02:00+00:00, the limit"
    assert decision.rejections == {1: f"LEG_NOT_FILLED: line 1 (leg-1) was not filled by {limit}"}


def test_a_leg_that_is_filled_at_the_limit_comes_too_late():
    decision = decide(BEST_EFFORT, [line(0, OrderState.FILLED), held(1, "leg-1")], LIMIT)

    assert decision.rejections == {1: "line 2 (leg-2) was not sent by 2026-11-23T05:02:00+00:00, the limit"}


# the door


@pytest.mark.parametrize(
    ("names", "faults"),
    [
        ([("a", None), ("b", "a"), ("c", "b")], []),
        ([("a", None), ("b", "x")], [(1, "NO_SUCH_LINE")]),
        ([("a", "a")], [(0, "ITSELF")]),
        ([("a", "b"), ("b", None)], [(0, "LATER_LINE")]),
        ([("a", "c"), ("b", "a"), ("c", "b")], [(0, "CYCLE")]),
        ([("a", "b"), ("b", "c"), ("c", "b")], [(0, "LATER_LINE"), (1, "CYCLE")]),
    ],
)
def test_after_names_an_earlier_line(names: list[tuple[str, str | None]], faults: list[tuple[int, str]]):
    assert [(number, code) for number, code, _ in find_after_faults(names)] == faults


# of every group


@st.composite
def groups(draw: st.DrawFn) -> tuple[GroupPolicy, list[Line], bool]:
    """Lines as a group may have them: only lines that its policy holds are held."""
    policy = draw(st.sampled_from(GroupPolicy))
    lines = []
    for number in range(draw(st.integers(2, 6))):
        after = draw(st.none() | st.sampled_from([f"leg-{n + 1}" for n in range(number)])) if number else None
        state = draw(st.sampled_from(OrderState))
        if state is OrderState.HELD and not holds(policy, number, after):
            state = OrderState.RECEIVED
        parts = draw(st.sampled_from([1, 1, 1, 2]))
        is_taken = state in AT_BROKER | {OrderState.FILLED}
        pieces = tuple(
            Part(state, is_taken or draw(st.booleans()), draw(st.booleans()) and state in UNSENT - {OrderState.HELD})
            for _ in range(parts)
        )
        lines.append(
            Line(
                number=number,
                name=f"leg-{number + 1}",
                after=after,
                state=state,
                parts=pieces,
                send_before=LIMIT,
                is_held=state is OrderState.HELD,
                is_cancelling=state in UNSENT and draw(st.integers(0, 9)) == 0,
                quantity=10,
                why=draw(st.sampled_from(["", "SOME_CODE: words"])),
            )
        )
    return policy, lines, policy is ALL_OR_NONE and draw(st.booleans())


MOMENTS = st.sampled_from([NOW, LIMIT - timedelta(seconds=1), LIMIT, LIMIT + timedelta(seconds=1)])


def after_it(lines: list[Line], decision: Decision) -> list[Line]:
    """The lines once the decision is written down."""
    states = {
        **dict.fromkeys(decision.releases, OrderState.RECEIVED),
        **dict.fromkeys(decision.rejections, OrderState.REJECTED),
        **dict.fromkeys(decision.cancels, OrderState.CANCELLED),
    }
    return [
        replace(at, state=state, parts=(Part(state, False),), is_held=False)
        if (state := states.get(at.number)) is not None
        else at
        for at in lines
    ]


@given(groups(), MOMENTS)
def test_each_held_line_gets_one_answer_and_no_other_line_any(group, now):
    policy, lines, released = group

    decision = decide(policy, lines, now, released=released)

    told = [*decision.releases, *decision.rejections, *decision.cancels, *decision.waits]
    assert sorted(told) == [at.number for at in lines if at.is_held]


@given(groups(), MOMENTS)
def test_nothing_is_released_that_may_not_be(group, now):
    policy, lines, released = group
    by_name = {at.name: at for at in lines}

    for number in decide(policy, lines, now, released=released).releases:
        at = lines[number]
        assert now < at.send_before
        assert not at.is_cancelling
        assert at.after is None or by_name[at.after].state is OrderState.FILLED
        if policy is FAIL_FAST:
            assert lines[number - 1].is_confirmed
            assert not any(before.is_refused for before in lines[:number])
        if policy is ALL_OR_NONE and not released:
            assert all(other.is_held and not other.is_cancelling for other in lines)


@given(groups(), MOMENTS)
def test_all_or_none_lets_all_go_or_none(group, now):
    policy, lines, _ = group
    if policy is not ALL_OR_NONE:
        return

    decision = decide(policy, lines, now)

    without_leg = [at.number for at in lines if at.is_held and at.after is None and not at.is_cancelling]
    assert decision.releases in ([], without_leg)
    assert not (decision.releases and decision.rejections)


@given(groups(), MOMENTS)
def test_deciding_again_changes_nothing(group, now):
    policy, lines, released = group
    decision = decide(policy, lines, now, released=released)
    is_let_go = released or (policy is ALL_OR_NONE and bool(decision.releases))

    again = decide(policy, after_it(lines, decision), now, released=is_let_go)

    assert (again.releases, again.rejections, again.cancels) == ([], {}, [])
    assert again.waits.keys() == decision.waits.keys()


@given(groups())
def test_past_the_limit_nothing_waits(group):
    policy, lines, released = group

    assert decide(policy, lines, LIMIT, released=released).waits == {}
    assert decide(policy, lines, LIMIT, released=released).releases == []


@given(groups(), st.data())
def test_a_group_goes_on_until_nothing_is_held(group, data):
    """Whatever becomes of the lines that aren't held: as long as time is left, no line waits for what has ended."""
    policy, lines, released = group
    for _ in range(30):
        decision = decide(policy, lines, NOW, released=released)
        released = released or (policy is ALL_OR_NONE and bool(decision.releases))
        lines = after_it(lines, decision)
        if not any(at.is_held for at in lines):
            return
        lines = [at if at.is_held or at.state in TERMINAL else finished(at, data, policy) for at in lines]
    raise AssertionError([(at.number, at.state) for at in lines])


def finished(at: Line, data: st.DataObject, policy: GroupPolicy) -> Line:
    """What is coming is held by its group, as it must be, or ends; what was sent ends."""
    is_new = at.state is OrderState.RECEIVED and not at.is_cancelling
    if is_new and holds(policy, at.number, at.after) and at.quantity == 10:
        return replace(at, state=OrderState.HELD, is_held=True, quantity=9, parts=(Part(OrderState.HELD, False),))
    state = data.draw(st.sampled_from(sorted(TERMINAL)))
    return replace(at, state=state, parts=(Part(state, state is OrderState.FILLED),))
