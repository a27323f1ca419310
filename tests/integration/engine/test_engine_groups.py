"""Groups on a real record: all or none, fail fast, sequenced legs; the second delivery, two workers, and death."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from group_room import NO, REFUSED, SILENCE, Room, leg, plain
from house import House, eventually, intake_engine

from domain.events import EventType
from domain.lifecycle import OrderState
from domain.outcomes import Accepted, NotSent
from pipeline import deadletters
from pipeline import groups as stage
from pipeline.deadletters import By
from pipeline.groups import Groups
from pipeline.sweep import Sweep
from store import user_settings

FILLED, OPEN, CANCELLED = OrderState.FILLED, OrderState.OPEN, OrderState.CANCELLED
TOGETHER = "all lines are sent together, or none"


@pytest.fixture
def room(house: House) -> Room:
    return Room(house)


# ALL_OR_NONE


def test_all_lines_are_held_with_their_margin_then_sent(room: Room) -> None:
    room.accept(*plain(3), policy="ALL_OR_NONE")

    room.judge()

    assert room.states == ["HELD"] * 3
    assert room.work(1) == ("groups", "HELD", "waits for its group")
    assert room.blocked == sum(room.order(number).blocked_paise for number in range(3)) > 0
    assert "groups" in room.desk.wakeups.woken  # type: ignore[attr-defined]
    room.go()
    assert sorted(room.sent) == ["a", "b", "c"]
    assert room.states == ["SUBMITTED"] * 3
    assert room.house.events(room.ids[0]) == ["RECEIVED", "CLEARED", "RELEASED", "SENDING", "SUBMITTED"]
    room.house.check()


def test_one_that_is_rejected_ends_all_and_frees_every_paisa(room: Room) -> None:
    room.accept({}, REFUSED, {}, policy="ALL_OR_NONE")

    room.go()

    assert room.sent == []
    assert room.states == ["REJECTED"] * 3
    assert [reason and reason.partition(":")[0] for reason in room.reasons] == [
        "GROUP_REJECTED",
        "RISK_LIMIT",
        "GROUP_REJECTED",
    ]
    assert (room.reasons[0] or "").startswith("GROUP_REJECTED: line 2 (b) was REJECTED: RISK_LIMIT: order value")
    assert room.blocked == 0
    room.house.check()


def test_one_that_is_stuck_ends_the_others(room: Room) -> None:
    room.accept(*plain(2), policy="ALL_OR_NONE")
    room.house.run("update commands set due_at = now() + interval '1 hour' where order_id = %s", room.ids[1])
    room.judge()
    room.decide()
    assert room.work(0) == ("groups", "HELD", f"waits for line 2 (b) to be ready: {TOGETHER}")

    room.house.run(
        "update commands set state = 'STUCK', live = false, error = 'risk gave it up' where order_id = %s", room.ids[1]
    )
    room.house.run("insert into group_marks (intent_id, due_at) select id, now() from intents")
    room.decide()

    assert room.states == ["REJECTED", "RECEIVED"]
    assert room.reasons[0] == "GROUP_REJECTED: line 2 (b) is stuck: risk gave it up"
    assert room.blocked == 0
    room.house.check()


def test_what_is_given_up_by_the_engine_is_told_to_its_group(room: Room) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("broken")

    room.accept(*plain(2), policy="ALL_OR_NONE")
    room.house.run("update commands set due_at = now() + interval '1 hour' where order_id = %s", room.ids[1])
    room.judge()
    for _ in range(4):
        room.house.run("update commands set due_at = now() - interval '1 ms' where stage = 'validate'")
        intake_engine(room.desk, margin=broken).run("validate", "-")
    room.decide()

    assert room.states == ["REJECTED", "RECEIVED"]
    assert room.reasons[0] == "GROUP_REJECTED: line 2 (b) is stuck: RuntimeError: broken"


def test_past_the_limit_none_is_sent(room: Room) -> None:
    room.accept(*plain(2), policy="ALL_OR_NONE")
    room.house.run("update commands set due_at = now() + interval '1 hour' where order_id = %s", room.ids[1])
    room.judge()
    room.decide()

    room.pass_the_limit()
    room.decide()

    assert room.states == ["REJECTED", "RECEIVED"]
    assert (room.reasons[0] or "").startswith("GROUP_REJECTED: line 2 (b) was not ready by ")
    assert room.blocked == 0
    room.house.due_now()
    room.go()
    assert (room.reasons[1] or "").startswith("EXPIRED_UNSENT")
    assert room.sent == []
    room.house.check()


def test_a_cancel_of_a_held_line_ends_the_others(room: Room) -> None:
    room.accept(*plain(3), policy="ALL_OR_NONE")
    room.house.run("update commands set due_at = now() + interval '1 hour' where order_id = %s", room.ids[2])
    room.judge()
    room.decide()

    room.cancel(0)
    room.carry_out_cancels()
    room.decide()

    assert room.states == ["CANCELLED", "REJECTED", "RECEIVED"]
    assert room.reasons[1] == "GROUP_REJECTED: line 1 (a) was CANCELLED: CANCELLED_UNSENT: cancelled before it was sent"
    room.house.due_now()
    room.go()
    assert room.states == ["CANCELLED", "REJECTED", "REJECTED"]
    assert (room.sent, room.blocked) == ([], 0)
    room.house.check()


def test_a_cancel_that_is_only_asked_for_keeps_the_group_from_being_sent(room: Room) -> None:
    room.accept(*plain(2), policy="ALL_OR_NONE")
    room.judge()

    room.cancel(1)
    room.go()
    room.carry_out_cancels()

    assert room.states == ["REJECTED", "CANCELLED"]
    assert room.sent == []
    results = room.house.rows("select result from changes")
    assert results == [("CANCELLED",)]
    room.house.check()


def test_once_released_lines_live_on_their_own(room: Room) -> None:
    room.outcomes = {"b": NO}
    room.accept(*plain(3), policy="ALL_OR_NONE")

    room.go()

    assert room.states == ["SUBMITTED", "REJECTED", "SUBMITTED"]
    assert (room.reasons[1] or "").startswith("BROKER_REFUSED")
    room.house.check()


def test_a_user_who_wants_no_partial_orders_gets_all_or_none(room: Room) -> None:
    with room.house.store.unit() as unit:
        user_settings.change(unit, room.house.user_id, "allow_partial_multi_order", False, by="test")
    try:
        room.desk.forget()
        room.accept({}, REFUSED)
        room.go()
        assert room.states == ["REJECTED", "REJECTED"]
        room.accept({}, REFUSED, policy="BEST_EFFORT")
        room.go()
        assert room.states == ["SUBMITTED", "REJECTED"]
    finally:
        with room.house.store.unit() as unit:
            user_settings.change(unit, room.house.user_id, "allow_partial_multi_order", True, by="test")


def test_what_waits_for_nobody_leaves_no_trace_of_groups(room: Room) -> None:
    room.accept({}, policy="ALL_OR_NONE")
    room.judge()
    room.accept({}, REFUSED)
    room.judge()

    assert room.house.rows("select distinct policy, after from orders") == [(None, None)]
    assert room.marks() == 0
    assert "groups" not in room.desk.wakeups.woken  # type: ignore[attr-defined]


def test_slices_are_held_with_their_line_and_released_together(room: Room) -> None:
    room.accept({"instrument": "NSE:SBIN", "price": "975.00"}, {}, policy="ALL_OR_NONE")
    freeze = room.desk.instruments()["NSE:SBIN"].freeze_quantity
    room.house.run("update orders set quantity = %s where id = %s", freeze + 1, room.ids[0])
    room.house.run("update commands set due_at = now() + interval '1 hour' where order_id = %s", room.ids[1])
    room.engine = intake_engine(room.desk)  # of any value

    room.judge()
    assert room.states == ["HELD", "RECEIVED"]
    assert room.house.rows("select 1 from orders where parent_id is not null") == []
    room.house.due_now()
    room.judge()
    room.decide()

    slices = room.house.rows("select quantity, policy from orders where parent_id = %s order by id", room.ids[0])
    assert slices == [(freeze, "ALL_OR_NONE"), (1, "ALL_OR_NONE")]
    assert room.order(0).slices == 2
    room.send()
    assert sorted(room.sent) == ["a", "a", "b"]


# FAIL_FAST


def test_each_line_goes_when_the_one_before_was_taken(room: Room) -> None:
    room.accept(*plain(3), policy="FAIL_FAST")
    room.judge()
    room.decide()
    assert room.states == ["RECEIVED", "HELD", "HELD"]
    assert room.work(1) == ("groups", "HELD", "waits for line 1 (a) to be confirmed at its broker")

    room.send()
    assert "groups" in room.desk.wakeups.woken  # type: ignore[attr-defined]
    room.decide()
    assert room.states == ["SUBMITTED", "RECEIVED", "HELD"]
    room.go()

    assert room.sent == ["a", "b", "c"]
    assert room.states == ["SUBMITTED"] * 3
    room.house.check()


def test_the_first_refusal_ends_those_behind_it_without_an_attempt(room: Room) -> None:
    room.outcomes = {"b": NO}
    room.accept(*plain(4), policy="FAIL_FAST")

    room.go()

    assert room.sent == ["a", "b"]
    assert room.states == ["SUBMITTED", "REJECTED", "REJECTED", "REJECTED"]
    assert (
        room.reasons[3]
        == room.reasons[2]
        == "GROUP_REJECTED: line 2 (b) was REJECTED: BROKER_REFUSED: fake: not today (RMS)"
    )
    assert room.house.rows("select count(*) from attempts") == [(2,)]
    assert room.blocked == room.order(0).blocked_paise
    room.house.check()


def test_a_line_that_a_stage_refuses_ends_those_behind_it(room: Room) -> None:
    room.accept({}, REFUSED, {}, policy="FAIL_FAST")

    room.go()

    assert room.sent == ["a"]
    assert room.states == ["SUBMITTED", "REJECTED", "REJECTED"]


def test_what_is_unknown_holds_the_rest_until_it_is_known(room: Room) -> None:
    room.outcomes = {"a": SILENCE}
    room.accept(*plain(2), policy="FAIL_FAST")
    room.go()
    assert room.states == ["UNKNOWN", "HELD"]
    in_doubt = "waits for line 1 (a) to be confirmed at its broker: nobody can say yet whether its broker took it"
    assert room.work(1) == ("groups", "HELD", in_doubt)

    room.show((0, OPEN, 0))
    room.go()

    assert room.states == ["OPEN", "SUBMITTED"]
    room.house.check()


def test_what_stays_unknown_ends_the_rest_at_their_limit(room: Room) -> None:
    room.outcomes = {"a": SILENCE}
    room.accept(*plain(2), policy="FAIL_FAST")
    room.go()

    room.pass_the_limit()
    room.decide()

    assert room.states == ["UNKNOWN", "REJECTED"]
    assert (room.reasons[1] or "").startswith("GROUP_REJECTED: line 1 (a) was not confirmed at its broker by ")
    assert room.blocked == room.order(0).blocked_paise > 0
    room.house.check()


# legs


def test_a_leg_is_sent_when_the_one_before_is_filled(room: Room) -> None:
    room.accept({}, leg("a"), leg("b"))
    room.go()
    assert room.states == ["SUBMITTED", "HELD", "HELD"]
    assert room.work(1) == ("groups", "HELD", "waits for line 1 (a) to be filled")
    room.show((0, OrderState.PARTIALLY_FILLED, 9))
    room.go()
    assert room.states == ["PARTIALLY_FILLED", "HELD", "HELD"]

    room.show((0, FILLED, 10))
    room.go()
    assert room.states == ["FILLED", "SUBMITTED", "HELD"]
    room.show((0, FILLED, 10), (1, FILLED, 10))
    room.go()

    assert room.sent == ["a", "b", "c"]
    assert room.states == ["FILLED", "FILLED", "SUBMITTED"]
    room.house.check()


def test_a_leg_that_ends_partly_filled_ends_what_comes_after_it(room: Room) -> None:
    room.accept({}, leg("a"), leg("b"), {})
    room.go()

    room.show((0, CANCELLED, 4), (3, OPEN, 0))
    room.go()

    assert room.states == ["CANCELLED", "REJECTED", "REJECTED", "OPEN"]
    assert (room.reasons[1] or "").startswith(
        "GROUP_REJECTED: LEG_NOT_FILLED: line 1 (a), 4 of 10 filled, was CANCELLED"
    )
    assert (room.reasons[2] or "").startswith("GROUP_REJECTED: LEG_NOT_FILLED: line 2 (b) was REJECTED")
    assert sorted(room.sent) == ["a", "d"]
    assert room.blocked == room.order(3).blocked_paise
    room.house.check()


@pytest.mark.parametrize(("line", "outcome"), [(REFUSED, None), ({}, NO)])
def test_a_leg_that_is_rejected_ends_what_comes_after_it(room: Room, line: dict[str, Any], outcome: Any) -> None:
    room.outcomes = {"a": outcome} if outcome else {}
    room.accept(line, leg("a"))

    room.go()

    assert room.states == ["REJECTED", "REJECTED"]
    assert (room.reasons[1] or "").startswith("GROUP_REJECTED: LEG_NOT_FILLED: line 1 (a) was REJECTED: ")
    assert room.blocked == 0
    room.house.check()


def test_a_cancelled_leg_that_was_never_sent_ends_what_comes_after_it(room: Room) -> None:
    room.accept({}, leg("a"))
    room.judge()

    room.cancel(0)
    room.carry_out_cancels()
    room.go()

    assert room.states == ["CANCELLED", "REJECTED"]
    assert room.sent == []
    room.house.check()


def test_a_leg_that_rests_longer_than_the_limit_ends_what_comes_after_it(room: Room) -> None:
    room.accept({}, leg("a"), maxUnsentSec=3600)
    room.go()
    assert room.house.command(room.ids[1]).due_at == room.order(1).send_before

    room.pass_the_limit()
    room.decide()

    assert room.states == ["SUBMITTED", "REJECTED"]
    assert (room.reasons[1] or "").startswith("GROUP_REJECTED: LEG_NOT_FILLED: line 1 (a) was not filled by ")


def test_legs_of_an_all_or_none_group_wait_behind_it(room: Room) -> None:
    room.accept({}, leg("a"), {}, policy="ALL_OR_NONE")
    room.go()
    assert sorted(room.sent) == ["a", "c"]
    assert room.states == ["SUBMITTED", "HELD", "SUBMITTED"]

    room.show((0, OPEN, 0), (2, OrderState.REJECTED, 0))
    room.go()
    assert room.states == ["OPEN", "HELD", "REJECTED"]  # they were released: line 3 ends nobody
    room.show((0, FILLED, 10))
    room.go()

    assert (sorted(room.sent), room.sent[-1]) == (["a", "b", "c"], "b")
    room.house.check()


# once, whoever does it, and however often


def side_by_side(*tasks: Callable[[], object]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def releases(room: Room) -> list[tuple[Any, ...]]:
    return room.house.rows(
        "select order_id, count(*) from order_events where event_type = %s group by order_id order by 1",
        EventType.RELEASED.value,
    )


def test_two_workers_that_complete_a_group_at_once_release_it_once(room: Room) -> None:
    for _ in range(5):
        room.accept(*plain(4), policy="ALL_OR_NONE")
        room.judge()
        desks = [room.house.desk(room.broker) for _ in range(3)]
        side_by_side(*(Groups(desk).run for desk in desks))
        room.decide()

        assert set(room.states) == {"RECEIVED"}
        assert [count for _, count in releases(room)] == [1] * len(releases(room))
    eventually(lambda: room.send() or len(room.sent) >= 20)
    assert len(room.sent) == len(set(room.broker.tags)) == 20
    room.house.check()


def test_lines_that_are_judged_by_two_workers_at_once_complete_their_group(room: Room) -> None:
    """Neither sees the other's lines before both have committed: the one that decides last sees all of them."""
    for _ in range(5):
        room.accept(*plain(4), policy="ALL_OR_NONE")
        desks = [room.house.desk(room.broker) for _ in range(2)]
        room.house.run("update commands set stage = 'risk' where order_id = any(%s::uuid[])", room.ids[::2])

        def work(number: int, desk: Any) -> None:
            intake_engine(desk).run(("validate", "risk")[number], "-")
            Groups(desk).run()

        side_by_side(*(lambda n=n, desk=desk: work(n, desk) for n, desk in enumerate(desks)))
        room.decide()

        assert set(room.states) == {"RECEIVED"}
        assert len(releases(room)) % 4 == 0
    room.house.check()


