"""Workers that die at a crash point: `python dying.py`, one JSON line for each.

For each it forks a process that does one act (a name of `ACTS`) with the crash point set, and writes how it ended: 0, or
the signal's number. Forking saves the seconds that an interpreter takes to start.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import orjson
from house import BROKER, House, change_engine, eventually, intake_engine, outcome_engine

import pipeline.chain
import store.signals
from brokers import transport
from domain.commands import CommandKind
from domain.guards import Guard
from domain.ids import new_id
from domain.intents import PlaceRequest, Submission
from domain.orders import Order
from domain.schedules import ScheduledCancel
from domain.setting_names import Changes
from domain.signals import SignalForm, digest_of, order_of
from domain.squareoff import SquareOff
from domain.switches import Mode, Scope
from domain.verdicts import Verdict
from ops import clock
from pipeline import (
    aftermath,
    crash,
    deadletters,
    drain,
    firing,
    groups,
    letters,
    reads,
    retention,
    schedules,
    settings,
    signals,
    squareoff,
    switches,
)
from pipeline.books import BookReader
from pipeline.chain import OUTCOME, queue_of
from pipeline.deadletters import By
from pipeline.desk import Desk
from pipeline.groups import Groups
from pipeline.listen import Listener
from pipeline.rabbit import SafeConsumer, connect, wakeup_message
from pipeline.reconcile import Reconciler, ask
from pipeline.reports import apply_due
from pipeline.signals import Who
from pipeline.stage import Policy, set_aside
from pipeline.stages import persist
from pipeline.steps import STEPS
from pipeline.sweep import Sweep
from pipeline.switches import Turn, turn
from pipeline.updates import Inbox, Update
from pipeline.wakeups import Wakeups
from store import commands
from store.acts import Once
from store.stuck import Wanted
from tests.chaos.office import KEY, PLACE, cancel_all, modify_all, modify_engine
from tests.chaos.toy import WireBroker, a_row

OPERATOR = By(operator="anybody", reason="the crash is over")
SWITCHER = switches.By(name="anybody", user_id=None, is_operator=True)
TRIES = Policy(tries=5, backoff_ms=(200, 1_000))
SIGNALS = SignalForm.model_validate(
    {
        "account": "FK0001",
        "template": {
            "instrument": {"field": "ticker"},
            "side": {"value": "BUY"},
            "quantity": {"value": 1},
            "product": {"value": "CNC"},
            "orderType": {"value": "LIMIT"},
            "price": {"value": "1200.00"},
        },
    }
)
Asked = Mapping[str, Any]


def main() -> None:
    logging.disable(logging.CRITICAL)
    for line in sys.stdin.buffer:
        asked = orjson.loads(line)
        child = os.fork()
        if child == 0:
            do(asked)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


def do(asked: Asked) -> None:
    crash._WANTED = crash._NAME = asked["point"] or None
    crash._COUNT = ""
    transport.crash = crash.crash
    pipeline.chain.QUEUE_PREFIX = asked["prefix"]
    house = House(asked["url"], asked["url"], asked["user"], queue_url=asked["queue_url"])
    try:
        ACTS[asked["act"]](house, house.desk(WireBroker(asked["broker_url"])), asked)
        house.close()
    except BaseException as error:  # noqa: BLE001 - told by the exit status
        print(f"{asked}: {error!r}", file=sys.stderr, flush=True)
        os._exit(3)


def accept(house: House, desk: Desk, asked: Asked) -> None:
    house.accept(2, desk=desk, key=KEY, **PLACE)


def define_signals(house: House, desk: Desk, asked: Asked) -> None:
    signals.define(desk, Who(house.user_id, "ada", "key", Once(house.user_id, KEY, b"f")), "breakout", SIGNALS)


def signal_(house: House, desk: Desk, asked: Asked) -> None:
    """One delivery; the next one of the same order is the same signal."""
    ((strategy_id,),) = house.rows("select id from signal_strategies")
    line = order_of(SIGNALS, "breakout", {"ticker": "NSE:INFY"})
    signal_id, digest = new_id(), digest_of(line)
    guard = Guard(signal_id, strategy_id, digest, None)
    key = f"signal {strategy_id} {signal_id}"
    submission = Submission(house.user_id, strategy_id, key, digest, PlaceRequest(orders=(line,)), guard)
    house.intake(desk).submit(submission).result(15)


def refuse_signal(house: House, desk: Desk, asked: Asked) -> None:
    with desk.store.unit() as unit:
        (strategy,) = store.signals.lock(unit, [row[0] for row in house.rows("select id from signal_strategies")]).values()
    signals.note_refused(desk, strategy, new_id(), "MALFORMED", "no quantity")


def intake(house: House, desk: Desk, asked: Asked) -> None:
    intake_engine(desk, *STEPS).run(asked["stage"], "-")


def fail(house: House, desk: Desk, asked: Asked) -> None:
    """A try that fails, at any stage."""

    def judge(order: Order, *_: Any) -> Verdict:
        raise RuntimeError("not today")

    stage = asked["stage"]
    if stage in OUTCOME:
        persist.settle = judge  # type: ignore[assignment]
        outcome_engine(desk).run(stage, "-")
    elif stage.startswith("dispatch."):
        with desk.store.unit() as unit:
            (command,) = commands.lock(unit, [row[0] for row in unit.rows("select order_id from commands")]).values()
        set_aside(desk, stage, TRIES, {command.order_id: (command, RuntimeError("not today"))})
    else:
        judges = dict.fromkeys(("validate", "risk", "margin", "route"), judge)
        intake_engine(desk, **judges).run(stage, "-")


def cancel(house: House, desk: Desk, asked: Asked) -> None:
    cancel_all(desk, house.user_id)


def judge_cancels(house: House, desk: Desk, asked: Asked) -> None:
    change_engine(desk).run("cancel", "-")


def ask_for_cancels(house: House, desk: Desk, asked: Asked) -> None:
    changer = house.changer(desk)
    changer.pump("-")
    eventually(lambda: changer.is_idle)


def modify(house: House, desk: Desk, asked: Asked) -> None:
    modify_all(desk, house.user_id)


def judge_modifies(house: House, desk: Desk, asked: Asked) -> None:
    modify_engine(desk).run("modify", "-")


def ask_for_modifies(house: House, desk: Desk, asked: Asked) -> None:
    changer = house.changer(desk, CommandKind.MODIFY)
    changer.pump("-")
    eventually(lambda: changer.is_idle)


def fail_to_cancel(house: House, desk: Desk, asked: Asked) -> None:
    """A try of a cancel, or a modify, that fails, wherever it is."""
    stage = asked["stage"]
    with desk.store.unit() as unit:
        ids = [row[0] for row in unit.rows("select order_id from commands where seq = 1")]
        failures = {id_: (held, RuntimeError("not today")) for id_, held in commands.lock(unit, ids, seq=1).items()}
    set_aside(desk, stage, TRIES, failures)


def dispatch(house: House, desk: Desk, asked: Asked) -> None:
    dispatcher = house.dispatcher(desk)
    dispatcher.pump("-")
    eventually(lambda: dispatcher.is_idle)


def decide(house: House, desk: Desk, asked: Asked) -> None:
    Groups(desk).run()


def fail_to_decide(house: House, desk: Desk, asked: Asked) -> None:
    def decide(*_: Any, **__: Any) -> Any:
        raise RuntimeError("not today")

    groups.decide = decide
    Groups(desk).run()


def outcome(house: House, desk: Desk, asked: Asked) -> None:
    outcome_engine(desk).run(asked["stage"], "-")


def reports(house: House, desk: Desk, asked: Asked) -> None:
    apply_due(desk)


def books(house: House, desk: Desk, asked: Asked) -> None:
    BookReader(desk, BROKER).read()


def sweep(house: House, desk: Desk, asked: Asked) -> None:
    Sweep(desk).run()


def wake(house: House, desk: Desk, asked: Asked) -> None:
    wakeups = Wakeups(house.queue_url)
    wakeups.start()
    wakeups.wake("validate")
    wakeups.stop(5.0)


def consume(house: House, desk: Desk, asked: Asked) -> None:
    broker = connect(house.queue_url)
    broker.declare_queue(queue_of("validate"), ensure=True)
    broker.enqueue(wakeup_message(queue_of("validate"), None))
    consumer = SafeConsumer(broker, queue_of("validate"), prefetch=1, timeout=500)
    consumer.ack(eventually(lambda: next(consumer)))


def partitions(house: House, desk: Desk, asked: Asked) -> None:
    clock._make_partitions(desk)


def requeue(house: House, desk: Desk, asked: Asked) -> None:
    for (order_id,) in house.rows("select order_id from commands where state = 'STUCK'"):
        deadletters.requeue(desk, order_id, OPERATOR)


def drain_(house: House, desk: Desk, asked: Asked) -> None:
    drain.drain(desk, "requeue", Wanted(), OPERATOR)


def tidy(house: House, desk: Desk, asked: Asked) -> None:
    letters.tidy(desk, ["validate"])


def hear(house: House, desk: Desk, asked: Asked) -> None:
    """A stream tells of each order that its broker has taken."""
    told = house.rows("select account_id, broker_tag, broker_order_id from orders where broker_order_id is not null")
    Inbox(desk).write(
        [
            Update(account, a_row(tag, broker_order_id=broker_order_id, state=persist.OrderState.OPEN))
            for account, tag, broker_order_id in told
        ]
    )


def hold_streams(house: House, desk: Desk, asked: Asked) -> None:
    Listener(desk, {BROKER: None}, name="dying")._keep_leases([])  # type: ignore[dict-item]


def leave_streams(house: House, desk: Desk, asked: Asked) -> None:
    Listener(desk, {BROKER: None}, name="dying")._leave()  # type: ignore[dict-item]


def compare(house: House, desk: Desk, asked: Asked) -> None:
    Reconciler(desk, BROKER).run("-")


def switch(house: House, desk: Desk, asked: Asked) -> None:
    """One that stops nobody's orders."""
    turn(desk, Scope.STRATEGY, f"{house.user_id}:nobodys", Turn(mode=Mode.HALTED, reason="a try"), SWITCHER)


