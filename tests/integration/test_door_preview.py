"""Trying a request out over a real server and a real record: everything is told, nothing is done."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2
import psycopg
import pytest
from door_server import PLACE, SECRET, Server, a_key, a_line, a_request, let_everything_in, make_key, serving
from shared_services import SharedServices

from ingress.preview_forms import PreviewView
from ops.sandbox import ACCOUNTS, seed
from store.users import Role

PREVIEW = "/v2/orders/preview"
PRICE = "1120.00"  # near INFY's close


@pytest.fixture(scope="module")
def door(tmp_path_factory, database_url: str, queue_url: str, services: SharedServices) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("door")
    let_everything_in(database_url)
    seed(database_url, secret=SECRET)
    with serving(folder, database_url=database_url, queue_url=queue_url, redis_url=services.redis_url) as server:
        yield server


@pytest.fixture(scope="module")
def ada(door: Server) -> Iterator[httpx2.Client]:
    with door.client(make_key(door.database_url, "sandbox", Role.TRADER)) as client:
        yield client


@pytest.fixture
def record(owner_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(owner_database_url, autocommit=True) as connection:
        yield connection


def written(record: psycopg.Connection) -> list[tuple]:
    """Everything that a place would touch."""
    counts = [
        record.execute(f"select count(*) from {table}").fetchone()  # noqa: S608
        for table in ("intents", "orders", "commands", "order_events", "attempts", "audit_log")
    ]
    columns = "id, blocked_paise, exposure_paise, open_orders, second, orders_this_second"
    return counts + record.execute(f"select {columns} from accounts order by id").fetchall()  # noqa: S608


def once(client: httpx2.Client, line: dict, outcome: str) -> dict:
    """The preview as soon as the process has heard of what was changed for it."""
    deadline = time.monotonic() + 10
    while (shown := client.post(PREVIEW, json=a_request(line)).json())["orders"][0]["outcome"] != outcome:
        assert time.monotonic() < deadline, shown["orders"][0]["reason"]
    return shown


def test_a_preview_tells_everything_and_does_nothing(ada, record):
    before = written(record)
    request = a_request(
        a_line(price=PRICE),
        a_line(correlationId="leg-2", quantity=7, price=PRICE),
        a_line(correlationId="leg-3", broker="zerodha", price=PRICE),
        a_line(correlationId="leg-4", instrument="NSE:NOSUCH"),
    )

    answer = ada.post(PREVIEW, json=request)

    assert answer.status_code == 200, answer.text
    shown = PreviewView.model_validate(answer.json())
    assert written(record) == before
    assert shown.status == "PARTIAL"
    first, _, third, fourth = shown.orders
    assert [order.outcome for order in shown.orders] == ["CLEARED", "CLEARED", "CLEARED", "REJECTED"]
    assert [(stage.stage, stage.verdict) for stage in first.stages] == [
        (stage, "PROCEED") for stage in ("validate", "risk", "margin", "route")
    ]
    assert first.stages[1].facts["value_paise"] == 1_120_000
    assert first.margin is not None
    assert first.charges is not None
    assert float(first.margin.required) > 11_200
    assert float(first.charges.total) > 0
    assert [(choice.broker, choice.place, choice.chosen) for choice in first.route] == [
        ("UPSTOX", 1, True),
        ("ZERODHA", 2, False),
    ]
    assert [(choice.account, choice.place) for choice in third.route] == [("ZR0001", 1), ("UP0001", None)]
    assert third.route[1].why == "zerodha was named"
    assert fourth.reason.code == "UNKNOWN_INSTRUMENT"
    assert [stage.verdict for stage in fourth.stages] == ["REJECT", "NOT_REACHED", "NOT_REACHED", "NOT_REACHED"]
    assert fourth.calls == []

    together, alone = shown.calls
    assert [line.line for line in together.lines] == [0, 1]
    assert (together.request.method, together.request.url) == ("POST", "https://api.upstox.com/v2/order/multi/place")
    assert together.request.hidden_headers == ["Authorization"]
    assert '"quantity":7' in together.request.body
    assert all(line.tag in together.request.body for line in together.lines)
    assert alone.request.url == "https://api.kite.trade/orders/regular"
    assert "tradingsymbol=INFY&" in alone.request.body
    for account in ACCOUNTS:
        for secret in (account.api_key, account.api_secret, account.access_token):
            assert secret not in answer.text


def test_what_one_line_takes_the_next_no_longer_has(ada, record):
    record.execute("update accounts set limit_paise = 1500000 where id = 'UP0001'")
    lines = [a_line(correlationId=f"leg-{number}", price=PRICE, broker="UPSTOX") for number in range(2)]
    try:
        first, second = ada.post(PREVIEW, json=a_request(*lines)).json()["orders"]
    finally:
        record.execute("update accounts set limit_paise = 1000000000 where id = 'UP0001'")

    assert (first["outcome"], second["outcome"]) == ("CLEARED", "REJECTED")
    assert second["reason"]["code"] == "MARGIN_ESTIMATE"
    assert [stage["verdict"] for stage in second["stages"]] == ["PROCEED", "PROCEED", "REJECT", "NOT_REACHED"]


def test_a_preview_waits_for_no_lock_on_the_accounts(door, ada):
    with psycopg.connect(door.database_url) as holder:
        holder.execute("select 1 from accounts for update")
        answer = ada.post(PREVIEW, json=a_request(a_line(price=PRICE)))

    assert answer.json()["orders"][0]["outcome"] == "CLEARED"


def test_an_order_over_the_freeze_quantity_shows_its_slices(ada, record):
    record.execute("update accounts set limit_paise = 1000000000000 where id = 'UP0001'")
    record.execute(
        "insert into settings (name, value, updated_by) values ('order_value_max_paise', 'null', 'test')"
        " on conflict (name) do update set value = 'null'"
    )
    line = a_line(instrument="NSE:INFY", quantity=100_000, price=PRICE, broker="UPSTOX")
    (order,) = once(ada, line, "CLEARED")["orders"]

    assert sum(part["quantity"] for part in order["slices"]) == 100_000
    assert len({part["tag"] for part in order["slices"]}) == len(order["slices"]) > 1


def test_a_dead_session_is_told_as_a_wait_and_nothing_is_said_to_be_sent(ada, record):
    record.execute("update accounts set session = 'DEAD' where id = 'ZR0001'")
    line = a_line(price=PRICE, broker="zerodha")
    try:
        shown = once(ada, line, "WAITING")
    finally:
        record.execute("update accounts set session = 'ALIVE' where id = 'ZR0001'")
        once(ada, line, "CLEARED")

    assert "log in again" in shown["orders"][0]["reason"]["text"]
    assert shown["calls"] == []


def test_what_a_place_would_refuse_a_preview_refuses_with_the_same_words(ada):
    bad = a_request(a_line(quantity=0))
    placed, previewed = ada.post(PLACE, json=bad, headers=a_key()), ada.post(PREVIEW, json=bad)

    assert previewed.status_code == placed.status_code == 422
    assert previewed.json()["errors"] == placed.json()["errors"]
    for body, status in ((b"{", 400), (b'{"orders": []}', 422), (b"[" * 60_000, 400)):
        answer = ada.post(PREVIEW, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status


def test_who_may_not_place_may_not_preview(door):
    with door.client(make_key(door.database_url, "audrey", Role.AUDITOR)) as audrey:
        assert audrey.post(PREVIEW, json=a_request()).status_code == 403
    with door.client(make_key(door.database_url, "stranger", Role.TRADER)) as stranger:
        (order,) = stranger.post(PREVIEW, json=a_request()).json()["orders"]
        assert (order["outcome"], order["reason"]["code"], order["route"]) == ("REJECTED", "NO_ACCOUNT", [])


def test_no_admission_keeps_a_preview_out(ada, record):
    ada.post(PLACE, json=a_request(), headers=a_key())
    record.execute("update settings set value = '0.05' where name = 'admission_age_s'")
    try:
        while ada.post(PLACE, json=a_request(), headers=a_key()).status_code != 503:
            pass
        assert ada.post(PREVIEW, json=a_request()).status_code == 200
    finally:
        record.execute("update settings set value = '86400' where name = 'admission_age_s'")
        deadline = time.monotonic() + 10
        while ada.post(PLACE, json=a_request(), headers=a_key()).status_code != 202:
            assert time.monotonic() < deadline
