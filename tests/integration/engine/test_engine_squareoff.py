"""Square-off on the real record: one intent that closes what was traded, and closes it once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from house import FakeBroker, House, a_row, eventually, intake_engine, outcome_engine, utc_now

from domain.cancels import IDS_MAX
from domain.errors import KeyReused, Malformed, NotFound, StoreAway
from domain.ids import new_id
from domain.lifecycle import OrderState
from domain.orders import Product
from domain.outcomes import Fill, Unreadable
from domain.reducing import Place
from domain.squareoff import SquareOff
from pipeline import squareoff
from pipeline.books import BookReader
from pipeline.desk import Desk
from pipeline.reports import apply_due
from pipeline.squareoff import Asked, SquaredOff
from pipeline.steps import STEPS
from store import accounts, positions, standings
from store.unit import Unit

ALL = SquareOff(all=True)


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def desk(house: House, broker: FakeBroker) -> Desk:
    return house.desk(broker)


def asked(house: House, key: str | None = None, fingerprint: bytes = b"s" * 32) -> Asked:
    return Asked(house.user_id, house.user_id, key or new_id(), fingerprint)


def close(house: House, desk: Desk, wanted: SquareOff = ALL, key: str | None = None) -> SquaredOff:
    return squareoff.accept(desk, asked(house, key), wanted)


def traded(house: House, desk: Desk, broker: FakeBroker, *, trades: bool = True, **terms: Any) -> str:
    """An order that is filled, with its trades."""
    order_id = house.accept(1, **{"product": "MIS", "orderType": "MARKET", "price": None, **terms}).lines[0].order_id
    work(house, desk)
    order = house.order(order_id)
    assert order.state == "SUBMITTED", order.reason
    fill(house, desk, broker, order_id, trades=trades)
    return order_id


def work(house: House, desk: Desk) -> None:
    """What waits goes to its broker."""
    intake_engine(desk, *STEPS).run("validate", "-")
    house.dispatcher(desk).pump("-")
    eventually(lambda: not house.rows("select 1 from commands where live"))
    outcome_engine(desk).run("persist", "-")


def fill(house: House, desk: Desk, broker: FakeBroker, order_id: str, *, trades: bool = True) -> None:
    order = house.order(order_id)
    fills = (Fill("NSE", new_id()[-10:], order.quantity, Decimal(1500), utc_now()),) if trades else ()
    row = a_row(
        order.broker_tag,
        broker_order_id=order.broker_order_id,
        state=OrderState.FILLED,
        quantity=order.quantity,
        filled_quantity=order.quantity,
        average_price=Decimal(1500),
        fills=fills,
    )
    shown = broker.books.get(order.account_id or "", [])
    assert not isinstance(shown, Unreadable)
    broker.books[order.account_id or ""] = [*shown, row]
    BookReader(desk, broker.name).read()
    apply_due(desk)
    assert house.order(order_id).state == "FILLED"


def told(answer: SquaredOff) -> list[tuple[str, str, str, int]]:
    return [(one["account"], one["instrument"], one["side"], one["quantity"]) for one in answer.orders]


def test_positions_are_closed_by_one_intent_and_the_orders_name_their_accounts(
    house: House, desk: Desk, broker: FakeBroker
) -> None:
    traded(house, desk, broker)
    traded(house, desk, broker, account="FK0002", instrument="NSE:TCS", side="SELL", quantity=4)

    answer = close(house, desk)

    assert told(answer) == [("FK0001", "NSE:INFY", "SELL", 10), ("FK0002", "NSE:TCS", "BUY", 4)]
    work(house, desk)
    ids = [one["orderId"] for one in answer.orders]
    assert house.states(ids) == ["SUBMITTED", "SUBMITTED"]
    assert [house.order(order_id).account_id for order_id in ids] == ["FK0001", "FK0002"]
    assert {house.order(order_id).intent_id for order_id in ids} == {answer.intent_id}
    house.check()


def test_nothing_to_close_makes_no_intent_and_uses_up_no_key(house: House, desk: Desk, broker: FakeBroker) -> None:
    key = new_id()
    assert close(house, desk, key=key) == SquaredOff(None, [], [])

    traded(house, desk, broker)
    assert close(house, desk, key=key).intent_id is not None


def test_the_same_key_gives_the_same_answer(house: House, desk: Desk, broker: FakeBroker) -> None:
    traded(house, desk, broker)
    key = new_id()

    first, second = close(house, desk, key=key), close(house, desk, key=key)

    assert (second.intent_id, list(second.orders), list(second.left)) == (first.intent_id, first.orders, first.left)
    assert second.replayed
    with pytest.raises(KeyReused):
        squareoff.accept(desk, asked(house, key, b"t" * 32), ALL)


def test_a_dry_run_stores_nothing(house: House, desk: Desk, broker: FakeBroker) -> None:
    traded(house, desk, broker)

    answer = close(house, desk, SquareOff(all=True, dry_run=True))

    assert (answer.intent_id, told(answer)) == (None, [("FK0001", "NSE:INFY", "SELL", 10)])
    assert house.rows("select count(*) from intents") == [(1,)]


def test_a_dry_run_waits_for_nobody_who_has_the_accounts(house: House, desk: Desk, broker: FakeBroker) -> None:
    traded(house, desk, broker)

    with house.store.unit() as unit:
        accounts.lock(unit, ["FK0001", "FK0002"])
        answer = close(house, desk, SquareOff(all=True, dry_run=True))

    assert told(answer) == [("FK0001", "NSE:INFY", "SELL", 10)]


def test_accounts_that_somebody_holds_are_told_as_a_busy_database(
    house: House, desk: Desk, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As StoreAway, after which the same key closes them; psycopg's own error would be a defect of ours."""
    traded(house, desk, broker)
    monkeypatch.setattr(squareoff, "TRIES", 1)
    key = new_id()
    with house.store.unit() as holder:
        holder.rows("select id from accounts for update")
        with pytest.raises(StoreAway):
            close(house, desk, key=key)

    assert len(close(house, desk, key=key).orders) == 1


