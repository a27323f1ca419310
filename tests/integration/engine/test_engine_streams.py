"""Order streams against a real record and the simulated brokers: fast news, and the same end whatever goes wrong with them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from house import SECRET, House, eventually, intake_engine
from shared_services import SharedServices

from brokers import registry
from brokers.simulator.server import SimulatorServer
from brokers.streams import registry as streams
from brokers.streams.follow import Patience
from domain.reference import cash_instruments
from ops.sandbox import SandboxAccount, seed
from pipeline import listen
from pipeline.books import BookReader
from pipeline.desk import Desk
from pipeline.listen import Listener
from pipeline.reports import apply_due
from pipeline.stages.dispatch import Dispatcher

BROKERS = ("upstox", "zerodha")
ACCOUNTS = tuple(
    SandboxAccount(
        f"{letters}{number:04d}",
        broker,
        api_key=f"sim-{broker}-key{ending}",
        api_secret=f"sim-{broker}-secret{ending}",
        access_token=f"sim-{broker}-token{ending}",
        limit_paise=10**13,
    )
    for letters, broker in (("UP", "upstox"), ("ZR", "zerodha"))
    for number, ending in ((1, ""), (2, "-2"))
)
PRICE = str(next(instrument for instrument in cash_instruments() if instrument.key == "NSE:INFY").close)
QUICK = Patience(open_s=2.0, ping_s=0.5, close_s=0.2, first_s=0.02, most_s=0.1, refused_s=0.2)


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorServer]:
    with SimulatorServer() as running:
        running.control("POST", "/accounts", {"facade": "upstox"})
        running.control("POST", "/accounts", {"facade": "zerodha"})
        settings = {"rate_limits": False, "partial_percent": 100, "trades_max": 3, "trade_gap_ms": 20}
        running.control("PUT", "/settings", settings)
        running.control("PUT", "/prices/NSE:INFY", {"price": PRICE})
        yield running


@pytest.fixture
def market(simulator: SimulatorServer) -> SimulatorServer:
    simulator.control("POST", "/reset")
    simulator.control("DELETE", "/streams")
    for account in ACCOUNTS:
        simulator.control("PUT", f"/accounts/{account.id}", {"token_alive": True})
    return simulator


@pytest.fixture(scope="module")
def furnished_for_streams(services: SharedServices, database: str) -> str:
    seed(services.database_url("app", database), secret=SECRET, accounts=ACCOUNTS)
    return database


@pytest.fixture
def record(services: SharedServices, furnished_for_streams: str) -> Iterator[House]:
    name = furnished_for_streams
    with psycopg.connect(
        services.superuser_database_url.rpartition("/")[0] + f"/{name}", autocommit=True
    ) as connection:
        user_id = connection.execute("select id from users").fetchone()[0]  # type: ignore[index]
        for table in ("stream_leases", "listeners", "awaited_trades"):
            connection.execute(f"delete from {table}")  # noqa: S608
        connection.execute("update accounts set session = 'ALIVE'")
    house = House(services.database_url("app", name), services.database_url("owner", name), str(user_id))
    yield house
    house.close()


def addresses(market: SimulatorServer) -> dict[str, str]:
    return {f"{name.upper()}_BASE_URL": market.urls[name] for name in BROKERS}


def adapters(house: House, market: SimulatorServer) -> list[Any]:
    built: list[Any] = list(registry.build(addresses(market)).values())
    for adapter in built:
        house._closing.append(adapter._wire.close)
    return built


@contextmanager
def listening(house: House, market: SimulatorServer, name: str = "one") -> Iterator[tuple[Listener, Desk]]:
    """A listener in a thread of its own, with a desk whose wake-ups are written down."""
    desk = house.desk(*adapters(house, market))
    built = streams.build(addresses(market))
    built["zerodha"].silence_s = 3.0
    listener = Listener(desk, built, name=name, patience=QUICK)
    loop, stopping = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(listener.run(stopping),))
    thread.start()
    try:
        yield listener, desk
    finally:
        for wire in [built["upstox"]._wire]:
            wire.close()
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def open_streams(market: SimulatorServer, *accounts: str) -> None:
    eventually(lambda: market.control("GET", "/streams").keys() >= set(accounts or [a.id for a in ACCOUNTS]))


def send(house: House, *accounts: str, count: int = 1, **terms: Any) -> list[str]:
    """Orders that have gone out, and whose answers are written down."""
    terms = {"price": PRICE, **terms}
    ids = [id_ for account in accounts for id_ in house.accept_many(count, account=account, **terms)]
    desk = house.desk(*house.desk_adapters)  # type: ignore[attr-defined]
    intake_engine(desk).run("validate")
    for broker in BROKERS:
        dispatcher = Dispatcher(desk, broker)
        dispatcher.pump()
        house._closing.append(lambda dispatcher=dispatcher: dispatcher.stop(2.0))
    house.settled(ids)
    return ids


@pytest.fixture
def floor(record: House, market: SimulatorServer) -> House:
    record.desk_adapters = adapters(record, market)  # type: ignore[attr-defined]
    return record


def applied(house: House, ids: list[str], state: str = "FILLED", *, also: Callable[[], object] = lambda: None) -> None:
    """Apply what is in the inbox until all are in that state."""
    desk = house.desk()

    def done() -> bool:
        also()
        apply_due(desk)
        return set(house.states(ids)) == {state}

    try:
        eventually(done)
    except AssertionError:
        print(house.rows("select source, applied_at is null, body from reports where order_id = any(%s::uuid[])", ids))
        print(house.rows("select outcome, response from attempts where order_id = any(%s::uuid[])", ids))
        print(house.states(ids), [house.order(i) for i in ids])
        raise


def traded(house: House, order_id: str) -> int:
    return int(house.rows("select coalesce(sum(quantity), 0) from trades where order_id = %s", order_id)[0][0])


@pytest.mark.parametrize("account", ["UP0001", "ZR0001"])
def test_a_fill_is_seen_by_the_stream_without_any_poll(floor: House, market: SimulatorServer, account: str) -> None:
    with listening(floor, market) as (_, desk):
        open_streams(market)
        ids = send(floor, account)
        applied(floor, ids)
        looks = [row for row in market.control("GET", "/requests") if row["endpoint"] in ("book", "trades")]

    (order_id,) = ids
    order = floor.order(order_id)
    assert looks == []
    assert (order.filled_quantity, order.average_price is not None) == (10, True)
    assert "persist" in desk.wakeups.woken  # type: ignore[attr-defined]
    floor.check()


def test_its_trades_are_read_afterwards_though_no_order_lives_any_more(floor: House, market: SimulatorServer) -> None:
    with listening(floor, market) as (_, desk):
        open_streams(market)
        (order_id,) = ids = send(floor, "UP0001")
        applied(floor, ids)
        eventually(lambda: "reports.upstox" in desk.wakeups.woken)  # type: ignore[attr-defined]
        assert floor.rows("select order_id, filled from awaited_trades") == [(order_id, 10)]
        assert traded(floor, order_id) == 0

        BookReader(desk, "upstox").read()
        apply_due(desk)

        assert traded(floor, order_id) == 10
        eventually(lambda: floor.rows("select 1 from awaited_trades") == [])
    floor.check()


def test_the_book_is_to_be_read_after_each_connection(floor: House, market: SimulatorServer) -> None:
    with listening(floor, market) as (_, desk):
        open_streams(market)
        woken: list[str] = desk.wakeups.woken  # type: ignore[attr-defined]
        eventually(lambda: {"reports.upstox", "reports.zerodha"} <= set(woken))
        for _ in range(2):
            del woken[:]
            market.control("DELETE", "/streams?account=UP0001")
            eventually(lambda: "reports.upstox" in woken)
            open_streams(market)
    authorized = [row["count"] for row in market.control("GET", "/requests") if row["endpoint"] == "stream_authorize"]
    assert sum(authorized) >= len(BROKERS) + 2


FAULTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "missing": [{"kind": "frame_missing", "count": None, "probability": 0.5}],
    "all missing": [{"kind": "frame_missing", "count": None}],
    "repeated": [{"kind": "frame_repeated", "count": None}],
    "reordered": [{"kind": "frame_reordered", "count": None, "probability": 0.5}],
    "delayed": [{"kind": "frame_delayed", "count": None, "probability": 0.4, "seconds": 0.3}],
    "cut": [{"kind": "stream_cut", "count": None, "probability": 0.3}],
    "silent": [{"kind": "stream_silent", "count": 2}],
    "all at once": [
        {"kind": "frame_missing", "count": None, "probability": 0.2},
        {"kind": "frame_repeated", "count": None, "probability": 0.3},
        {"kind": "frame_reordered", "count": None, "probability": 0.3},
        {"kind": "frame_delayed", "count": None, "probability": 0.2, "seconds": 0.1},
        {"kind": "stream_cut", "count": None, "probability": 0.1},
    ],
}


@pytest.mark.parametrize("faults", FAULTS)
def test_whatever_becomes_of_the_stream_the_end_is_the_brokers_truth(
    floor: House, market: SimulatorServer, faults: str
) -> None:
    for fault in FAULTS[faults]:
        market.control("POST", "/faults", fault | {"endpoint": "frame"})
    with listening(floor, market) as (_, desk):
        open_streams(market)
        readers = {f"reports.{broker}": BookReader(desk, broker) for broker in BROKERS}
        woken: list[str] = desk.wakeups.woken  # type: ignore[attr-defined]
        pause = threading.Event()

        def look() -> None:
            """As the dispatch process does when it is woken, and the sweep wakes it in any case."""
            for stage, reader in readers.items():
                if stage in woken or faults in ("missing", "all missing", "silent", "all at once", "delayed"):
                    reader.read()
            del woken[:]
            pause.wait(0.1)

        ids = send(floor, "UP0001", "ZR0001", "UP0002", count=2)
        applied(floor, ids, also=look)
        eventually(lambda: (look(), apply_due(desk), all(traded(floor, id_) == 10 for id_ in ids))[-1])
        eventually(lambda: floor.rows("select 1 from awaited_trades") == [])

    judged = {row["tag"]: row for row in market.control("GET", "/orders")}
    for order_id in ids:
        order = floor.order(order_id)
        truth = judged[order.broker_tag]
        assert order.filled_quantity == truth["filled"] == 10
        assert order.average_price == round(Decimal(truth["average_price"]), 4)
        assert order.broker_order_id == truth["order_id"]
    floor.check()


def test_an_order_whose_answer_was_lost_is_adopted_by_its_stream(floor: House, market: SimulatorServer) -> None:
    market.control("POST", "/faults", {"kind": "drop_after", "endpoint": "place"})
    with listening(floor, market):
        open_streams(market)
        ids = send(floor, "ZR0001")
        applied(floor, ids)

    order = floor.order(ids[0])
    assert [row["order_id"] for row in market.control("GET", f"/orders?tag={order.broker_tag}")] == [
        order.broker_order_id
    ]
    assert floor.command(order.id).state == "DONE"
    floor.check()


def test_an_order_told_without_its_tag_is_known_by_the_brokers_id(
    floor: House, market: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from brokers.streams.upstox import UpstoxStream

    row = UpstoxStream.row
    monkeypatch.setattr(
        UpstoxStream, "row", lambda self, frame: (found := row(self, frame)) and replace(found, tag=None)
    )
    with listening(floor, market):
        open_streams(market)
        ids = send(floor, "UP0001")
        applied(floor, ids)
    floor.check()


def test_a_foreign_order_changes_nothing_and_makes_the_book_be_read(floor: House, market: SimulatorServer) -> None:
    import http.client
    import json

    before = floor.rows("select count(*) from reports")
    with listening(floor, market) as (_, desk):
        open_streams(market)
        woken: list[str] = desk.wakeups.woken  # type: ignore[attr-defined]
        eventually(lambda: {"reports.upstox", "reports.zerodha"} <= set(woken))
        del woken[:]
        connection = http.client.HTTPConnection(market.urls["zerodha"].removeprefix("http://"))
        form = "tradingsymbol=INFY&exchange=NSE&transaction_type=BUY&order_type=LIMIT&quantity=1&product=CNC"
        headers = {
            "Authorization": "token sim-zerodha-key:sim-zerodha-token",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        connection.request("POST", "/orders/regular", f"{form}&validity=DAY&price={PRICE}", headers)
        assert json.loads(connection.getresponse().read())["status"] == "success"
        connection.close()
        eventually(lambda: "reports.zerodha" in woken)

    assert floor.rows("select count(*) from reports") == before


def test_only_live_sessions_are_listened_to(floor: House, market: SimulatorServer) -> None:
    floor.run("update accounts set session = 'DEAD' where id = 'UP0002'")
    with listening(floor, market) as (listener, _):
        open_streams(market, "UP0001", "ZR0001", "ZR0002")
        assert listener.held == ["UP0001", "ZR0001", "ZR0002"]
        floor.run("update accounts set session = 'ALIVE' where id = 'UP0002'")
        open_streams(market)
        floor.run("update accounts set session = 'DEAD' where id = 'ZR0001'")
        eventually(lambda: "ZR0001" not in market.control("GET", "/streams"))
        assert floor.rows("select 1 from stream_leases where account_id = 'ZR0001'") == []


def test_listeners_share_the_accounts_and_one_that_stops_gives_them_back(floor: House, market: SimulatorServer) -> None:
    with listening(floor, market, "one") as (first, _):
        open_streams(market)
        with listening(floor, market, "two") as (second, _):
            eventually(lambda: (len(first.held), len(second.held)) == (2, 2))
            eventually(lambda: sum(market.control("GET", "/streams").values()) == 4)
        eventually(lambda: len(first.held) == 4)
        open_streams(market)


@contextmanager
def processes(
    house: House, market: SimulatorServer, folder: Path, redis_url: str, queue_url: str, count: int
) -> Iterator[list[subprocess.Popen[bytes]]]:
    env = os.environ | addresses(market)
    env |= {"DATABASE_URL": house.database_url, "REDIS_URL": redis_url, "RABBITMQ_URL": queue_url}
    with ExitStack() as ending:
        found = []
        for number in range(count):
            ready = folder / f"ready{number}"
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.listen"],
                env=env | {"COORDINATOR_SECRET": SECRET, "READY_FILE": str(ready)},
                cwd=Path(__file__).parents[3],
            )
            ending.callback(process.wait)
            ending.callback(process.kill)
            found.append(process)
            eventually(ready.exists, within_s=30)
        yield found


def holders(house: House) -> list[str]:
    return [row[0] for row in house.rows("select holder from stream_leases where until > now() order by account_id")]


def test_a_dead_listeners_accounts_are_taken_over(
    floor: House, market: SimulatorServer, tmp_path: Path, redis_url: str, queue_url: str
) -> None:
    with processes(floor, market, tmp_path, redis_url, queue_url, 2) as (first, second):
        eventually(lambda: sorted(map(holders(floor).count, set(holders(floor)))) == [2, 2], within_s=30)
        open_streams(market)

        first.kill()
        eventually(lambda: len(holders(floor)) == 4 and len(set(holders(floor))) == 1, within_s=15)
        open_streams(market)
        ids = send(floor, "UP0001", "ZR0001", "UP0002", "ZR0002")
        applied(floor, ids)

        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=8) == 0
    assert holders(floor) == []
    assert floor.rows("select 1 from listeners where until > now()") == []
    floor.check()


def test_a_listener_outlives_its_database(
    floor: House, market: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from domain.errors import StoreAway
    from store.unit import Store

    away = threading.Event()
    unit = Store.unit

    def gone(store: Store) -> Any:
        if away.is_set() and store in (desk.store,):
            raise StoreAway("the database can't be reached")
        return unit(store)

    with listening(floor, market) as (listener, desk):
        open_streams(market)
        monkeypatch.setattr(Store, "unit", gone)
        away.set()
        ids = send(floor, "UP0001")
        threading.Event().wait(listen.TICK_S + 0.5)
        assert floor.states(ids) == ["SUBMITTED"]
        assert len(listener.held) == 4
        away.clear()
        applied(floor, ids)
        monkeypatch.setattr(Store, "unit", unit)
    floor.check()
