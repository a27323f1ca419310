"""Dispatch: an attempt is committed before the call, the call is made once, and what came of it is written down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import BROKER, FakeBroker, House, eventually, intake_engine, outcome_engine, utc_now
from proxies import Proxy

from brokers.base import Line
from brokers.limits import Granted
from domain.outcomes import Accepted, NotSent, Outcome, Refused, Unknown
from pipeline.reports import apply_due
from pipeline.stages.dispatch import Dispatcher
from store import commands, settings

STAGE = f"dispatch.{BROKER}"


class Gate:
    """Holds calls back until it is opened; then answers as told."""

    def __init__(self, outcome: Outcome | None = None) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()
        self._outcome = outcome

    def __call__(self, line: Line) -> Outcome:
        self.reached.set()
        assert self.opened.wait(20)
        return self._outcome or Accepted(f"B-{line.order.broker_tag}")


def cleared(house: House, count: int = 1, lines: int = 1, **terms: Any) -> list[str]:
    """Orders that stand at dispatch."""
    ids = house.accept_many(count, lines, **terms)
    intake_engine(house.desk()).run("validate")
    return ids


def test_the_attempt_is_committed_before_the_call(house: House) -> None:
    seen: list[Any] = []

    def look(line: Line) -> Outcome:
        seen.extend(
            house.rows(
                "select a.outcome, a.tag, c.state, o.state, c.lease_until > now() from attempts a join commands c using"
                " (order_id) join orders o on o.id = a.order_id where a.order_id = %s and a.number = 1",
                line.order.id,
            )
        )
        return Accepted("B1")

    (order_id,) = cleared(house)
    desk = house.desk(FakeBroker(look))

    assert house.dispatcher(desk).pump() == 1

    house.settled([order_id])
    assert seen == [(None, house.order(order_id).broker_tag, "SENDING", "SENDING", True)]
    house.check()


def test_a_second_wake_never_calls_again(house: House) -> None:
    ids = cleared(house, 3)
    gate = Gate()
    broker = FakeBroker(gate)
    first, second = house.dispatcher(house.desk(broker)), house.dispatcher(house.desk(broker))

    assert [first.pump(), second.pump("-"), first.pump("-")] == [3, 0, 0]

    gate.opened.set()
    house.settled(ids)
    assert [first.pump("-"), second.pump("-")] == [0, 0]
    assert sorted(broker.tags) == sorted(house.order(order_id).broker_tag for order_id in ids)


def test_two_dispatchers_share_the_work_and_never_an_order(house: House) -> None:
    ids = cleared(house, 60)
    broker = FakeBroker(call_slots=4)
    dispatchers = [house.dispatcher(house.desk(broker)) for _ in range(2)]
    threads = [threading.Thread(target=dispatcher.pump) for dispatcher in dispatchers for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    house.settled(ids)
    assert sorted(broker.tags) == sorted(house.order(order_id).broker_tag for order_id in ids)
    house.check()


def test_a_lease_that_ends_without_an_outcome_is_unknown_and_never_called_again(house: House) -> None:
    (order_id,) = cleared(house)
    gate = Gate()
    broker = FakeBroker(gate)
    dispatcher = house.dispatcher(house.desk(broker))
    dispatcher.pump()
    gate.reached.wait(5)

    end_leases(house)
    outcome_engine(house.desk()).run("persist")

    assert (house.order(order_id).state, house.command(order_id).state) == ("UNKNOWN", "UNKNOWN")
    assert house.dispatcher(house.desk(broker)).pump("-") == 0
    house.check()
    gate.opened.set()
    eventually(lambda: house.rows("select 1 from attempts where outcome is not null"))
    assert len(broker.calls) == 1


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(Accepted("B7"), "SUBMITTED"), (Refused("X1", "no"), "REJECTED"), (NotSent("no connection"), "RECEIVED")],
)
@pytest.mark.parametrize("is_settled", [True, False])
def test_a_late_answer_that_tells_something_ends_the_not_knowing(
    house: House, outcome: Outcome, state: str, is_settled: bool
) -> None:
    (order_id,) = cleared(house)
    gate = Gate(outcome)
    house.dispatcher(house.desk(FakeBroker(gate))).pump()
    gate.reached.wait(5)
    end_leases(house)
    if is_settled:
        outcome_engine(house.desk()).run("persist")
        assert house.order(order_id).state == "UNKNOWN"

    gate.opened.set()
    eventually(lambda: house.rows("select 1 from attempts where outcome is not null"))
    outcome_engine(house.desk()).run("persist")
    apply_due(house.desk())

    assert house.order(order_id).state == state
    house.check()


def test_a_late_answer_that_tells_nothing_leaves_it_unknown(house: House) -> None:
    (order_id,) = cleared(house)
    gate = Gate(Unknown("reset"))
    house.dispatcher(house.desk(FakeBroker(gate))).pump()
    gate.reached.wait(5)
    end_leases(house)
    outcome_engine(house.desk()).run("persist")

    gate.opened.set()
    eventually(lambda: house.rows("select 1 from attempts where outcome is not null"))
    outcome_engine(house.desk()).run("persist")

    assert house.command(order_id).state == "UNKNOWN"
    assert house.events(order_id).count("UNKNOWN") == 1


def test_what_was_not_sent_is_sent_again_with_the_same_tag(house: House) -> None:
    (order_id,) = cleared(house)
    answers = [NotSent("no connection"), NotSent("rate limit", retry_after_s=0.5), Accepted("B1")]
    broker = FakeBroker(lambda _: answers.pop(0))
    dispatcher = house.dispatcher(house.desk(broker))

    for number in range(1, 4):
        house.due_now()
        dispatcher.pump("-")
        eventually(lambda number=number: house.command(order_id).fence == number)
        house.settled([order_id])

    assert house.order(order_id).state == "SUBMITTED"
    assert broker.tags == [house.order(order_id).broker_tag] * 3
    assert house.rows("select number, outcome from attempts order by number") == [
        (1, "NOT_SENT"),
        (2, "NOT_SENT"),
        (3, "ACCEPTED"),
    ]
    house.check()


def test_an_order_that_was_not_sent_a_thousand_times_still_waits_its_turn(house: House) -> None:
    (order_id,) = cleared(house)
    house.run("update commands set fence = 1100")
    house.dispatcher(house.desk(FakeBroker(lambda _: NotSent("circuit open")))).pump()
    house.settled([order_id])

    outcome_engine(house.desk()).run("persist")

    assert house.command(order_id).stage == STAGE


def test_however_long_a_broker_wants_to_be_left_alone_an_order_ends_at_its_limit(house: House) -> None:
    (order_id,) = cleared(house)
    house.dispatcher(house.desk(FakeBroker(lambda _: NotSent("rate limit", retry_after_s=86_400)))).pump()
    house.settled([order_id])

    assert house.command(order_id).due_at == house.order(order_id).send_before


def test_past_its_limit_it_is_not_sent_any_more(house: House) -> None:
    (order_id,) = cleared(house)
    house.run("update orders set send_before = now()")
    broker = FakeBroker()

    house.dispatcher(house.desk(broker)).pump()

    assert (house.order(order_id).state, house.order(order_id).reason_code) == ("REJECTED", "EXPIRED_UNSENT")
    assert broker.calls == []
    house.check()


def test_a_cancel_asked_for_before_the_attempt_wins(house: House) -> None:
    (order_id,) = cleared(house)
    house.run("update orders set cancel_requested = true")
    broker = FakeBroker()

    house.dispatcher(house.desk(broker)).pump()

    assert house.order(order_id).state == "CANCELLED"
    assert house.command(order_id).state == "DONE"
    assert broker.calls == []
    house.check()


def test_a_halted_account_sends_nothing(house: House) -> None:
    (order_id,) = cleared(house)
    house.run(
        "insert into switches (scope, subject, mode, version, reason, by, by_operator, at, wanted)"
        " values ('ACCOUNT', 'FK0001', 'HALTED', 1, 'enough', 'asha', true, now(), '{}')"
    )
    broker = FakeBroker()

    house.dispatcher(house.desk(broker)).pump()

    assert (house.order(order_id).state, house.order(order_id).reason_code) == ("REJECTED", "HALTED")
    assert broker.calls == []
    house.check()


def test_a_dead_session_lets_orders_wait(house: House) -> None:
    (order_id,) = cleared(house)
    house.run("update accounts set session = 'DEAD'")
    broker = FakeBroker()

    house.dispatcher(house.desk(broker)).pump()
    command = house.command(order_id)
    assert (command.state, command.stage, command.due_at > utc_now()) == ("READY", STAGE, True)
    assert broker.calls == []

    house.run("update accounts set session = 'ALIVE'")
    house.due_now()
    assert house.dispatcher(house.desk(broker)).pump() == 1
    house.settled([order_id])


def test_a_call_takes_lines_of_one_intent_and_account_only(house: House) -> None:
    first, second = house.accept(7), house.accept(2)
    other = house.accept(2, account="FK0002")
    intake_engine(house.desk()).run("validate")
    broker = FakeBroker(lines_per_call=3)

    house.dispatcher(house.desk(broker)).pump()

    house.settled([line.order_id for intent in (first, second, other) for line in intent.lines])
    groups = sorted((call[0].order.intent_id, len(call)) for call in broker.calls)
    assert groups == sorted(
        [(first.intent_id, 3), (first.intent_id, 3), (first.intent_id, 1), (second.intent_id, 2), (other.intent_id, 2)]
    )
    assert all(len({(line.order.intent_id, line.order.account_id) for line in call}) == 1 for call in broker.calls)
    outcome_engine(house.desk()).run("persist")
    house.check()


def test_each_line_of_a_call_has_its_own_outcome(house: House) -> None:
    ids = [line.order_id for line in house.accept(3).lines]
    intake_engine(house.desk()).run("validate")
    answers = {ids[0]: Accepted("B0"), ids[1]: Refused("X", "no"), ids[2]: Unknown("cut short")}

    house.dispatcher(house.desk(FakeBroker(lambda line: answers[line.order.id], lines_per_call=10))).pump()
    house.settled(ids)
    outcome_engine(house.desk()).run("persist")

    assert house.states(ids) == ["SUBMITTED", "REJECTED", "UNKNOWN"]
    house.check()


def test_an_adapter_that_raises_has_said_nothing(house: House) -> None:
    ids = cleared(house, 2)

    def answer(line: Line) -> Outcome:
        if line.order.id == ids[0]:
            raise RuntimeError("a defect \x00")
        return Accepted("B1")

    house.dispatcher(house.desk(FakeBroker(answer))).pump()
    house.settled(ids)
    outcome_engine(house.desk()).run("persist")

    assert house.states(ids) == ["UNKNOWN", "SUBMITTED"]
    house.check()


def test_an_adapter_that_forgets_a_line_has_said_nothing(house: House) -> None:
    ids = [line.order_id for line in house.accept(2).lines]
    intake_engine(house.desk()).run("validate")
    broker = FakeBroker(lines_per_call=10)
    broker.place = lambda session, lines, **_: [Accepted("B1")]  # type: ignore[method-assign]

    house.dispatcher(house.desk(broker)).pump()
    house.settled(ids)
    outcome_engine(house.desk()).run("persist")

    assert house.states(ids) == ["UNKNOWN", "UNKNOWN"]


def test_an_outcome_that_cannot_be_written_down_keeps_no_other_back(house: House) -> None:
    ids = cleared(house, 3)
    gate = Gate()
    odd: Any = Accepted(object())  # type: ignore[arg-type]

    def answer(line: Line) -> Outcome:
        gate(line)
        return odd if line.order.id == ids[1] else Accepted("B1")

    dispatcher = house.dispatcher(house.desk(FakeBroker(answer)))
    dispatcher.pump()
    gate.opened.set()
    house.settled(ids)
    outcome_engine(house.desk()).run("persist")

    assert house.states(ids) == ["SUBMITTED", "UNKNOWN", "SUBMITTED"]
    eventually(lambda: dispatcher.is_idle)


def test_what_could_not_be_prepared_was_not_sent(house: House) -> None:
    """The session can't be read: no byte has left, so nobody needs to ask the broker's book."""
    (order_id,) = cleared(house)
    broker = FakeBroker()
    desk = house.desk(broker)

    def no_session(account_id: str) -> Any:
        raise LookupError(account_id)

    desk.session = no_session  # type: ignore[method-assign]
    house.dispatcher(desk).pump()
    house.settled([order_id])
    outcome_engine(house.desk()).run("persist")

    assert (house.order(order_id).state, house.command(order_id).stage) == ("RECEIVED", STAGE)
    assert broker.calls == []


def test_one_order_that_cannot_pass_the_gate_keeps_no_other_back(house: House) -> None:
    ids = cleared(house, 4)
    house.run("update orders set account_id = 'GONE' where id = %s", ids[1])
    broker = FakeBroker()

    assert house.dispatcher(house.desk(broker)).pump() == 3

    house.settled([ids[0], ids[2], ids[3]])
    command = house.command(ids[1])
    assert (command.state, command.attempts, command.fence) == ("READY", 1, 0)
    assert len(broker.calls) == 3


def test_an_order_whose_record_refuses_the_attempt_keeps_no_other_back(house: House) -> None:
    ids = cleared(house, 3)
    house.run(
        "insert into attempts (order_id, number, call_id, broker, account_id, tag, fence, request, started_at,"
        " lease_until) values (%s, 1, %s, 'fake', 'FK0001', 't', 1, '{}', now(), now())",
        ids[0],
        ids[0],
    )
    broker = FakeBroker()

    assert house.dispatcher(house.desk(broker)).pump() == 2

    house.settled(ids[1:])
    assert house.command(ids[0]).attempts == 1


def test_a_lease_that_is_over_before_the_call_sends_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a long pause between the commit of the attempt and the call: no timer of ours may have run."""
    (order_id,) = cleared(house)
    broker = FakeBroker()
    dispatcher = house.dispatcher(house.desk(broker))
    call = dispatcher._call
    resume = threading.Event()

    def paused(what: Any) -> None:
        assert resume.wait(10)
        call(what)

    monkeypatch.setattr(dispatcher, "_call", paused)
    dispatcher.pump()
    clock = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + 3600)
    resume.set()
    house.settled([order_id])
    monkeypatch.undo()
    outcome_engine(house.desk()).run("persist")

    assert broker.calls == []
    assert (house.order(order_id).state, house.command(order_id).stage) == ("RECEIVED", STAGE)