def test_asked_again_while_the_first_is_under_way_nothing_is_closed_twice(
    house: House, desk: Desk, broker: FakeBroker
) -> None:
    traded(house, desk, broker)

    first, second = close(house, desk), close(house, desk)
    work(house, desk)
    third = close(house, desk)
    fill(house, desk, broker, first.orders[0]["orderId"], trades=False)  # its trades aren't read yet
    fourth = close(house, desk)

    assert [told(one) for one in (second, third, fourth)] == [[], [], []]
    assert [one["why"] for one in second.left] == ["OPEN_ORDERS"]


def test_of_sixteen_at_once_one_closes_the_position(house: House, broker: FakeBroker) -> None:
    desk = house.desk(broker, size=16)
    traded(house, desk, broker)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: close(house, desk), range(16)))

    assert sorted(len(answer.orders) for answer in answers) == [0] * 15 + [1]


def test_of_sixteen_at_once_with_one_key_all_get_the_same(house: House, broker: FakeBroker) -> None:
    desk = house.desk(broker, size=16)
    traded(house, desk, broker)
    key = new_id()

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: close(house, desk, key=key), range(16)))

    assert len({answer.intent_id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1


def test_intraday_positions_are_of_today_and_carried_ones_of_any_day(
    house: House, desk: Desk, broker: FakeBroker
) -> None:
    traded(house, desk, broker)
    house.run("update trades set at = at - interval '1 day'")

    assert told(close(house, desk)) == []
    house.run("update orders set product = 'NRML'")
    assert told(close(house, desk, SquareOff(all=True, dry_run=True))) == [("FK0001", "NSE:INFY", "SELL", 10)]


def test_fills_of_yesterdays_intraday_orders_are_no_position_though_their_trades_never_came(
    house: House, desk: Desk, broker: FakeBroker
) -> None:
    """An operator has settled it, perhaps. What was closed yesterday must not be sold again today."""
    order_id = traded(house, desk, broker, trades=False)
    of_yesterday = str(UUID(int=int((utc_now() - timedelta(days=1)).timestamp() * 1000) << 80 | 1))
    assert told(close(house, desk, SquareOff(all=True, dry_run=True))) == [("FK0001", "NSE:INFY", "SELL", 10)]

    house.run("update orders set id = %s where id = %s", of_yesterday, order_id)

    assert told(close(house, desk)) == []
    house.run("update orders set product = 'NRML'")
    assert told(close(house, desk)) == [("FK0001", "NSE:INFY", "SELL", 10)]


def test_more_open_orders_than_one_request_takes_are_told_and_none_is_left_out(
    house: House, desk: Desk, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    traded(house, desk, broker)
    monkeypatch.setattr(squareoff, "places", lambda *_: [new_id() for _ in range(IDS_MAX + 1)])

    with pytest.raises(Malformed) as refused:
        close(house, desk, SquareOff(all=True, cancel_open=True))

    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("/filter", "TOO_MANY")]
    assert house.rows("select kind, count(*) from intents group by kind") == [("PLACE", 1)]


class Explaining(Unit):
    """Keeps the plan of each statement it runs."""

    plans: list[str]

    def rows(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        self.plans = [*getattr(self, "plans", []), "\n".join(row[0] for row in super().rows(f"explain {sql}", parameters))]
        return super().rows(sql, parameters)


MANY = """
insert into orders (id, intent_id, line, correlation_id, user_id, instrument, side, quantity, product, order_type, validity,
    broker_tag, state, last_seq, version, filled_quantity, accepted_at, send_before, updated_at, account_id, broker)
select gen_random_uuid(), gen_random_uuid(), 0, 'one of many', %s, 'NSE:I' || n %% 40, 'BUY', 10,
    case when n %% 10 = 0 then 'NRML' else 'MIS' end, 'MARKET', 'DAY', 'M' || n, 'FILLED', 0, 1, 10, now(), now(), now(), 'FK0001', 'fake'
from generate_series(1, 4000) n
"""


def test_positions_are_read_by_indexes_that_bound_them(house: House) -> None:
    now = utc_now()
    house.run(MANY, house.user_id)
    with psycopg.connect(house.owner_database_url, autocommit=True) as owner:
        owner.execute("analyze orders")
    with house.store.unit() as unit:
        looking = Explaining(unit.connection)
        positions.traded(looking, house.user_id, ["FK0001"], now, {Product.MIS, Product.NRML})
        positions.under_way(looking, house.user_id, ["FK0001"], now, now, {Product.MIS})
        standings.read(looking, [Place(house.user_id, "FK0001", "NSE:I7", Product.MIS)], now)

    today, carried, under_way, standing = looking.plans
    assert ("trades_of_user" in today, "at >=" in index_conditions(today)) == (True, True)
    assert ("orders_of_position" in carried, "product = 'NRML'" in index_conditions(carried)) == (True, True)
    assert "id >=" in index_conditions(under_way)
    assert ("orders_of_position" in standing, "id >=" in index_conditions(standing)) == (True, True)


def index_conditions(plan: str) -> str:
    return "".join(line for line in plan.splitlines() if "Index Cond" in line)


def test_holdings_are_closed_only_where_they_are_named(house: House, desk: Desk, broker: FakeBroker) -> None:
    traded(house, desk, broker, product="CNC")

    assert told(close(house, desk)) == []
    assert told(close(house, desk, SquareOff.model_validate({"filter": {"product": "CNC"}}))) == [
        ("FK0001", "NSE:INFY", "SELL", 10)
    ]


@pytest.mark.parametrize(
    "wanted", [{"account": "FK0002"}, {"instrument": "NSE:TCS"}, {"strategy": "other"}, {"product": "NRML"}]
)
def test_a_filter_narrows(house: House, desk: Desk, broker: FakeBroker, wanted: dict[str, str]) -> None:
    traded(house, desk, broker, strategy="mine")

    assert told(close(house, desk, SquareOff.model_validate({"filter": wanted}))) == []
    mine = {"account": "FK0001", "instrument": "NSE:INFY", "strategy": "mine", "product": "MIS", "broker": "FAKE"}
    answer = close(house, desk, SquareOff.model_validate({"filter": mine}))
    assert told(answer) == [("FK0001", "NSE:INFY", "SELL", 10)]
    assert house.order(answer.orders[0]["orderId"]).strategy == "mine"


def test_an_account_that_is_not_the_users_is_not_found(house: House, desk: Desk) -> None:
    for wanted in ({"account": "XX0001"}, {"broker": "nobody"}):
        with pytest.raises(NotFound):
            close(house, desk, SquareOff.model_validate({"filter": wanted}))
    with pytest.raises(Malformed):
        close(house, desk, SquareOff())


def test_a_limit_has_a_price_and_a_market_order_its_protection(house: House, desk: Desk, broker: FakeBroker) -> None:
    traded(house, desk, broker)
    limit = SquareOff.model_validate({"all": True, "orderType": "LIMIT", "distancePercent": "1", "dryRun": True})
    market = SquareOff.model_validate({"all": True, "marketProtection": "2.5"})

    assert Decimal(close(house, desk, limit).orders[0]["price"]) < desk.instruments()["NSE:INFY"].close
    order = house.order(close(house, desk, market).orders[0]["orderId"])
    assert (order.order_type, order.price, order.market_protection) == ("MARKET", None, Decimal("2.5"))


def test_the_open_orders_of_what_is_closed_are_found(house: House, desk: Desk, broker: FakeBroker) -> None:
    traded(house, desk, broker)
    stop = house.accept(1, product="MIS", side="SELL", quantity=10, account="FK0001").lines[0].order_id
    house.accept(1, product="MIS", instrument="NSE:TCS", price="3000.00", account="FK0001")

    assert squareoff.places(desk, house.user_id, ALL) == [stop]




def test_a_repeat_cancels_nothing_of_what_the_first_has_placed(house: House, desk: Desk, broker: FakeBroker) -> None:
    traded(house, desk, broker)
    wanted, key = SquareOff(all=True, cancel_open=True), new_id()
    first = close(house, desk, wanted, key)
    work(house, desk)

    again = close(house, desk, wanted, key)

    assert (again.intent_id, again.replayed, again.cancel_intent_id) == (first.intent_id, True, None)
    assert house.rows("select count(*) from changes") == [(0,)]
