"""Dead letters over HTTP: who may, what is answered, and that one request is one act."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from door_server import PLACE, Server, a_key, a_line, a_request, let_everything_in, make_key, serving
from shared_services import SharedServices

from domain.ids import new_id
from store.unit import Store
from store.users import Role

WHY = {"reason": "the rule is mended"}


@pytest.fixture(scope="module")
def door(tmp_path_factory, database_url: str, queue_url: str, services: SharedServices) -> Iterator[Server]:
    let_everything_in(database_url)
    folder = tmp_path_factory.mktemp("door")
    with serving(folder, database_url=database_url, queue_url=queue_url, redis_url=services.redis_url) as server:
        yield server


@pytest.fixture(scope="module")
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url, name="test", size=1)
    yield store
    store.close()


@pytest.fixture(scope="module")
def trader(door: Server) -> Iterator[httpx2.Client]:
    with door.client(make_key(door.database_url, "trader", Role.TRADER)) as client:
        yield client


@pytest.fixture(scope="module")
def operator(door: Server) -> Iterator[httpx2.Client]:
    with door.client(make_key(door.database_url, "asha", Role.OPERATOR)) as client:
        yield client


@pytest.fixture
def stuck(trader: httpx2.Client, store: Store) -> list[str]:
    """Three orders that are stuck at margin."""
    lines = [a_line(correlationId=f"leg-{number}") for number in range(3)]
    accepted = trader.post(PLACE, json=a_request(*lines), headers=a_key()).json()
    ids = [line["orderId"] for line in accepted["orders"]]
    with store.unit() as unit:
        unit.run("update commands set state = 'DONE', live = false, done_at = now() where order_id <> all(%s::uuid[])", (ids,))
        unit.run(
            "update commands set state = 'STUCK', live = false, stage = 'margin', error = 'KeyError: no margin rule'"
            " where order_id = any(%s::uuid[])",
            (ids,),
        )
    return ids


def become_unknown(store: Store, order_id: str) -> None:
    with store.unit() as unit:
        unit.run("update commands set state = 'UNKNOWN', stage = 'persist', fence = 1 where order_id = %s", (order_id,))


def act(client: httpx2.Client, order_id: str, what: str, body: Any = WHY, **headers: str) -> httpx2.Response:
    return client.post(f"/v2/dlq/{order_id}/{what}", json=body, headers=headers or a_key())


def rows(store: Store, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with store.unit() as unit:
        return unit.rows(sql, parameters)


def test_only_operators_and_admins_may(door: Server, trader: httpx2.Client, stuck: list[str]) -> None:
    with door.client(make_key(door.database_url, "auditor", Role.AUDITOR)) as auditor:
        for client in (trader, auditor):
            assert client.get("/v2/dlq").status_code == 403
            assert act(client, stuck[0], "requeue").status_code == 403


def test_what_is_stuck_is_listed_page_by_page_and_narrowed(operator: httpx2.Client, stuck: list[str]) -> None:
    first = operator.get("/v2/dlq", params={"limit": 2}).json()
    second = operator.get("/v2/dlq", params={"limit": 2, "after": first["next"]}).json()

    assert [item["orderId"] for item in first["items"] + second["items"]] == sorted(stuck)
    assert second["next"] is None
    assert len(operator.get("/v2/dlq", params={"error": "NO MARGIN", "stage": "margin"}).json()["items"]) == 3
    assert operator.get("/v2/dlq", params={"broker": "UPSTOX"}).json()["items"] == []
    assert operator.get("/v2/dlq", params={"work": "UNKNOWN"}).json()["items"] == []
    assert operator.get("/v2/dlq", params={"parked": "yes"}).status_code == 400


def test_an_explanation_tells_why_and_what_may_be_done(operator: httpx2.Client, stuck: list[str]) -> None:
    told = operator.get(f"/v2/dlq/{stuck[0]}").json()

    assert "KeyError: no margin rule" in told["why"]
    assert [one["act"] for one in told["acts"] if one["allowed"]] == ["requeue", "discard", "park"]
    assert operator.get(f"/v2/dlq/{new_id()}").status_code == 404


def test_the_same_key_is_one_act_with_one_answer(operator: httpx2.Client, store: Store, stuck: list[str]) -> None:
    key = a_key()

    first, second = (act(operator, stuck[0], "requeue", **key) for _ in range(2))

    assert (first.status_code, first.json()["goesTo"]) == (200, "margin")
    assert second.json() == first.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    audited = rows(store, "select actor, action, detail ->> 'via' from audit_log where subject = %s", stuck[0])
    assert [(actor, action) for actor, action, _ in audited] == [("asha operator", "dlq.requeue")]
    assert audited[0][2].startswith("key ")
    assert act(operator, stuck[1], "requeue", **key).json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert act(operator, stuck[1], "requeue", {"reason": "other"}, **key).status_code == 422


@pytest.mark.parametrize("what", ["requeue", "discard", "park", "unpark", "settle"])
def test_a_write_needs_a_key_and_a_reason(operator: httpx2.Client, stuck: list[str], what: str) -> None:
    path = f"/v2/dlq/{stuck[0]}/{what}"

    assert operator.post(path, json=WHY).json()["code"] == "IDEMPOTENCY_KEY_MISSING"
    assert act(operator, stuck[0], what, {"reason": " "}).json()["code"] == "MALFORMED"
    assert act(operator, stuck[0], what, {}).status_code == 422


def test_what_may_have_been_sent_is_refused_and_uses_up_no_key(
    operator: httpx2.Client, store: Store, stuck: list[str]
) -> None:
    become_unknown(store, stuck[0])
    key = a_key()

    for what in ("requeue", "discard"):
        refused = act(operator, stuck[0], what, **key)
        assert (refused.status_code, refused.json()["code"]) == (409, "MAY_HAVE_BEEN_SENT")
    assert act(operator, new_id(), "discard").json()["code"] == "NOT_FOUND"
    assert act(operator, stuck[1], "discard", **key).json()["state"] == "REJECTED"
    assert act(operator, stuck[1], "discard").json()["code"] == "NOT_STUCK"


def test_an_unknown_order_is_settled_with_evidence(operator: httpx2.Client, store: Store, stuck: list[str]) -> None:
    become_unknown(store, stuck[0])
    seen = {**WHY, "evidence": "order book, 10:31", "said": "TAKEN", "brokerOrderId": "2611250001", "state": "FILLED"}

    faulty = act(operator, stuck[0], "settle", seen)
    known = act(operator, stuck[1], "settle", {**seen, "state": "OPEN"})
    with store.unit() as unit:
        unit.run("update orders set broker = 'upstox' where id = %s", (stuck[0],))
    settled = act(operator, stuck[0], "settle", {**seen, "filledQuantity": 10, "averagePrice": "1512.5"})

    assert {fault["pointer"] for fault in faulty.json()["errors"]} == {"/filledQuantity"}
    assert known.json()["code"] == "NOT_UNKNOWN"
    assert (settled.status_code, settled.json()["state"]) == (200, "FILLED")
    assert operator.get(f"/v2/orders/{stuck[0]}").json()["averagePrice"] == "1512.50"
    assert operator.get("/v2/dlq", params={"work": "UNKNOWN"}).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"said": "TAKEN"}, {"/brokerOrderId", "/state"}),
        ({"said": "NOT_TAKEN", "state": "OPEN"}, {"/state"}),
        ({"said": "PERHAPS"}, {"/said"}),
    ],
)
def test_a_settlement_says_one_thing(
    operator: httpx2.Client, stuck: list[str], body: dict[str, Any], pointers: set[str]
) -> None:
    refused = act(operator, stuck[0], "settle", {**WHY, "evidence": "seen", **body})

    assert refused.status_code == 422
    assert {fault["pointer"] for fault in refused.json()["errors"]} == pointers


def test_what_is_parked_is_listed_apart(operator: httpx2.Client, stuck: list[str]) -> None:
    parked = act(operator, stuck[0], "park", {**WHY, "forMinutes": 5}).json()

    assert parked["parkedUntil"] is not None
    listed = operator.get("/v2/dlq", params={"parked": "true"}).json()["items"]
    assert [(item["orderId"], item["parked"]["operator"]) for item in listed] == [(stuck[0], "asha operator")]
    act(operator, stuck[0], "unpark")
    assert len(operator.get("/v2/dlq").json()["items"]) == 3


def test_a_drain_goes_on_with_its_cursor(operator: httpx2.Client, store: Store, stuck: list[str]) -> None:
    body = {**WHY, "act": "discard", "stage": "margin", "limit": 2}
    key = a_key()

    foretold = operator.post("/v2/dlq/drain", json={**body, "dryRun": True}, headers=a_key()).json()
    first = operator.post("/v2/dlq/drain", json=body, headers=key).json()
    again = operator.post("/v2/dlq/drain", json=body, headers=key)
    rest = operator.post("/v2/dlq/drain", json={**body, "after": first["next"]}, headers=a_key()).json()

    assert foretold == first == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first["done"] + rest["done"] == sorted(stuck)
    assert rest["next"] is None
    assert operator.get("/v2/dlq").json()["items"] == []