@pytest.fixture
def wire(house: House) -> Iterator[Proxy]:
    proxy = Proxy(house.database_url)
    yield proxy
    proxy.close()


def test_outcomes_wait_for_a_database_that_is_away(house: House, wire: Proxy) -> None:
    ids = cleared(house, 3)
    gate = Gate()
    broker = FakeBroker(gate)
    desk = house.desk(broker, database_url=wire.url)
    house.dispatcher(desk).pump()
    eventually(lambda: len(broker.calls) == 3)

    wire.cut()
    gate.opened.set()
    eventually(lambda: not desk.store.engine.pool.checkedout())
    wire.mend()

    house.settled(ids)
    outcome_engine(house.desk()).run("persist")
    assert house.states(ids) == ["SUBMITTED"] * 3
    house.check()


def test_the_thread_that_writes_outcomes_outlives_whatever_a_pump_raises(house: House) -> None:
    ids = cleared(house, 2)
    dispatcher = house.dispatcher(house.desk(FakeBroker(call_slots=1)))
    pump, raised = dispatcher.pump, threading.Event()

    def broken(since: str | None = None) -> int:
        raised.set()
        raise ZeroDivisionError

    dispatcher.pump = broken  # type: ignore[method-assign]
    pump()
    assert raised.wait(5)
    dispatcher.pump = pump  # type: ignore[method-assign]
    eventually(lambda: dispatcher.is_idle)

    pump("-")
    house.settled(ids)


