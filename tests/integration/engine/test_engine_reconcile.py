"""The reconciler against a real record: a difference is told once it is sure, mended by a report, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from house import BROKER, FakeBroker, House, a_row, eventually, intake_engine, utc_now

from brokers.base import Funds, Session
from brokers.limits import Granted
from domain.ids import broker_tag, new_id
from domain.lifecycle import OrderState
from domain.market import IST, last_close, trading_day
from domain.money import Money
from domain.orders import Product
from domain.outcomes import BookRow, Fill, Unknown, Unreadable
from domain.positions import Position
from pipeline import dayends, reconcile
from pipeline.dayends import next_at
from pipeline.desk import Desk
from pipeline.reconcile import Reconciler
from pipeline.reports import apply_due
from pipeline.wakeups import DEEP
from store import settings

ACCOUNT = "FK0001"
LAG = timedelta(seconds=10)
MINUTE = timedelta(seconds=60)


class Works:
    """A house with one broker, and a clock that a test moves."""

    def __init__(self, house: House, broker: FakeBroker | None = None) -> None:
        self.house, self.broker = house, broker or FakeBroker()
        self.ahead = timedelta()
        self.desk = self.new_desk()
        self.reconciler = Reconciler(self.desk, BROKER)

    def new_desk(self) -> Desk:
        desk = self.house.desk(self.broker)
        real = desk.now
        desk.now = lambda: real() + self.ahead  # type: ignore[method-assign]
        return desk

    def sent(self, **terms: Any) -> str:
        (order_id,) = self.house.accept_many(1, **terms)
        intake_engine(self.desk).run("validate")
        self.house.dispatcher(self.desk).pump()
        self.house.settled([order_id])
        return order_id

    def row(self, order_id: str, **given: Any) -> BookRow:
        return a_row(self.house.order(order_id).broker_tag, **given)

    def shows(self, *rows: BookRow) -> None:
        self.broker.books[ACCOUNT] = list(rows)

    def cycle(self, *, looks: int = 2) -> None:
        """A look, and those that follow it while something is suspected."""
        self.ahead += MINUTE
        for _ in range(looks):
            self.reconciler.run()
            apply_due(self.desk)
            self.ahead += LAG

    def findings(self) -> list[tuple[Any, ...]]:
        return self.house.rows("select kind, subject from findings where gone_at is null order by id")

    def sources(self, order_id: str) -> list[tuple[Any, ...]]:
        return self.house.rows("select source, event_type from order_events where order_id = %s order by seq", order_id)

    def outcome(self, account: str = ACCOUNT) -> str:
        return str(self.house.rows("select outcome from reconciliations where account_id = %s", account)[0][0])

    def state(self) -> Sequence[Any]:
        """All that running it once more must not change."""
        return [
            self.house.rows("select * from orders order by id"),
            self.house.rows("select * from order_events order by order_id, seq"),
            self.house.rows("select order_id, exchange, trade_id, quantity from trades order by 1, 2, 3"),
            self.house.rows("select order_id, digest from reports order by 1, 2"),
            self.house.rows("select id, account_id, kind, subject, ours, theirs, found_at, gone_at from findings order by id"),
            self.house.rows("select account_id, broker_order_id, kind from strays order by 1, 2"),
        ]


@pytest.fixture(autouse=True)
def far_from_the_days_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated days end half a day from now, whenever the test runs."""
    monkeypatch.setattr(dayends, "SIM_DAY_ENDS", (datetime.now(IST) + timedelta(hours=12)).time())


@pytest.fixture
def works(house: House) -> Works:
    return Works(house)


def filled(*fills: Fill, quantity: int = 10) -> dict[str, Any]:
    count = sum(fill.quantity for fill in fills)
    state = OrderState.FILLED if count == quantity else OrderState.PARTIALLY_FILLED
    return {"state": state, "status": "open", "filled_quantity": count, "average_price": Decimal("1500"), "fills": fills}


def fill(number: int, quantity: int, price: str = "1500.00") -> Fill:
    return Fill(f"T{number}", "NSE", quantity, Decimal(price), utc_now().replace(microsecond=0))


# ---- differences that reports mend