def test_a_second_delivery_changes_nothing(room: Room) -> None:
    room.accept({}, REFUSED, policy="ALL_OR_NONE")
    room.go()
    before = room.house.rows("select order_id, seq from order_events order by 1, 2")

    room.house.run("insert into group_marks (intent_id, due_at) select id, now() from intents")
    assert room.decide() == 1
    assert room.decide() == 0

    assert room.house.rows("select order_id, seq from order_events order by 1, 2") == before
    assert room.marks() == 0


def test_the_same_key_gives_the_same_group_again(room: Room) -> None:
    first = room.accept(*plain(2), policy="ALL_OR_NONE", key="the key of a group, once")
    room.judge()
    again = room.accept(*plain(2), policy="ALL_OR_NONE", key="the key of a group, once")

    assert again.replayed
    assert again.lines == first.lines
    room.go()
    assert sorted(room.sent) == ["a", "b"]


def test_without_any_message_the_sweep_finds_what_can_go_on(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.accept(*plain(2), policy="ALL_OR_NONE")
    room.judge()
    room.desk.wakeups.woken.clear()  # type: ignore[attr-defined]
    room.make_marks_due()
    sweep = Sweep(room.desk)
    monkeypatch.setattr(sweep._queue, "depth", lambda queue: (0, 1))

    sweep.run()
    assert "groups" in room.desk.wakeups.woken  # type: ignore[attr-defined]
    room.decide()
    assert room.states == ["RECEIVED", "RECEIVED"]
    room.desk.wakeups.woken.clear()  # type: ignore[attr-defined]
    sweep.run()
    assert "groups" not in room.desk.wakeups.woken  # type: ignore[attr-defined]
    sweep.close()


def test_without_any_message_the_sweep_finds_what_is_over(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.accept({}, leg("a"))
    room.go()
    room.desk.wakeups.woken.clear()  # type: ignore[attr-defined]
    room.pass_the_limit()
    sweep = Sweep(room.desk)
    monkeypatch.setattr(sweep._queue, "depth", lambda queue: (0, 1))

    sweep.run()

    assert "groups" in room.desk.wakeups.woken  # type: ignore[attr-defined]
    sweep.close()


def test_a_group_that_another_worker_holds_is_left_to_it(room: Room) -> None:
    room.accept(*plain(2), policy="ALL_OR_NONE")
    room.judge()

    with room.house.store.unit() as unit:
        unit.rows("select 1 from intents for update")
        assert room.decide() == 0

    assert room.decide() == 1
    assert room.states == ["RECEIVED", "RECEIVED"]


def test_a_defect_in_one_group_leaves_its_neighbours_alone_and_ends_with_an_operator(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.accept(*plain(2), policy="ALL_OR_NONE")
    bad = list(room.ids)
    room.accept(leg_named("good"), {}, policy="ALL_OR_NONE")
    room.judge()
    decide = stage.decide

    def broken(policy: Any, lines: Any, *rest: Any, **more: Any) -> Any:
        if lines[0].name != "good":
            raise RuntimeError("a defect")
        return decide(policy, lines, *rest, **more)

    monkeypatch.setattr(stage, "decide", broken)
    for _ in range(stage.POLICY.tries):
        room.decide()
        room.make_marks_due()

    assert room.states == ["RECEIVED", "RECEIVED"]
    stuck = [room.house.command(order_id) for order_id in bad]
    told = ("STUCK", "groups", "RuntimeError: a defect")
    assert [(command.state, command.stage, command.error) for command in stuck] == [told] * 2
    assert room.house.states(bad) == ["HELD", "HELD"]

    monkeypatch.setattr(stage, "decide", decide)
    for order_id in bad:
        deadletters.requeue(room.desk, order_id, By(operator="anybody", reason="mended"))
    room.decide()
    assert room.house.states(bad) == ["RECEIVED", "RECEIVED"]
    room.house.check()


def leg_named(name: str) -> dict[str, Any]:
    return {"correlationId": name}


def test_lines_whose_workers_died_are_decided_on_alone_and_are_an_operators_in_the_end(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(room.desk)
    monkeypatch.setattr(sweep._queue, "depth", lambda queue: (0, 1))
    room.accept({}, leg("a"))
    waiting = list(room.ids)
    room.accept(*plain(2), policy="ALL_OR_NONE")
    room.judge()

    def die(order_ids: list[str]) -> None:
        room.house.run(
            "insert into claims (worker, stage, order_ids, opened_at) values ('dead', 'groups', %s::uuid[],"
            " now() - interval '5 s')",
            order_ids,
        )
        sweep._find_dead_workers()

    die([waiting[1], *room.ids])
    assert [room.house.command(order_id).deaths for order_id in (waiting[1], *room.ids)] == [1, 1, 1]
    room.decide()
    assert room.states == ["RECEIVED", "RECEIVED"]
    assert room.house.command(waiting[1]).deaths == 0  # a decision was made on it, and nobody died

    for _ in range(4):
        die([waiting[1]])
    command = room.house.command(waiting[1])
    assert (command.state, command.stage, command.error) == ("STUCK", "groups", "4 workers died of it")
    assert room.house.rows("select 1 from claims") == []
    sweep.close()
    room.house.check()


def test_a_report_that_shows_a_held_line_at_its_broker_takes_it_out_of_its_group(room: Room) -> None:
    """Nobody sent it, and its book has it all the same: it is at its broker, and not sent again."""
    room.accept({}, leg("a"))
    room.go()

    room.show((0, OPEN, 0), (1, OPEN, 0))
    room.show((0, FILLED, 10), (1, OPEN, 0))
    room.go()

    assert room.states == ["FILLED", "OPEN"]
    assert room.sent == ["a"]
    room.house.check()


def test_a_released_line_that_was_not_sent_is_sent_again_without_its_group(room: Room) -> None:
    room.outcomes = {"b": NotSent("no route")}
    room.accept(*plain(2), policy="FAIL_FAST")
    room.go()
    assert room.states == ["SUBMITTED", "RECEIVED"]

    room.outcomes = {"b": Accepted("B-2")}
    room.house.due_now()
    room.send()

    eventually(lambda: room.states == ["SUBMITTED", "SUBMITTED"])
    room.house.check()