def test_a_dispatcher_that_stops_takes_nothing_new(house: House) -> None:
    ids = cleared(house, 6)
    gate = Gate()
    broker = FakeBroker(gate, call_slots=2)
    dispatcher = Dispatcher(house.desk(broker), BROKER)
    dispatcher.pump()
    gate.reached.wait(5)

    stopping = threading.Thread(target=dispatcher.stop, args=(10,))
    stopping.start()
    eventually(lambda: dispatcher._stopping)
    gate.opened.set()
    stopping.join()

    outcome_engine(house.desk()).run("persist")
    assert sorted(house.states(ids)) == ["RECEIVED"] * 4 + ["SUBMITTED"] * 2
    assert house.rows("select count(*) from attempts where outcome is null") == [(0,)]
    house.check()


class PausedPace:
    """Keeps a pump that goes on for ever: its second batch begins when it is let."""

    def __init__(self) -> None:
        self.begun, self.let = 0, threading.Event()

    def keep(self) -> float:
        self.begun += 1
        assert self.begun == 1 or self.let.wait(20)
        return time.monotonic()

    def took(self, began_at: float) -> None: ...


def test_answers_are_written_down_while_a_pump_goes_on(house: House) -> None:
    ids = cleared(house, 3)
    dispatcher = house.dispatcher(house.desk(FakeBroker()))
    dispatcher._pace = pace = PausedPace()  # type: ignore[assignment] # the pump's, that the test stops

    pumping = threading.Thread(target=dispatcher.pump)
    pumping.start()

    eventually(lambda: house.states(ids) == ["SUBMITTED"] * 3)
    assert pumping.is_alive()
    assert pace.begun == 2
    pace.let.set()
    pumping.join()
    house.check()