def test_a_lost_fill_is_mended_within_one_cycle_and_its_event_says_what_differed(works: Works):
    order_id = works.sent()
    works.shows(works.row(order_id, **filled(fill(1, 4), fill(2, 6))))

    works.cycle()

    order = works.house.order(order_id)
    assert (order.state, order.filled_quantity) == ("FILLED", 10)
    assert works.sources(order_id)[-1] == ("RECONCILE", "FILLED")
    ((detail,),) = works.house.rows("select detail from order_events where order_id = %s order by seq desc limit 1", order_id)
    assert detail["differs"] == {
        "state": ["SUBMITTED", "FILLED"],
        "filled": [0, 10],
        "trades": [None, ["NSE:T1", "NSE:T2"]],
    }
    assert works.findings() == []
    works.house.check()


def test_running_it_again_changes_nothing(works: Works):
    order_ids = [works.sent(), works.sent()]
    stranger = a_row(broker_tag("OC", new_id()), state=OrderState.OPEN)
    works.shows(works.row(order_ids[0], **filled(fill(1, 10))), stranger)
    works.broker.held[ACCOUNT] = [Position("NSE:TCS", "NSE:TCS", Product.CNC, 7, 0, Decimal(3000))]
    works.cycle(looks=4)
    before = works.state()

    works.cycle(looks=3)

    assert works.state() == before
    assert sorted(works.findings()) == [("MISSING", order_ids[1]), ("POSITION", "NSE:INFY CNC"), ("POSITION", "NSE:TCS CNC")]
    works.house.check()


def test_one_look_alone_makes_no_report(works: Works):
    order_id = works.sent()
    works.shows(works.row(order_id, state=OrderState.OPEN))

    works.cycle(looks=1)

    assert works.house.order(order_id).state == "SUBMITTED"
    assert works.outcome() == "SUSPECTS"
    assert works.house.rows("select count(*) from reports") == [(0,)]


def test_what_the_book_reader_brings_in_between_is_its_own_news(works: Works):
    from pipeline.books import BookReader

    order_id = works.sent()
    works.shows(works.row(order_id, state=OrderState.OPEN))
    works.cycle(looks=1)

    BookReader(works.desk, BROKER).read()
    apply_due(works.desk)
    works.reconciler.run()

    assert [source for source, _ in works.sources(order_id)][-1] == "POLL"
    assert works.outcome() == "AGREES"


def test_trades_that_came_after_the_last_fill_are_taken_over_with_an_event(works: Works):
    order_id = works.sent()
    works.shows(works.row(order_id, **{**filled(fill(1, 10)), "fills": ()}))
    works.cycle()
    assert works.house.rows("select count(*) from trades") == [(0,)]
    works.shows(works.row(order_id, **filled(fill(1, 10))))

    works.cycle()
    works.cycle()

    assert works.house.rows("select trade_id, quantity from trades") == [("T1", 10)]
    assert works.sources(order_id)[-2:] == [("RECONCILE", "FILLED"), ("RECONCILE", "RECONCILED")]
    works.house.check()


def test_an_unknown_order_that_the_book_shows_is_adopted(house: House):
    works = Works(house, FakeBroker(lambda _line: Unknown("reset")))
    order_id = works.sent()
    assert house.order(order_id).state == "UNKNOWN"
    works.shows(works.row(order_id, state=OrderState.OPEN))

    works.cycle()

    assert (house.order(order_id).state, house.order(order_id).broker_order_id) == ("OPEN", works.row(order_id).broker_order_id)
    house.check()


def test_a_row_without_its_tag_is_known_by_the_brokers_number(works: Works):
    order_id = works.sent()
    number = works.house.order(order_id).broker_order_id
    works.shows(a_row(None, broker_order_id=number, state=OrderState.OPEN))

    works.cycle()

    assert works.house.order(order_id).state == "OPEN"
    assert works.findings() == []


# ---- findings


