"""Placing over a real server and a real record: durable once, whoever asks how often."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psycopg
import pytest
import redis
from door_server import PLACE, Server, a_key, a_line, a_request, let_everything_in, make_key, serving
from shared_services import SharedServices

from ingress.answers import Accepted, IntentView, OrderDetail
from store.users import Role


@pytest.fixture(scope="module")
def door(tmp_path_factory, database_url: str, queue_url: str, services: SharedServices) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("door")
    let_everything_in(database_url)
    with serving(folder, database_url=database_url, queue_url=queue_url, redis_url=services.redis_url) as server:
        yield server


@pytest.fixture(scope="module")
def ada(door: Server) -> Iterator[httpx2.Client]:
    with door.client(make_key(door.database_url, "ada", Role.TRADER)) as client:
        yield client


@pytest.fixture
def record(owner_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(owner_database_url, autocommit=True) as connection:
        yield connection


def count(record: psycopg.Connection, table: str) -> int:
    return record.execute(f"select count(*) from {table}").fetchone()[0]  # noqa: S608


def test_an_accepted_intent_is_stored_before_the_answer(ada, record):
    lines = [a_line(correlationId=f"leg-{number}") for number in range(3)]

    answer = ada.post(PLACE, json=a_request(*lines), headers=a_key())

    assert answer.status_code == 202
    document = Accepted.model_validate(answer.json())
    assert answer.headers["Location"] == f"/v2/intents/{document.intent_id}"
    assert "Idempotency-Replayed" not in answer.headers
    assert [(order.line, order.correlation_id) for order in document.orders] == [
        (0, "leg-0"),
        (1, "leg-1"),
        (2, "leg-2"),
    ]
    stored = record.execute("select count(*) from orders where intent_id = %s", (document.intent_id,)).fetchone()
    assert stored == (3,)
    shown = ada.get(answer.headers["Location"])
    IntentView.model_validate(shown.json())
    order = ada.get(f"/v2/orders/{document.orders[1].order_id}")
    OrderDetail.model_validate(order.json())
    assert order.headers["ETag"] == '"1"'
    assert order.json()["work"]["stage"] == "validate"


def test_the_same_key_gives_the_same_answer_and_stores_nothing_more(ada, record):
    key, request = a_key(), a_request()
    first = ada.post(PLACE, json=request, headers=key)
    before = count(record, "orders")

    again = ada.post(PLACE, content=json.dumps(request, indent=2), headers={**key, "Content-Type": "application/json"})

    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert count(record, "orders") == before


def test_the_same_key_for_another_request_is_refused(ada):
    key = a_key()
    ada.post(PLACE, json=a_request(), headers=key)

    answer = ada.post(PLACE, json=a_request(a_line(quantity=11)), headers=key)

    assert (answer.status_code, answer.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_refused_request_uses_up_no_key(ada):
    key = a_key()
    assert ada.post(PLACE, json=a_request(a_line(quantity=0)), headers=key).status_code == 422

    assert ada.post(PLACE, json=a_request(), headers=key).status_code == 202


def test_legs_are_taken_with_their_policy_and_replayed_with_it(ada, record):
    key = a_key()
    lines = [a_line(correlationId="first"), a_line(correlationId="second", after="first")]
    request = {**a_request(*lines), "policy": "FAIL_FAST"}

    answer = ada.post(PLACE, json=request, headers=key)

    assert answer.status_code == 202
    first, second = ada.get(answer.headers["Location"]).json()["orders"]
    assert [(order["policy"], order["after"]) for order in (first, second)] == [
        ("FAIL_FAST", None),
        ("FAIL_FAST", "first"),
    ]
    again = ada.post(PLACE, json=request, headers=key)
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (answer.json(), "true")
    other = ada.post(PLACE, json={**request, "policy": "ALL_OR_NONE"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_leg_that_leads_nowhere_is_told_where_it_stands_and_nothing_is_stored(ada, record):
    key, before = a_key(), count(record, "orders")
    lines = [a_line(correlationId="first", after="second"), a_line(correlationId="second", after="third")]

    answer = ada.post(PLACE, json=a_request(*lines), headers=key)

    assert answer.status_code == 422
    assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [
        ("/orders/0/after", "LATER_LINE"),
        ("/orders/1/after", "NO_SUCH_LINE"),
    ]
    assert count(record, "orders") == before
    assert ada.post(PLACE, json=a_request(), headers=key).status_code == 202


def test_while_old_work_waits_nothing_new_is_let_in_and_a_replay_is(ada, record):
    key = a_key()
    first = ada.post(PLACE, json=a_request(), headers=key)
    record.execute("update settings set value = '0.05' where name = 'admission_age_s'")
    try:
        end = time.monotonic() + 10
        while (refused := ada.post(PLACE, json=a_request(), headers=a_key())).status_code != 503:
            assert time.monotonic() < end
        assert refused.json()["code"] == "OVERLOADED"
        assert refused.headers["Retry-After"] == "1"
        assert ada.post(PLACE, json=a_request(), headers=key).json() == first.json()
        assert (
            ada.post(PLACE, json=a_request(a_line(quantity=11)), headers=key).json()["code"] == "IDEMPOTENCY_KEY_REUSED"
        )
        assert ada.post(PLACE, json=a_request(a_line(quantity=0)), headers=key).json()["code"] == "MALFORMED"
        assert ada.post(PLACE, json=a_request(a_line(quantity=0)), headers=a_key()).json()["code"] == "OVERLOADED"
    finally:
        record.execute("update settings set value = '86400' where name = 'admission_age_s'")
        end = time.monotonic() + 10
        while ada.post(PLACE, json=a_request(), headers=a_key()).status_code != 202:
            assert time.monotonic() < end


def test_two_users_may_use_one_key(door, ada):
    key = a_key()
    with door.client(make_key(door.database_url, "bob", Role.TRADER)) as bob:
        intents = {client.post(PLACE, json=a_request(), headers=key).json()["intentId"] for client in (ada, bob)}
    assert len(intents) == 2


def test_sixty_four_first_uses_at_once_are_one_intent(door, record):
    key, name = a_key(), make_key(door.database_url, "crowd", Role.TRADER)
    start = threading.Barrier(64)

    def place() -> httpx2.Response:
        with door.client(name) as client:
            start.wait()
            return client.post(PLACE, json=a_request(), headers=key)

    with ThreadPoolExecutor(64) as pool:
        answers = [task.result() for task in [pool.submit(place) for _ in range(64)]]

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1


def test_who_waits_is_answered_when_the_lines_settle(ada, record, services):
    placed = ada.post(PLACE, json=a_request(a_line(), a_line(correlationId="leg-2")), headers=a_key()).json()
    first, second = (order["orderId"] for order in placed["orders"])

    def settle() -> None:
        time.sleep(0.3)
        with redis.Redis.from_url(services.redis_url) as news:
            record.execute("update orders set state = 'OPEN' where id = %s", (first,))
            news.publish("oc:news", json.dumps({"intents": [placed["intentId"]]}))
            record.execute("update orders set state = 'REJECTED', reason_code = 'X' where id = %s", (second,))
            news.publish("oc:news", json.dumps({"intents": [placed["intentId"]]}))

    thread = threading.Thread(target=settle)
    thread.start()
    began = time.monotonic()
    answer = ada.get(f"/v2/intents/{placed['intentId']}?wait=20")
    took = time.monotonic() - began
    thread.join()

    assert answer.json()["status"] == "PARTIAL"
    assert took < 5


def test_prefer_wait_tells_how_much_has_settled(ada, record):
    key, headers = a_key(), {"Prefer": "wait=1"}
    waited = ada.post(PLACE, json=a_request(a_line(), a_line(correlationId="leg-2")), headers={**key, **headers})
    assert (waited.status_code, waited.headers["Preference-Applied"]) == (202, "wait=1")
    first, second = (order["orderId"] for order in waited.json()["orders"])

    record.execute("update orders set state = 'OPEN' where id = %s", (first,))
    request = a_request(a_line(), a_line(correlationId="leg-2"))
    partial = ada.post(PLACE, json=request, headers={**key, **headers})
    record.execute("update orders set state = 'FILLED' where id = %s", (second,))
    whole = ada.post(PLACE, json=request, headers={**key, **headers})

    assert (partial.status_code, whole.status_code) == (207, 200)
    assert whole.headers["Idempotency-Replayed"] == "true"
    IntentView.model_validate(whole.json())


def test_a_spent_key_tells_what_it_made(ada, record):
    key = a_key()
    placed = ada.post(PLACE, json=a_request(), headers=key).json()
    record.execute("update orders set state = 'FILLED' where intent_id = %s", (placed["intentId"],))
    record.execute("update intents set window_until = now() where id = %s", (placed["intentId"],))

    answer = ada.post(PLACE, json=a_request(), headers=key)

    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_KEY_SPENT")
    assert answer.json()["intentId"] == placed["intentId"]
    assert answer.headers["Location"] == f"/v2/intents/{placed['intentId']}"


def test_nobody_sees_anothers_intents(door, ada):
    placed = ada.post(PLACE, json=a_request(), headers=a_key()).json()
    path, order = f"/v2/intents/{placed['intentId']}", f"/v2/orders/{placed['orders'][0]['orderId']}"
    paths = [path, f"{path}?wait=1", order, f"{order}/history", f"{order}/trades"]
    with door.client(make_key(door.database_url, "eve", Role.TRADER)) as eve:
        assert {eve.get(path).status_code for path in paths} == {404}
    with door.client(make_key(door.database_url, "audrey", Role.AUDITOR)) as audrey:
        assert {audrey.get(path).status_code for path in paths} == {200}
        assert audrey.post(PLACE, json=a_request(), headers=a_key()).json()["code"] == "NOT_ALLOWED"
    with door.client(make_key(door.database_url, "otto", Role.OPERATOR)) as otto:
        assert otto.get(path).status_code == 200
        assert otto.post(PLACE, json=a_request(), headers=a_key()).status_code == 403


def test_lists_page_through_what_one_has(door):
    with door.client(make_key(door.database_url, "lister", Role.TRADER)) as client:
        placed = [client.post(PLACE, json=a_request(), headers=a_key()).json()["intentId"] for _ in range(5)]
        first = client.get("/v2/intents?limit=3").json()
        second = client.get("/v2/intents", params={"limit": 3, "after": first["next"]}).json()
        orders = client.get("/v2/orders", params={"intent": placed[0], "state": "RECEIVED,OPEN"}).json()
        trades = client.get("/v2/trades").json()

    assert [row["intentId"] for row in first["intents"] + second["intents"]] == placed[::-1]
    assert second["next"] is None
    assert [row["intentId"] for row in orders["orders"]] == [placed[0]]
    assert trades == {"trades": [], "next": None}


def test_an_expired_key_and_a_stranger_to_the_pepper_are_refused(door, record):
    expired = make_key(door.database_url, "late", Role.TRADER)
    record.execute("update api_keys set expires_at = now() where prefix = %s", (expired.rpartition("_")[0],))
    stranger = make_key(door.database_url, "mallory", Role.TRADER)
    record.execute("update api_keys set secret_hash = 'x' where prefix = %s", (stranger.rpartition("_")[0],))
    for key in (expired, stranger):
        with door.client(key) as client:
            assert client.get("/v2/orders").status_code == 401


def test_a_revoked_key_stops_within_a_second(door, record):
    key = make_key(door.database_url, "leaver", Role.TRADER)
    with door.client(key) as client:
        assert client.get("/v2/orders").status_code == 200
        record.execute("update api_keys set revoked_at = now() where prefix = %s", (key.rpartition("_")[0],))
        began = time.monotonic()
        while client.get("/v2/orders").status_code == 200:
            assert time.monotonic() - began < 2
        assert time.monotonic() - began < 1.2


def test_a_keys_rate_holds(door):
    with door.client(make_key(door.database_url, "eager", Role.TRADER, requests_per_s=5)) as client:
        answers = [client.get("/v2/orders") for _ in range(12)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 3 <= len(refused) <= 7
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert {answer.json()["code"] for answer in refused} == {"RATE_LIMITED"}


def test_one_may_name_ones_request(ada):
    answer = ada.get("/v2/orders", headers={"X-Request-Id": "mine-1"})
    refused = ada.get("/v2/nothing", headers={"X-Request-Id": "mine-2"})
    assert answer.headers["X-Request-Id"] == "mine-1"
    assert refused.headers["X-Request-Id"] == refused.json()["requestId"] == "mine-2"


def test_the_process_tells_how_it_is(door):
    with door.client(None) as client:
        assert client.get("/livez").json() == {"status": "alive"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert set(ready.json()["checks"]) == {"postgres", "redis", "rabbitmq"}
        assert client.get("/version").json()["version"]
        assert 'coordinator_http_seconds_count{operation="livez"' in client.get("/metrics").text
        assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
        assert "script-src 'self'" in client.get("/docs").headers["Content-Security-Policy"]
        assert client.get("/docs/assets/scalar-api-reference.js").status_code == 200