def halt(house: House, desk: Desk, asked: Asked) -> None:
    turn(desk, Scope.USER, house.user_id, Turn(mode=Mode.HALTED, reason="a try", cancel_open=True), SWITCHER)
    aftermath.carry_out(desk)


def flatten(house: House, desk: Desk, asked: Asked) -> None:
    if not house.rows("select 1 from switches"):  # whoever comes after a death goes on with what it says
        turn(desk, Scope.USER, house.user_id, Turn(mode=Mode.HALTED, reason="a try", flatten=True), SWITCHER)
    aftermath.carry_out(desk)


def set_(house: House, desk: Desk, asked: Asked) -> None:
    settings.change(desk, "admin", Changes({"dispatch_tries": 9}), settings.By(name="anybody"))


def note_a_read(house: House, desk: Desk, asked: Asked) -> None:
    reads.note(desk, "anybody", "list_orders", "/v2/orders", "key")


def forget(house: House, desk: Desk, asked: Asked) -> None:
    retention.forget_old(desk)


def ask_(house: House, desk: Desk, asked: Asked) -> None:
    ask(desk, ["FK0001"])


def schedule(house: House, desk: Desk, asked: Asked) -> None:
    """A cancel in an hour, of orders that nobody has."""
    when = (desk.now() + timedelta(hours=1)).isoformat(timespec="seconds")
    wanted = ScheduledCancel.model_validate({"filter": {"tag": "nobody's"}, "at": when})
    schedules.accept(desk, _asked(house), wanted)