def test_a_live_order_that_the_book_does_not_show_is_told_and_left(works: Works, caplog: pytest.LogCaptureFixture):
    order_id = works.sent()
    works.shows()

    works.cycle()

    assert works.house.order(order_id).state == "SUBMITTED"
    assert works.findings() == [("MISSING", order_id)]
    assert [record.kind for record in caplog.records if record.message == "the record and a broker differ"] == ["MISSING"]  # type: ignore[attr-defined]

    works.shows(works.row(order_id))
    works.cycle(looks=1)
    assert works.findings() == []
    assert works.house.rows("select count(*) from findings where gone_at is not null") == [(1,)]


def test_an_order_that_shows_late_is_no_finding(works: Works):
    order_id = works.sent()
    works.shows()
    works.cycle(looks=1)
    works.shows(works.row(order_id))

    works.cycle()

    assert works.house.rows("select count(*) from findings") == [(0,)]


def test_an_ended_order_that_the_book_shows_alive_is_told_and_stays_ended(works: Works):
    order_id = works.sent()
    works.shows(works.row(order_id, state=OrderState.CANCELLED, status="cancelled"))
    works.cycle()
    assert works.house.order(order_id).state == "CANCELLED"
    works.shows(works.row(order_id, state=OrderState.OPEN))

    works.cycle()

    assert works.house.order(order_id).state == "CANCELLED"
    assert works.findings() == [("ORDER", order_id)]


def test_a_position_from_elsewhere_is_a_finding_and_no_event(works: Works):
    order_id = works.sent()
    works.shows(works.row(order_id, **filled(fill(1, 10))))
    works.broker.held[ACCOUNT] = [Position("NSE:INFY", "NSE:INFY", Product.CNC, 35, 5, Decimal(1500))]
    works.cycle()
    events = works.sources(order_id)

    works.cycle()

    ((ours, theirs),) = works.house.rows("select ours, theirs from findings where gone_at is null")
    assert (ours, theirs) == ("+10", "+30")
    assert works.sources(order_id) == events


def test_positions_that_agree_or_were_only_carried_over_are_no_finding(works: Works):
    order_id = works.sent()
    works.shows(works.row(order_id, **filled(fill(1, 10))))
    works.broker.held[ACCOUNT] = [
        Position("NSE:INFY", "NSE:INFY", Product.CNC, 10, 0, Decimal(1500)),
        Position("NFO:NIFTY26DECFUT", "x", Product.NRML, -75, -75, Decimal(25000)),
    ]
    works.cycle()

    works.cycle()

    assert works.house.rows("select count(*) from findings") == [(0,)]


def test_positions_that_cannot_be_read_leave_their_findings_as_they_are(works: Works):
    works.shows()
    works.broker.held[ACCOUNT] = [Position("NSE:TCS", "NSE:TCS", Product.CNC, 7, 0, Decimal(3000))]
    works.cycle()
    assert works.findings() == [("POSITION", "NSE:TCS CNC")]
    works.broker.held[ACCOUNT] = Unreadable("502")

    works.cycle()

    assert works.findings() == [("POSITION", "NSE:TCS CNC")]
    works.broker.held[ACCOUNT] = []
    works.cycle(looks=1)
    assert works.findings() == []


@pytest.mark.parametrize(("used", "told"), [("14000", 0), ("100", 1)])
def test_funds_are_told_where_the_broker_has_much_less_in_use(works: Works, used: str, told: int):
    order_id = works.sent()
    works.shows(works.row(order_id))
    works.house.run("update orders set blocked_paise = 1500000 where id = %s", order_id)
    with works.house.store.unit() as unit:
        settings.change(unit, "funds_tolerance_paise", 100_000, by="test")
    works.desk.forget()
    works.broker.money[ACCOUNT] = Funds(Money.of_rupees(Decimal(10_000)), Money.of_rupees(Decimal(used)))

    works.cycle()

    assert [kind for kind, _ in works.findings()] == ["FUNDS"] * told


# ---- the day's end


def at_india(works: Works, moment: datetime) -> None:
    works.ahead += moment - works.desk.now()


def after_close(works: Works, order_id: str) -> datetime:
    order = works.house.order(order_id)
    closes = last_close(works.desk.instruments()[order.instrument], trading_day(order.accepted_at))
    return (closes or order.accepted_at) + timedelta(minutes=16)


