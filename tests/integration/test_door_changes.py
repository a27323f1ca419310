"""Modifying and cancelling over a real server and a real record: durable once, nothing sent that wasn't meant."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import redis
from door_server import PLACE, Server, a_key, a_line, a_request, let_everything_in, make_key, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared_services import SharedServices

from domain.ids import new_id
from ingress.answers import History, IntentView, OrderDetail
from ingress.app import CHANGERS
from ingress.change_forms import AcceptedCancel, AcceptedModify, MatchPage
from ingress.operators import WAITING_PER_THREAD
from store.users import Role

sys.path.append(str(Path(__file__).parent / "engine"))
from proxies import Proxy

CANCEL = "/v2/orders/multi/cancel"


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
def mia(door: Server) -> Iterator[httpx2.Client]:
    """A trader with no orders yet."""
    with door.client(make_key(door.database_url, f"mia-{new_id()}", Role.TRADER)) as client:
        yield client


@pytest.fixture
def record(owner_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(owner_database_url, autocommit=True) as connection:
        yield connection


def placed(client: httpx2.Client, record: psycopg.Connection, *lines: dict[str, Any], state: str = "OPEN") -> list[str]:
    """Orders that rest at a broker, or are in another state, as the stages would have left them."""
    asked = [a_line(correlationId=f"leg-{number}") | line for number, line in enumerate(lines or ({},))]
    answer = client.post(PLACE, json=a_request(*asked), headers=a_key())
    order_ids = [order["orderId"] for order in answer.json()["orders"]]
    record.execute(
        "update orders set state = %s, broker = 'upstox', account_id = 'UP1', broker_order_id = id::text"
        " where id = any(%s::uuid[])",
        (state, order_ids),
    )
    return order_ids


def stored(record: psycopg.Connection) -> tuple[int, int, int]:
    """Intents, changes and orders that are marked."""
    counted = "select (select count(*) from intents), (select count(*) from changes), count(*) filter (where cancel_requested)"
    return record.execute(f"{counted} from orders").fetchone()


def settle(record: psycopg.Connection, intent_id: str, result: str, *lines: int) -> None:
    """What the stages would write when it is known what came of these lines; of all, where none is named."""
    record.execute(
        "update changes set result = %s, settled_at = now() where intent_id = %s and (%s or line = any(%s))",
        (result, intent_id, not lines, list(lines)),
    )


# Cancelling


def test_a_cancel_is_durable_before_its_answer_and_each_line_says_where_it_stands(ada, record):
    first, second = placed(ada, record, {}, {})
    (ended,) = placed(ada, record, state="FILLED")
    unknown = new_id()

    answer = ada.post(CANCEL, json={"orderIds": [first, unknown, ended, second]}, headers=a_key())

    assert answer.status_code == 202
    accepted = AcceptedCancel.model_validate(answer.json())
    assert answer.headers["Location"] == f"/v2/intents/{accepted.intent_id}"
    assert accepted.matched == 2
    told = [(line.line, str(line.order_id), line.code, line.state) for line in accepted.answered]
    assert told == [(1, unknown, "NOT_FOUND", None), (2, ended, "ALREADY_ENDED", "FILLED")]
    view = ada.get(answer.headers["Location"]).json()
    IntentView.model_validate(view)
    assert [(line["orderId"], line["result"]) for line in view["changes"]] == [
        (first, None),
        (unknown, "NOT_FOUND"),
        (ended, "ALREADY_ENDED"),
        (second, None),
    ]
    assert (view["kind"], view["status"], view["settled"], view["total"]) == ("CANCEL", "RUNNING", 2, 4)
    order = ada.get(f"/v2/orders/{first}").json()
    OrderDetail.model_validate(order)
    assert order["changing"] == 1
    assert [(line["kind"], line["intentId"]) for line in order["changes"]] == [("CANCEL", str(accepted.intent_id))]
    history = ada.get(f"/v2/orders/{first}/history").json()
    History.model_validate(history)
    assert history["events"][-1]["type"] == "CANCEL_REQUESTED"


def test_the_same_key_gives_the_same_answer_and_cancels_nothing_more(ada, record):
    (order_id,) = placed(ada, record)
    key, body = a_key(), {"orderIds": [order_id, new_id()]}
    first = ada.post(CANCEL, json=body, headers=key)
    before = stored(record)

    again = ada.post(CANCEL, content=json.dumps(body, indent=2), headers={**key, "Content-Type": "application/json"})
    other = ada.post(CANCEL, json={"orderIds": [order_id]}, headers=key)

    assert (again.status_code, again.json(), again.headers["Idempotency-Replayed"]) == (202, first.json(), "true")
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert stored(record) == before


def test_sixteen_cancels_at_once_with_one_key_are_one(door, record):
    name, key = make_key(door.database_url, "crowd", Role.TRADER), a_key()
    with door.client(name) as client:
        order_ids = placed(client, record, *[{}] * 5)
    start = threading.Barrier(16)

    def cancel() -> httpx2.Response:
        with door.client(name) as client:
            start.wait()
            return client.post(CANCEL, json={"orderIds": order_ids}, headers=key)

    with ThreadPoolExecutor(16) as pool:
        answers = [task.result() for task in [pool.submit(cancel) for _ in range(16)]]

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    changes = record.execute("select count(*) from changes where order_id = any(%s::uuid[])", (order_ids,)).fetchone()
    assert changes == (5,)


def test_an_order_that_is_being_cancelled_is_told_so_with_its_intent(ada, record):
    (order_id,) = placed(ada, record)
    first = ada.post(CANCEL, json={"orderIds": [order_id]}, headers=a_key()).json()

    again = ada.post(CANCEL, json={"orderIds": [order_id]}, headers=a_key()).json()

    assert again["matched"] == 0
    (line,) = again["answered"]
    assert (line["code"], line["intentId"]) == ("ALREADY_CANCELLING", first["intentId"])
    assert ada.get(again["links"]["intent"]).json()["status"] == "RUNNING"
    settle(record, first["intentId"], "CANCELLED")
    assert ada.get(again["links"]["intent"]).json()["status"] == "DONE"


def test_a_filter_means_the_live_orders_that_have_all_of_it_and_no_others(mia, record):
    wanted, *_ = placed(mia, record, {"strategy": "breakout", "tag": "am"}, {"strategy": "breakout"}, {"tag": "am"})
    placed(mia, record, {"strategy": "breakout", "tag": "am"}, state="FILLED")

    answer = mia.post(CANCEL, json={"filter": {"strategy": "breakout", "tag": "am"}}, headers=a_key()).json()

    assert (answer["matched"], answer["answered"]) == (1, [])
    marked = record.execute("select id::text from orders where cancel_requested and strategy = 'breakout'").fetchall()
    assert marked == [(wanted,)]


def test_everything_is_cancelled_only_where_it_is_said(mia, record):
    order_ids = placed(mia, record, {}, {})
    before = stored(record)
    for body in ({"filter": {}}, {}, {"orderIds": []}, {"filter": {"all": False}}, {"filter": {"tag": None}}):
        refused = mia.post(CANCEL, json=body, headers=a_key())
        assert (refused.status_code, refused.json()["code"]) == (422, "MALFORMED"), body
    assert stored(record) == before

    assert mia.post(CANCEL, json={"filter": {"all": True}}, headers=a_key()).json()["matched"] == len(order_ids)


def test_nobody_cancels_or_modifies_anothers_order_nor_learns_of_it(door, ada, record):
    (order_id,) = placed(ada, record)
    before = record.execute("select cancel_requested, changing from orders where id = %s", (order_id,)).fetchone()
    with door.client(make_key(door.database_url, "eve", Role.TRADER)) as eve:
        cancel = eve.post(CANCEL, json={"orderIds": [order_id]}, headers=a_key()).json()
        everything = eve.post(CANCEL, json={"filter": {"all": True}}, headers=a_key()).json()
        modify = eve.put(f"/v3/orders/{order_id}", json={"quantity": 5}, headers={**a_key(), "If-Match": "1"})
        one = eve.delete(f"/v2/orders/{order_id}", headers=a_key())
        seen = eve.get(cancel["links"]["intent"]).json()["changes"][0]
    assert (cancel["matched"], cancel["answered"][0]["code"], cancel["answered"][0]["state"]) == (0, "NOT_FOUND", None)
    assert everything["matched"] == 0
    assert (modify.status_code, one.status_code) == (404, 404)
    assert (seen["state"], seen["instrument"]) == (None, None)
    assert (
        record.execute("select cancel_requested, changing from orders where id = %s", (order_id,)).fetchone() == before
    )


def test_only_those_who_may_place_may_cancel_and_modify(door, ada, record):
    (order_id,) = placed(ada, record)
    for role in (Role.AUDITOR, Role.OPERATOR):
        with door.client(make_key(door.database_url, f"{role}-person", role)) as client:
            calls = [
                client.post(CANCEL, json={"orderIds": [order_id]}, headers=a_key()),
                client.post(f"{CANCEL}/preview", json={"orderIds": [order_id]}),
                client.put(f"/v3/orders/{order_id}", json={"quantity": 5}, headers={**a_key(), "If-Match": "1"}),
                client.delete(f"/v2/orders/{order_id}", headers=a_key()),
            ]
            assert {call.status_code for call in calls} == {403}


def test_ten_thousand_ids_are_taken_in_one_request_and_one_more_is_refused(mia, record):
    order_ids = placed(mia, record, *[{}] * 20)
    strangers = [new_id() for _ in range(9_980)]

    answer = mia.post(CANCEL, json={"orderIds": [*strangers, *order_ids]}, headers=a_key())
    refused = mia.post(CANCEL, json={"orderIds": [*strangers, *order_ids, new_id()]}, headers=a_key())

    assert (answer.status_code, answer.json()["matched"], len(answer.json()["answered"])) == (202, 20, 9_980)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "TOO_MANY")
    seen, after = [], {}
    while True:
        page = mia.get(answer.json()["links"]["intent"], params={"limit": 500, **after}).json()
        seen += [line["line"] for line in page["changes"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == list(range(10_000))
    assert page["counts"] == {"NOT_FOUND": 9_980, "NOT_KNOWN": 20}


def test_a_megabyte_is_the_limit_here_and_64_kilobytes_stay_it_elsewhere(ada, record):
    before = stored(record)
    padding = {"headers": {**a_key(), "Content-Type": "application/json"}}

    over = ada.post(CANCEL, content=b" " * (1024 * 1024 + 1), **padding)
    elsewhere = ada.post(PLACE, content=b" " * (64 * 1024 + 1), **padding)
    modify = ada.put(
        f"/v3/orders/{new_id()}",
        content=b" " * (64 * 1024 + 1),
        headers={**padding["headers"], "If-Match": "1"},
    )

    assert [answer.status_code for answer in (over, elsewhere, modify)] == [413, 413, 413]
    assert stored(record) == before


def test_a_preview_says_what_would_be_cancelled_page_by_page_and_stores_nothing(mia, record):
    order_ids = placed(mia, record, *[{"tag": "dry"}] * 5)
    placed(mia, record, {"tag": "dry"}, state="CANCELLED")
    before = stored(record)
    seen, after = [], {}
    while True:
        answer = mia.post(f"{CANCEL}/preview", params={"limit": 2, **after}, json={"filter": {"tag": "dry"}})
        page = MatchPage.model_validate(answer.json())
        assert page.matched == 5
        seen += [str(order.order_id) for order in page.orders]
        if page.next is None:
            break
        after = {"after": page.next}

    assert seen == sorted(order_ids)
    assert stored(record) == before


def test_who_waits_is_answered_when_it_is_known_what_came_of_every_line(mia, record, services):
    order_ids = placed(mia, record, {}, {})
    intent_id = mia.post(CANCEL, json={"orderIds": order_ids}, headers=a_key()).json()["intentId"]

    def tell() -> None:
        time.sleep(0.3)
        with redis.Redis.from_url(services.redis_url) as news:
            for line, result in ((0, "CANCELLED"), (1, "FILLED")):
                settle_line(intent_id, result, line)
                news.publish("oc:news", json.dumps({"intents": [intent_id]}))

    def settle_line(intent: str, result: str, line: int) -> None:
        settle(record, intent, result, line)

    thread = threading.Thread(target=tell)
    thread.start()
    began = time.monotonic()
    view = mia.get(f"/v2/intents/{intent_id}?wait=20").json()
    took = time.monotonic() - began
    thread.join()

    assert (view["status"], view["counts"]) == ("PARTIAL", {"CANCELLED": 1, "FILLED": 1})
    assert took < 5


def test_prefer_wait_tells_how_much_is_known(mia, record):
    first, second = placed(mia, record, {}, {})
    key, body = {**a_key(), "Prefer": "wait=1"}, {"orderIds": [first, second]}

    nothing = mia.post(CANCEL, json=body, headers=key)
    settle(record, nothing.json()["intentId"], "CANCELLED", 0)
    some = mia.post(CANCEL, json=body, headers=key)
    settle(record, nothing.json()["intentId"], "CANCELLED")
    whole = mia.post(CANCEL, json=body, headers=key)

    assert [answer.status_code for answer in (nothing, some, whole)] == [202, 207, 200]
    assert nothing.headers["Preference-Applied"] == "wait=1"
    assert whole.headers["Idempotency-Replayed"] == "true"
    IntentView.model_validate(whole.json())


def test_a_soft_cancel_is_answered_at_once_and_called_marked_not_cancelled(mia, record):
    order_ids = placed(mia, record, {}, {})
    body, headers = {"orderIds": order_ids, "mode": "SOFT"}, {**a_key(), "Prefer": "wait=20"}
    began = time.monotonic()

    answer = mia.post(CANCEL, json=body, headers=headers)

    assert time.monotonic() - began < 5
    view = answer.json()
    assert (answer.status_code, view["status"], view["counts"]) == (200, "MARKED", {"NOT_KNOWN": 2})


def test_one_order_is_cancelled_by_its_path(mia, record):
    (order_id,) = placed(mia, record)
    key = a_key()

    answer = mia.delete(f"/v2/orders/{order_id}", headers=key)
    again = mia.delete(f"/v2/orders/{order_id}", headers=key)

    assert (answer.status_code, answer.json()["matched"]) == (202, 1)
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (answer.json(), "true")
    assert mia.delete(f"/v2/orders/{new_id()}", headers=a_key()).status_code == 404
    assert mia.delete(f"/v2/orders/{order_id}").json()["code"] == "IDEMPOTENCY_KEY_MISSING"
    without = mia.put(f"/v3/orders/{order_id}", json={"quantity": 5}, headers={"If-Match": "1"})
    assert (without.status_code, without.json()["code"]) == (400, "IDEMPOTENCY_KEY_MISSING")


def test_cancels_are_let_in_while_nothing_new_is(ada, record):
    (order_id,) = placed(ada, record)
    record.execute("update settings set value = '0.05' where name = 'admission_age_s'")
    try:
        end = time.monotonic() + 10
        while ada.post(PLACE, json=a_request(), headers=a_key()).status_code != 503:
            assert time.monotonic() < end
        answer = ada.post(CANCEL, json={"orderIds": [order_id]}, headers=a_key())
        assert (answer.status_code, answer.json()["matched"]) == (202, 1)
    finally:
        record.execute("update settings set value = '86400' where name = 'admission_age_s'")
        end = time.monotonic() + 10
        while ada.post(PLACE, json=a_request(), headers=a_key()).status_code != 202:
            assert time.monotonic() < end


def test_cancels_wait_for_no_modifies(door, ada, record, owner_database_url):
    first, held, *others = placed(ada, record, {}, {}, {})

    def modify() -> httpx2.Response:
        return ada.put(f"/v3/orders/{held}", json={"quantity": 5}, headers={**a_key(), "If-Match": "1"})

    with psycopg.connect(owner_database_url) as holder, ThreadPoolExecutor(CHANGERS) as threads:
        holder.execute("select 1 from orders where id = %s for update", (held,))
        modifies = [threads.submit(modify) for _ in range(CHANGERS)]
        end = time.monotonic() + 5
        while record.execute("select count(*) from pg_locks where not granted").fetchone() < (CHANGERS,):
            assert time.monotonic() < end
        began = time.monotonic()
        answers = [
            ada.post(CANCEL, json={"orderIds": others}, headers=a_key()),
            ada.delete(f"/v2/orders/{first}", headers=a_key()),
        ]
        took_s = time.monotonic() - began
        holder.rollback()
        assert sorted({modified.result(20).status_code for modified in modifies}) == [202, 409]
    assert [(answer.status_code, answer.json()["matched"]) for answer in answers] == [(202, 1)] * 2
    assert took_s < 2, "every thread for modifies waits three seconds for the lock"


def test_a_flood_of_modifies_is_turned_away_and_cancels_are_let_in(door, ada, record, owner_database_url):
    first, held = placed(ada, record, {}, {})

    def modify() -> httpx2.Response:
        return ada.put(f"/v3/orders/{held}", json={"quantity": 5}, headers={**a_key(), "If-Match": "1"})

    flood = CHANGERS * (2 + WAITING_PER_THREAD)
    with psycopg.connect(owner_database_url) as holder, ThreadPoolExecutor(flood) as threads:
        holder.execute("select 1 from orders where id = %s for update", (held,))
        modifies = [threads.submit(modify) for _ in range(flood)]
        eventual = time.monotonic() + 10
        while not any(modified.done() for modified in modifies):
            assert time.monotonic() < eventual
        answer = ada.post(CANCEL, json={"orderIds": [first]}, headers=a_key())
        holder.rollback()
        told = [modified.result(30) for modified in modifies]
    refused = [one for one in told if one.status_code == 503 and one.json()["code"] == "OVERLOADED"]
    assert (answer.status_code, answer.json()["matched"]) == (202, 1)
    assert {one.headers["Retry-After"] for one in refused} == {"1"}
    assert len(refused) >= flood - CHANGERS * (1 + WAITING_PER_THREAD) > 0


def test_cancels_are_let_in_while_reads_are_turned_away(door, ada, record, owner_database_url):
    order_id, key = placed(ada, record)[0], a_key()
    newcomer = door.client(make_key(door.database_url, "newcomer", Role.TRADER))  # no process has seen its key yet
    with psycopg.connect(owner_database_url) as holder, ThreadPoolExecutor(80) as threads:
        holder.execute("lock table trades in access exclusive mode")
        reads = [threads.submit(ada.get, "/v2/trades", params={"limit": number}) for number in range(1, 81)]
        end = time.monotonic() + 10
        while not any(read.done() for read in reads):
            assert time.monotonic() < end
        assert ada.get("/v2/orders").status_code == 503
        answers = [ada.delete(f"/v2/orders/{order_id}", headers=key) for _ in range(2)]
        unknown = newcomer.delete(f"/v2/orders/{new_id()}", headers=a_key())
        holder.rollback()
    newcomer.close()
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert unknown.status_code == 404


def test_an_order_that_is_not_there_uses_up_no_key(ada, record):
    key, (order_id,) = a_key(), placed(ada, record)

    assert ada.delete(f"/v2/orders/{new_id()}", headers=key).status_code == 404
    assert ada.delete(f"/v2/orders/{order_id}", headers=key).status_code == 202


def test_cancels_and_modifies_are_taken_while_the_queue_is_away(tmp_path, door, record, services):
    name = make_key(door.database_url, "quiet", Role.TRADER)
    with door.client(name) as client:
        first, second = placed(client, record, {}, {})
    nowhere = {"queue_url": "amqp://127.0.0.1:1/", "redis_url": services.redis_url}
    with serving(tmp_path, database_url=door.database_url, **nowhere) as server, server.client(name) as client:
        cancel = client.post(CANCEL, json={"orderIds": [first]}, headers=a_key())
        modify = client.put(f"/v3/orders/{second}", json={"quantity": 5}, headers={**a_key(), "If-Match": '"1"'})
    assert (cancel.status_code, cancel.json()["matched"]) == (202, 1)
    assert modify.status_code == 202


def test_while_the_database_is_away_nothing_is_taken_and_the_key_is_safe_to_use_again(
    tmp_path, door, record, queue_url, services
):
    name = make_key(door.database_url, "patient", Role.TRADER)
    with door.client(name) as client:
        first, second = placed(client, record, {}, {})
    cancel, modify = a_key(), {**a_key(), "If-Match": "1"}
    with contextlib.closing(Proxy(door.database_url)) as proxy, ExitStack() as stack:
        urls = {"database_url": proxy.url, "queue_url": queue_url, "redis_url": services.redis_url}
        client = stack.enter_context(stack.enter_context(serving(tmp_path, **urls)).client(name))

        def asked() -> list[httpx2.Response]:
            return [
                client.post(CANCEL, json={"orderIds": [first]}, headers=cancel),
                client.put(f"/v3/orders/{second}", json={"quantity": 5}, headers=modify),
            ]

        client.get("/v2/orders")  # the caller is known for a second
        proxy.cut()
        for answer in asked():
            assert (answer.status_code, answer.json()["code"]) == (503, "STORE_UNAVAILABLE")
            assert int(answer.headers["Retry-After"]) >= 1
        proxy.mend()
        end = time.monotonic() + 20
        while [answer.status_code for answer in asked()] != [202, 202]:
            assert time.monotonic() < end
        assert {answer.headers["Idempotency-Replayed"] for answer in asked()} == {"true"}
    changes = record.execute("select count(*) from changes where order_id in (%s, %s)", (first, second)).fetchone()
    assert changes == (2,)


def test_a_key_of_one_kind_of_request_is_no_key_of_another(ada, record):
    (order_id,) = placed(ada, record)
    key, other = a_key(), a_key()
    ada.post(PLACE, json=a_request(), headers=key)
    ada.post(CANCEL, json={"orderIds": [order_id]}, headers=other)

    answers = [
        ada.post(CANCEL, json={"orderIds": [order_id]}, headers=key),
        ada.put(f"/v3/orders/{order_id}", json={"quantity": 5}, headers={**key, "If-Match": "1"}),
        ada.post(PLACE, json=a_request(), headers=other),
        ada.put(f"/v3/orders/{order_id}", json={"quantity": 5}, headers={**other, "If-Match": "1"}),
        ada.delete(f"/v2/orders/{order_id}", headers=other),
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "IDEMPOTENCY_KEY_REUSED")}


# Modifying


def test_a_modify_is_for_the_version_that_its_client_has_read(mia, record):
    (order_id,) = placed(mia, record)
    etag = mia.get(f"/v2/orders/{order_id}").headers["ETag"]
    key, body = a_key(), {"quantity": 12, "price": "1515.0"}

    answer = mia.put(f"/v3/orders/{order_id}", json=body, headers={**key, "If-Match": etag})

    assert answer.status_code == 202
    accepted = AcceptedModify.model_validate(answer.json())
    assert answer.headers["Location"] == f"/v2/intents/{accepted.intent_id}"
    assert (str(accepted.order_id), accepted.links.order) == (order_id, f"/v2/orders/{order_id}")
    view = mia.get(answer.headers["Location"]).json()
    IntentView.model_validate(view)
    (line,) = view["changes"]
    assert (view["kind"], view["status"], line["kind"], line["result"]) == ("MODIFY", "RUNNING", "MODIFY", None)
    assert (line["wanted"]["quantity"], float(line["wanted"]["price"])) == (12, 1515)
    # The same in another spelling is the same request, also when the order has moved on since.
    record.execute("update orders set version = 2 where id = %s", (order_id,))
    again = mia.put(f"/v3/orders/{order_id}", json={"price": 1515, "quantity": 12}, headers={**key, "If-Match": "1"})
    assert (again.status_code, again.json(), again.headers["Idempotency-Replayed"]) == (202, answer.json(), "true")
    other = mia.put(f"/v3/orders/{order_id}", json=body, headers={**key, "If-Match": "2"})
    assert other.json()["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_a_stale_version_is_refused_with_the_order_as_it_stands(mia, record):
    (order_id,) = placed(mia, record)
    record.execute("update orders set version = 4, quantity = 15 where id = %s", (order_id,))
    before = stored(record)

    answer = mia.put(f"/v3/orders/{order_id}", json={"quantity": 12}, headers={**a_key(), "If-Match": '"1"'})

    assert (answer.status_code, answer.json()["code"], answer.headers["ETag"]) == (409, "STALE_VERSION", '"4"')
    current = answer.json()["current"]
    assert (current["orderId"], current["version"], current["quantity"]) == (order_id, 4, 15)
    assert stored(record) == before


@pytest.mark.parametrize(
    ("if_match", "status", "code"),
    [
        (None, 428, "PRECONDITION_REQUIRED"),
        ("", 428, "PRECONDITION_REQUIRED"),
        ("*", 400, "BAD_PARAMETER"),
        ('W/"1"', 400, "BAD_PARAMETER"),
        ('"1", "2"', 400, "BAD_PARAMETER"),
        ('"1', 400, "BAD_PARAMETER"),
        ("-1", 400, "BAD_PARAMETER"),
        ("1.0", 400, "BAD_PARAMETER"),
        ("9" * 40, 400, "BAD_PARAMETER"),
    ],
)
def test_a_modify_without_a_version_changes_nothing(mia, record, if_match, status, code):
    (order_id,) = placed(mia, record)
    before = stored(record)
    headers = a_key() if if_match is None else {**a_key(), "If-Match": if_match}

    answer = mia.put(f"/v3/orders/{order_id}", json={"quantity": 12}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert stored(record) == before


@pytest.mark.parametrize(
    ("state", "body", "why"),
    [
        ("OPEN", {"quantity": 10}, "NOTHING_TO_CHANGE"),
        ("OPEN", {"quantity": 10, "price": "1512.500"}, "NOTHING_TO_CHANGE"),
        ("FILLED", {"quantity": 12}, "ORDER_STATE"),
        ("CANCELLED", {"quantity": 12}, "ORDER_STATE"),
        ("RECEIVED", {"quantity": 12}, "ORDER_STATE"),
        ("UNKNOWN", {"quantity": 12}, "ORDER_STATE"),
    ],
)
def test_a_modify_that_makes_no_sense_says_why_and_changes_nothing(mia, record, state, body, why):
    (order_id,) = placed(mia, record, state=state)
    before = stored(record)

    answer = mia.put(f"/v3/orders/{order_id}", json=body, headers={**a_key(), "If-Match": "1"})

    assert (answer.status_code, answer.json()["code"]) == (409, "ORDER_NOT_MODIFIABLE")
    assert answer.json()["reason"]["code"] == why
    assert answer.json()["current"]["state"] == state
    assert stored(record) == before


def test_one_modify_of_an_order_at_a_time_and_none_of_one_that_is_being_cancelled(mia, record):
    first, second = placed(mia, record, {}, {})
    version = {"If-Match": "1"}
    mia.put(f"/v3/orders/{first}", json={"quantity": 12}, headers={**a_key(), **version})
    mia.delete(f"/v2/orders/{second}", headers=a_key())

    another = mia.put(f"/v3/orders/{first}", json={"quantity": 13}, headers={**a_key(), **version})
    cancelled = mia.put(f"/v3/orders/{second}", json={"quantity": 12}, headers={**a_key(), **version})

    assert another.json()["reason"]["code"] == "MODIFY_UNDER_WAY"
    assert cancelled.json()["reason"]["code"] == "CANCEL_REQUESTED"


@pytest.mark.parametrize("terms", [{}, {"quantity": 0}, {"quantity": "5"}, {"quantity": 1.5}, {"price": "1e3"},
                                   {"side": "SELL"}, {"orderType": "BEST"}, [], "x"])  # fmt: skip
def test_a_modify_of_the_wrong_form_names_its_fault(mia, record, terms):
    (order_id,) = placed(mia, record)
    before = stored(record)

    answer = mia.put(f"/v3/orders/{order_id}", json=terms, headers={**a_key(), "If-Match": "1"})

    assert (answer.status_code, answer.json()["code"]) == (422, "MALFORMED")
    assert answer.json()["errors"]
    assert stored(record) == before


# Whatever comes in

IDS = st.one_of(st.builds(new_id), st.text(max_size=40), st.integers(), st.none(), st.just("0" * 36))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["orderIds", "filter", "mode", "policy", "quantity", "price", "orderType", "all", "tag", "x"])
BODIES = st.one_of(
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(FIELDS, JSON | st.lists(IDS, max_size=4), max_size=4).map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.sampled_from([b"[" * 30_000, b'{"orderIds":' * 5_000, b'{"filter":{"all":true},"filter":{"tag":"x"}}', b"\xff"]),
)
REFUSALS = {"MALFORMED_JSON", "MALFORMED", "DUPLICATE_FIELD", "NOT_FOUND"}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=BODIES)
def test_whatever_is_sent_is_done_or_refused_clearly_and_never_half(door, database_url, body: bytes):
    with psycopg.connect(database_url, autocommit=True) as record, door.client(fuzzer(door)) as client:
        before = marked(record)
        headers = {"Content-Type": "application/json", "If-Match": "1"}
        answers = [
            client.post(CANCEL, content=body, headers={**headers, **a_key()}),
            client.post(f"{CANCEL}/preview", content=body, headers=headers),
            client.put(f"/v3/orders/{new_id()}", content=body, headers={**headers, **a_key()}),
        ]
        for answer in answers:
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert answer.json()["code"] in REFUSALS, answer.text
        assert marked(record) == before  # the fuzzer has no orders, and nobody else's are meant


def marked(record: psycopg.Connection) -> Sequence[Any]:
    return record.execute("select count(*) filter (where cancel_requested), sum(changing) from orders").fetchall()


_FUZZERS: dict[str, str] = {}


def fuzzer(door: Server) -> str:
    if door.url not in _FUZZERS:
        _FUZZERS[door.url] = make_key(door.database_url, "fuzzer", Role.TRADER)
    return _FUZZERS[door.url]