def begin_schedules(house: House, desk: Desk, asked: Asked) -> None:
    firing.Firing(desk).fire_due()


def unschedule(house: House, desk: Desk, asked: Asked) -> None:
    for (schedule_id,) in house.rows("select id from schedules where state = 'PENDING'"):
        schedules.remove(desk, squareoff.Asked(house.user_id, house.user_id, f"{KEY} too", b"x"), schedule_id)


def square_off(house: House, desk: Desk, asked: Asked) -> None:
    squareoff.accept(desk, _asked(house), SquareOff(all=True))


def _asked(house: House) -> squareoff.Asked:
    return squareoff.Asked(house.user_id, house.user_id, KEY, b"x")


ACTS: dict[str, Callable[[House, Desk, Asked], None]] = {
    "accept": accept,
    "define signals": define_signals,
    "signal": signal_,
    "refuse a signal": refuse_signal,
    "intake": intake,
    "fail": fail,
    "cancel": cancel,
    "judge cancels": judge_cancels,
    "ask for cancels": ask_for_cancels,
    "fail to cancel": fail_to_cancel,
    "modify": modify,
    "judge modifies": judge_modifies,
    "ask for modifies": ask_for_modifies,
    "dispatch": dispatch,
    "decide": decide,
    "fail to decide": fail_to_decide,
    "outcome": outcome,
    "reports": reports,
    "books": books,
    "sweep": sweep,
    "wake": wake,
    "consume": consume,
    "partitions": partitions,
    "requeue": requeue,
    "drain": drain_,
    "tidy": tidy,
    "hear": hear,
    "hold streams": hold_streams,
    "leave streams": leave_streams,
    "compare": compare,
    "ask": ask_,
    "switch": switch,
    "halt": halt,
    "flatten": flatten,
    "set": set_,
    "forget": forget,
    "note a read": note_a_read,
    "schedule": schedule,
    "begin schedules": begin_schedules,
    "unschedule": unschedule,
    "square off": square_off,
}


if __name__ == "__main__":
    main()