@pytest.fixture
def exchange(house: House) -> Any:
    """The accounts belong to an exchange's calendar, and not to SIM."""
    house.run("update accounts set calendar = 'NSE'")
    yield
    house.run("update accounts set calendar = 'SIM'")


def resting(works: Works) -> str:
    """An order of the last trading morning that is open at its broker."""
    house = works.house
    house.run("update accounts set calendar = 'SIM'")
    order_id = works.sent()
    works.shows(works.row(order_id, state=OrderState.OPEN))
    works.cycle()
    assert house.order(order_id).state == "OPEN"
    house.run("update accounts set calendar = 'NSE'")
    works.desk.forget()
    day = trading_day(utc_now())
    while last_close(works.desk.instruments()["NSE:INFY"], day) is None:
        day += timedelta(days=1)
    morning = datetime.combine(day, time(10), IST)
    house.run("update orders set accepted_at = %s", morning)
    works.ahead = timedelta()
    house.run("update reconciliations set due_at = %s", morning)
    at_india(works, morning)
    return order_id


@pytest.mark.usefixtures("exchange")
def test_a_day_order_ends_as_its_book_says_after_the_close(works: Works):
    order_id = resting(works)
    at_india(works, after_close(works, order_id))
    works.shows(works.row(order_id, state=OrderState.CANCELLED, status="cancelled", message="unfilled at the close"))

    works.cycle()

    assert (works.house.order(order_id).state, works.house.order(order_id).reason) == ("CANCELLED", "unfilled at the close")
    works.house.check()


@pytest.mark.usefixtures("exchange")
def test_a_day_order_that_was_seen_to_rest_after_the_close_expires_with_its_book(works: Works):
    order_id = resting(works)
    at_india(works, after_close(works, order_id))
    works.cycle()
    assert works.house.order(order_id).state == "OPEN"

    at_india(works, next_at(time(6), works.desk.now()))
    works.shows()
    works.cycle()

    order = works.house.order(order_id)
    assert (order.state, order.reason_code) == ("EXPIRED", "BROKER_EXPIRED")
    assert works.sources(order_id)[-1] == ("RECONCILE", "EXPIRED")
    assert works.house.rows("select open_orders from accounts where id = %s", ACCOUNT) == [(0,)]
    assert works.findings() == []
    works.house.check()


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("last_read", [None, time(12)])
def test_a_day_order_nobody_saw_after_the_close_is_told_and_left(works: Works, last_read: time | None):
    order_id = resting(works)
    if last_read is not None:
        at_india(works, next_at(last_read, works.desk.now()))
        works.cycle()
    at_india(works, next_at(time(6), works.desk.now()))
    works.shows()

    works.cycle()

    assert works.house.order(order_id).state == "OPEN"
    assert works.findings() == [("DAY_OVER", order_id)]


@pytest.mark.usefixtures("exchange")
def test_a_fill_after_the_last_sight_stands_against_an_expiry(works: Works):
    order_id = resting(works)
    at_india(works, after_close(works, order_id))
    works.cycle()
    works.shows(works.row(order_id, **filled(fill(1, 4))))
    works.cycle(looks=1)
    at_india(works, next_at(time(6), works.desk.now()))
    works.shows()

    works.cycle()

    assert works.house.order(order_id).state == "OPEN"
    assert works.findings()[0] == ("DAY_OVER", order_id)


@pytest.mark.parametrize(("before_the_end", "state", "told"), [(2, "EXPIRED", []), (30, "OPEN", ["DAY_OVER"])])
def test_a_simulated_order_expires_if_it_was_seen_just_before_the_simulators_day_ended(
    works: Works, before_the_end: int, state: str, told: list[str]
):
    order_id = works.sent()
    works.shows(works.row(order_id, state=OrderState.OPEN))
    works.cycle()
    over_at = next_at(dayends.SIM_DAY_ENDS, works.house.order(order_id).accepted_at)
    at_india(works, over_at - timedelta(minutes=before_the_end))
    works.reconciler.run()

    at_india(works, over_at)
    works.shows()
    works.cycle()

    assert works.house.order(order_id).state == state
    assert [kind for kind, _ in works.findings()] == told
    works.house.check()


# ---- who, when, and what stands in the way


