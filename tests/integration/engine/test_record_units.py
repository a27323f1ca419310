"""A unit of work against a database that goes away, and one that is there and says no."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from house import House, eventually
from proxies import Proxy

from domain.errors import StoreAway
from store.unit import Leadership, Store


@pytest.fixture
def wire(house: House) -> Iterator[Proxy]:
    proxy = Proxy(house.database_url)
    yield proxy
    proxy.close()


@pytest.fixture
def store(wire: Proxy) -> Iterator[Store]:
    store = Store(wire.url, name="behind-a-wire", size=4)
    yield store
    store.close()


def run(store: Store, *statements: str, then: Callable[[], object] = lambda: None) -> None:
    """The statements in one unit, and then something more before its commit."""
    with store.unit() as unit:
        for statement in statements:
            unit.run(statement)
        then()


def run_at_once(store: Store, *statements: str, then: Callable[[], object] = lambda: None) -> None:
    """The same for a unit that is only written."""
    with store.at_once() as unit:
        for statement in statements:
            unit.run(statement)
        unit.connection.pgconn.flush()  # they are with the server already
        then()


def test_a_unit_that_raises_leaves_nothing(house: House, store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        run(store, "update accounts set limit_paise = 1", then=lambda: 1 // 0)

    assert house.rows("select count(*) from accounts where limit_paise = 1") == [(0,)]


def test_what_is_written_at_once_is_there_and_the_connection_as_it_was(house: House, store: Store) -> None:
    run_at_once(
        store,
        "update accounts set limit_paise = 1 where id = 'FK0001'",
        "update accounts set limit_paise = 1 where id = 'FK0002'",
    )

    assert house.rows("select id from accounts where limit_paise = 1 order by id") == [("FK0001",), ("FK0002",)]
    with pytest.raises(ZeroDivisionError):  # the same connection still has transactions
        run(store, "update accounts set limit_paise = 2", then=lambda: 1 // 0)
    assert house.rows("select count(*) from accounts where limit_paise = 2") == [(0,)]


def test_what_raises_while_it_is_written_at_once_leaves_nothing(house: House, store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        run_at_once(store, "update accounts set limit_paise = 1", then=lambda: 1 // 0)

    assert house.rows("select count(*) from accounts where limit_paise = 1") == [(0,)]
    run(store, "update accounts set limit_paise = 1 where id = 'FK0001'")
    assert house.rows("select count(*) from accounts where limit_paise = 1") == [(1,)]


def test_what_the_database_refuses_of_what_is_written_at_once_leaves_nothing(house: House, store: Store) -> None:
    for refused in ("update accounts set limit_paise = -1", "insert into users (id, name) select id, name from users"):
        with pytest.raises(psycopg.errors.IntegrityError):
            run_at_once(
                store, "update accounts set limit_paise = 1", refused, "update accounts set limit_paise = 2"
            )

        assert house.rows("select count(*) from accounts where limit_paise in (1, 2)") == [(0,)]
    run_at_once(store, "update accounts set limit_paise = 1 where id = 'FK0001'")
    assert house.rows("select count(*) from accounts where limit_paise = 1") == [(1,)]


def test_a_connection_lost_while_it_is_written_at_once_is_the_database_away(wire: Proxy, store: Store) -> None:
    with pytest.raises(StoreAway):
        run_at_once(store, "update accounts set limit_paise = 1", then=wire.cut)
    wire.mend()

    run(store, "select 1")


@pytest.mark.parametrize("together", [False, True])
def test_a_connection_lost_midway_is_the_database_away(wire: Proxy, store: Store, together: bool) -> None:
    def lose() -> None:
        with store.unit() as unit:
            unit.rows("select 1")
            wire.cut()
            if together:
                with unit.together():
                    unit.run("update accounts set limit_paise = 1")
            else:
                unit.run("update accounts set limit_paise = 1")

    with pytest.raises(StoreAway):
        lose()


def test_a_connection_lost_at_commit_is_the_database_away(wire: Proxy, store: Store) -> None:
    with pytest.raises(StoreAway):
        run(store, "update accounts set limit_paise = 1", then=wire.cut)


def test_a_backend_ended_by_an_administrator_is_the_database_away(house: House, store: Store) -> None:
    def be_ended() -> None:
        with store.unit() as unit:
            pid = unit.rows("select pg_backend_pid()")[0][0]
            house.rows("select pg_terminate_backend(%s, 1000)", pid)
            unit.rows("select 1")

    with pytest.raises(StoreAway):
        be_ended()


def test_a_transaction_that_was_idle_too_long_is_the_database_away(store: Store) -> None:
    def oversleep() -> None:
        with store.unit() as unit:
            unit.run("set idle_in_transaction_session_timeout = 50")
            unit.rows("select 1")
            threading.Event().wait(0.3)
            unit.rows("select 1")

    with pytest.raises(StoreAway):
        oversleep()


def test_after_it_came_back_only_the_first_unit_may_fail(wire: Proxy, store: Store) -> None:
    def everyone() -> None:
        with store.unit() as one, store.unit() as two, store.unit() as three:
            assert [unit.rows("select 1") for unit in (one, two, three)] == [[(1,)]] * 3

    everyone()
    wire.cut()
    with pytest.raises(StoreAway):
        everyone()
    wire.mend()

    everyone()


def test_a_lock_that_is_not_had_in_time_is_no_database_away(house: House, store: Store) -> None:
    with house.store.unit() as other:
        other.run("select 1 from accounts where id = 'FK0001' for update")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            run(store, "set local lock_timeout = 50", "select 1 from accounts where id = 'FK0001' for update")

    with store.unit() as unit:
        assert unit.rows("select 1") == [(1,)]


def test_a_statement_that_takes_too_long_is_no_database_away(store: Store) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        run(store, "set local statement_timeout = 50", "select pg_sleep(5)")


def test_a_primary_that_became_a_standby_is_the_database_away(store: Store) -> None:
    with pytest.raises(StoreAway):
        run(store, "set transaction read only", "update accounts set limit_paise = 1")
    with store.unit() as unit:
        assert unit.rows("select 1") == [(1,)]


def test_a_database_that_is_away_is_told_at_the_first_use(wire: Proxy, store: Store) -> None:
    wire.cut()

    with pytest.raises(StoreAway), store.unit() as unit:
        unit.rows("select 1")


def test_a_connection_in_use_when_its_store_is_closed_is_closed_when_it_comes_back(house: House) -> None:
    store, used, closed = Store(house.database_url, name="closed-in-use", size=2), threading.Event(), threading.Event()

    def use() -> None:
        with store.unit() as unit:
            unit.rows("select 1")
            used.set()
            closed.wait(10)

    thread = threading.Thread(target=use)
    thread.start()
    assert used.wait(10)
    store.close()
    closed.set()
    thread.join()

    left = "select count(*) from pg_stat_activity where application_name = 'closed-in-use'"
    assert eventually(lambda: house.rows(left) == [(0,)])


def test_a_pool_that_is_used_up_is_told(house: House) -> None:
    store = Store(house.database_url, name="small", size=1)
    store.engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    with store.unit(), pytest.raises(StoreAway), store.unit() as unit:
        unit.rows("select 1")
    store.close()


def test_one_clock_leads_and_another_takes_over_when_it_is_cut_off(house: House, wire: Proxy, store: Store) -> None:
    first, second = Leadership(store, "test"), Leadership(house.store, "test")
    assert first.held()
    assert not second.held()
    assert first.held()

    wire.cut()

    eventually(second.held)
    with pytest.raises(StoreAway):
        first.held()
    wire.mend()
    assert not first.held()
    second.give_up()
    eventually(first.held)
    first.give_up()
