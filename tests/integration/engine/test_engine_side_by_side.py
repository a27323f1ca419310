"""Several engines on one record: never the same command twice, and never past a limit."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from house import ACCOUNTS, BROKER, FakeBroker, House, a_row, eventually, intake_engine, outcome_engine, steps

from brokers.base import Session
from domain.lifecycle import OrderState
from domain.orders import Order
from domain.outcomes import BookRow, Fill
from domain.verdicts import Proceed, Reject, Verdict
from pipeline.books import BookReader
from pipeline.intake_group import Facts, Step
from pipeline.reports import apply_due
from pipeline.stage import Policy
from store import accounts
from store.accounts import Delta

MOMENT = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)


def side_by_side(*tasks: Callable[[], object]) -> None:
    """Run them at once, and raise what any of them raised."""
    start, raised = threading.Barrier(len(tasks)), []

    def run(task: Callable[[], object]) -> None:
        start.wait()
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            raised.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_no_command_is_judged_by_two_engines(house: House) -> None:
    ids = house.accept_many(40, 5)
    judged: Counter[str] = Counter()

    def judge(order: Order, _facts: Facts) -> Verdict:
        judged[order.id] += 1
        return Proceed()

    engines = [intake_engine(house.desk(), validate=judge) for _ in range(4)]
    side_by_side(*(lambda engine=engine: engine.run("validate") for engine in engines))

    assert judged == Counter(ids)
    assert {house.command(order_id).stage for order_id in ids} == {"dispatch.fake"}
    house.check()


def taking(price: int) -> Sequence[Step]:
    """Steps whose margin takes so much of the account for each order, as far as it goes."""

    def take(order: Order, facts: Facts) -> Verdict:
        totals = facts.totals[order.account_id or ""]
        if totals.blocked_paise + price > totals.limit_paise:
            return Reject("MARGIN", (f"{totals.blocked_paise} of {totals.limit_paise} is blocked",))
        order.blocked_paise = price
        totals.blocked_paise += price
        return Proceed()

    return (*steps()[:2], Step("margin", Policy(3, (1, 5)), take), *steps()[3:])


def test_sixty_four_orders_at_once_never_pass_a_limit(house: House) -> None:
    house.run("update accounts set limit_paise = 1000")
    ids: list[str] = []
    submissions = [house.submission(key=f"a-key-for-order-{number}") for number in range(64)]
    intakes = [house.intake() for _ in range(2)]
    for number, submission in enumerate(submissions):
        ids.extend(line.order_id for line in intakes[number % 2].submit(submission).result(15).lines)
    engines = [intake_engine(house.desk(), *taking(100)) for _ in range(4)]

    side_by_side(*(lambda engine=engine: engine.run("validate") for engine in engines))

    assert Counter(house.states(ids)) == {"RECEIVED": 10, "REJECTED": 54}
    assert house.rows("select blocked_paise, open_orders from accounts where id = 'FK0001'") == [(1000, 10)]
    house.check()


def test_what_ends_frees_what_it_held_and_the_next_order_may_have_it(house: House) -> None:
    house.run("update accounts set limit_paise = 300")
    first = house.accept_many(5)
    engine = intake_engine(house.desk(), *taking(100))
    engine.run("validate")
    assert Counter(house.states(first)) == {"RECEIVED": 3, "REJECTED": 2}

    house.run("update orders set cancel_requested = true")
    house.dispatcher(house.desk()).pump()
    second = house.accept_many(5)
    engine.run("validate")

    assert Counter(house.states(second)) == {"RECEIVED": 3, "REJECTED": 2}
    house.check()


def test_accounts_are_locked_in_one_order_by_everyone(house: House) -> None:
    """Two batches over the same accounts, each in its own order, wait for each other and never embrace."""
    names = [account.id for account in ACCOUNTS]

    def add(order: Sequence[str]) -> None:
        for _ in range(40):
            with house.store.unit() as unit:
                accounts.add(unit, {name: Delta(1, 1, 0) for name in order})

    side_by_side(lambda: add(names), lambda: add(names[::-1]), lambda: add(names[1:] + names[:1]))

    assert house.rows("select distinct exposure_paise from accounts") == [(120,)]


class FillingBroker(FakeBroker):
    """Shows every order it took as filled, in two trades."""

    def book(self, session: Session, *, timeout_s: float) -> Sequence[BookRow]:
        return [
            a_row(
                line.order.broker_tag,
                state=OrderState.FILLED,
                filled_quantity=10,
                average_price=Decimal("1500.123456"),
                fills=tuple(Fill(f"{line.order.broker_tag}-{n}", "NSE", 5, Decimal(1500), MOMENT) for n in (1, 2)),
            )
            for call in list(self.calls)
            for line in call
            if line.order.account_id == session.account_id
        ]


def test_everything_at_once(house: House) -> None:
    """Door, intake, dispatch, outcome, book readers and reports on one record, two of each; nobody embraces."""
    broker = FillingBroker(lines_per_call=3)
    engines = [intake_engine(house.desk(broker), *taking(100)) for _ in range(2)]
    dispatchers = [house.dispatcher(house.desk(broker)) for _ in range(2)]
    outcomes = [outcome_engine(house.desk(broker)) for _ in range(2)]
    readers = [BookReader(house.desk(broker), BROKER) for _ in range(2)]
    desks = [house.desk(broker) for _ in range(2)]
    ids: list[str] = []

    def accept(account: str) -> None:
        for _ in range(5):
            ids.extend(house.accept_many(2, 3, account=account))

    def work(run: Callable[[], object]) -> None:
        eventually(lambda: (run(), len(ids) == 90 and not unfilled(house))[1], within_s=40)

    side_by_side(
        *(lambda account=account: accept(account.id) for account in ACCOUNTS[:3]),
        *(lambda engine=engine: work(lambda: engine.run("validate", "-")) for engine in engines),
        *(lambda dispatcher=dispatcher: work(lambda: dispatcher.pump("-")) for dispatcher in dispatchers),
        *(lambda engine=engine: work(lambda: engine.run("persist", "-")) for engine in outcomes),
        *(lambda reader=reader: work(reader.read) for reader in readers),
        *(lambda desk=desk: work(lambda: apply_due(desk)) for desk in desks),
    )

    assert set(house.states(ids)) == {"FILLED"}
    assert Counter(broker.tags) == Counter(house.order(order_id).broker_tag for order_id in ids)
    assert house.rows("select count(*), sum(quantity) from trades") == [(180, 900)]
    assert house.rows("select count(*) from commands where done_at is null") == [(0,)]
    assert house.rows("select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]
    house.check()


def unfilled(house: House) -> bool:
    return bool(house.rows("select 1 from orders where state <> 'FILLED' limit 1"))


def test_a_stage_is_found_by_the_broker_it_is_for(house: House) -> None:
    other = FakeBroker(name="other")
    (order_id,) = house.accept_many(1)
    intake_engine(house.desk(FakeBroker(), other)).run("validate")

    assert house.command(order_id).stage == f"dispatch.{BROKER}"