def test_at_the_start_of_a_process_every_account_is_looked_at(works: Works):
    works.reconciler.run()
    assert works.reconciler.run() == 0

    assert works.reconciler.run(DEEP) == 4


def test_an_account_is_never_looked_at_twice_at_once(works: Works):
    inside, leave = threading.Event(), threading.Event()
    book, looks = works.broker.book, []

    def slow(session: Session, *, timeout_s: float) -> Any:
        looks.append(session.account_id)
        inside.set()
        leave.wait(10)
        return book(session, timeout_s=timeout_s)

    works.broker.book = slow  # type: ignore[method-assign]
    tomorrow = works.desk.now() + timedelta(days=1)
    works.house.run("insert into reconciliations (account_id, due_at) select id, %s from accounts", tomorrow)
    reconcile.ask(works.desk, [ACCOUNT])
    first = threading.Thread(target=works.reconciler.run)
    first.start()
    inside.wait(10)
    reconcile.ask(works.desk, [ACCOUNT])

    looked = Reconciler(works.new_desk(), BROKER).run()
    leave.set()
    first.join(10)

    assert looked == 0
    assert looks == [ACCOUNT, ACCOUNT]  # asked for again while it was under way: once more, after it


def test_a_look_whose_worker_died_is_taken_over_when_its_lease_is_over(works: Works):
    with works.house.store.unit() as unit:
        from store import reconciliations

        died = reconciliations.claim(unit, BROKER, works.desk.now(), works.desk.now() + timedelta(seconds=45))
    assert died is not None
    assert works.reconciler.run() == 3

    works.ahead += timedelta(seconds=46)

    assert works.reconciler.run() == 1


class Budget:
    """Room for so many reads, and none more for a minute."""

    def __init__(self, room: int) -> None:
        self.room = room

    def take(self, account_id: str, wanted: int, *, urgent: bool = False) -> Granted:
        if wanted > self.room:
            return Granted(account_id, 0, 60.0)
        self.room -= wanted
        return Granted(account_id, wanted, 0.0)

    def give_back(self, granted: Granted, count: int) -> None:
        self.room += count


@pytest.mark.parametrize(
    ("room", "outcome", "detail"),
    [
        (1, "WAITS", "the read budget has no room"),
        (3, "AGREES", "couldn't be read: POSITION"),
        (5, "AGREES", None),
    ],
)
def test_a_look_takes_no_more_than_the_read_budget_has(works: Works, room: int, outcome: str, detail: str | None):
    works.house.run("update accounts set session = 'DEAD' where id <> %s", ACCOUNT)
    works.broker.held[ACCOUNT], works.broker.money[ACCOUNT] = [], Funds(Money(0), Money(0))

    Reconciler(works.desk, BROKER, Budget(room)).run()  # type: ignore[arg-type]

    told = works.house.rows("select outcome, detail from reconciliations where account_id = %s", ACCOUNT)
    assert told == [(outcome, detail)]


def test_an_unreadable_book_leaves_all_as_it_was(works: Works):
    order_id = works.sent()
    works.shows(works.row(order_id, state=OrderState.OPEN))
    works.cycle(looks=1)
    memory = works.house.rows("select memory::text from reconciliations where account_id = %s", ACCOUNT)
    works.broker.books[ACCOUNT] = Unreadable("html")

    works.reconciler.run()

    assert works.outcome() == "UNREADABLE"
    assert works.house.rows("select memory::text from reconciliations where account_id = %s", ACCOUNT) == memory


def test_an_operators_request_is_followed_to_its_end(works: Works):
    order_id = works.sent()
    works.shows(works.row(order_id, **filled(fill(1, 10))))
    reconcile.ask(works.desk, [ACCOUNT])
    assert not reconcile.overview(works.desk, [ACCOUNT])["accounts"][0]["done"]

    for _ in range(3):
        works.reconciler.run()
        apply_due(works.desk)
        works.ahead += LAG
    (account,) = reconcile.overview(works.desk, [ACCOUNT])["accounts"]

    assert (account["done"], account["outcome"]) == (True, "AGREES")
    eventually(lambda: works.house.order(order_id).state is OrderState.FILLED)