def test_a_wake_up_during_a_pump_waits_for_nobody_and_is_looked_into(house: House) -> None:
    (first,) = cleared(house)
    dispatcher = house.dispatcher(house.desk(FakeBroker()))
    dispatcher._pace = pace = PausedPace()  # type: ignore[assignment] # the pump's, that the test stops
    pumping = threading.Thread(target=dispatcher.pump)
    pumping.start()
    eventually(lambda: pace.begun == 2)  # it has sent the first, and looks once more

    (late,) = cleared(house)
    house.run("update commands set due_at = now() - interval '1 hour' where order_id = %s", late)
    assert dispatcher.pump() == 0  # at once, though the other one stands still
    assert dispatcher.pump("-") == 0

    pace.let.set()
    pumping.join()
    house.settled([first, late])
    house.check()


def test_a_pump_that_goes_on_for_long_lets_its_message_go_and_asks_for_another(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = cleared(house, 3)
    desk = house.desk(FakeBroker())
    dispatcher = house.dispatcher(desk)
    monkeypatch.setattr("pipeline.pump.ROUNDS_MAX", 2)  # one for what killed a worker, one for the rest

    assert dispatcher.pump() == 3
    assert STAGE in desk.wakeups.woken  # type: ignore[attr-defined]
    house.settled(ids)


def end_leases(house: House) -> None:
    house.due_now()
    with house.store.unit() as unit:
        assert commands.expire_leases(unit, STAGE, utc_now()) == 1


class Allowance:
    """A rate budget that grants each account so many calls in all."""

    def __init__(self, **calls: int) -> None:
        self.left = calls
        self.given_back = 0

    def take(self, account_id: str, wanted: int, *, urgent: bool = False) -> Granted:
        count = min(wanted, self.left[account_id])
        self.left[account_id] -= count
        return Granted(account_id, count, 0.0 if count == wanted else 30.0)

    def give_back(self, granted: Granted, count: int) -> None:
        self.given_back += count


def test_an_account_without_a_rate_left_keeps_no_other_account_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.portions.PEEK_MAX", 4)
    first = cleared(house, 9)
    second = cleared(house, 2, account="FK0002")
    broker, allowance = FakeBroker(), Allowance(FK0001=1, FK0002=5)

    sent = house.dispatcher(house.desk(broker), budget=allowance).pump()

    assert sent == 3
    house.settled([first[0], *second])
    assert allowance.left == {"FK0001": 0, "FK0002": 3}
    assert allowance.given_back == 0
    assert {line.order.account_id for call in broker.calls for line in call} == {"FK0001", "FK0002"}


def test_a_process_that_sleeps_through_its_lease_calls_nobody_when_it_wakes(house: House) -> None:
    (order_id,) = cleared(house)
    with house.store.unit() as unit:
        settings.change(unit, "lease_margin_s", 0.3, by="me")
    script = Path(__file__).with_name("pausing_dispatcher.py")
    path = os.pathsep.join([str(script.parents[3]), str(script.parent)])
    command = [sys.executable, script, house.database_url]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "paused\n"
        threading.Event().wait(0.4)  # the lease itself, which a sleeping process can't be asked about
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "0\n"

    assert house.command(order_id).stage == STAGE
    assert house.rows("select outcome from attempts") == [("NOT_SENT",)]
    house.check()
