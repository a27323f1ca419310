"""The door of a live stack, as any HTTP client sees it."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from live import FILLS, RESTS, System, a_key

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("live")]
CROWD = 64


def test_an_acceptance_names_its_orders_and_where_to_follow_them(system: System) -> None:
    answer = system.place(FILLS, RESTS)

    assert answer.status_code == 202
    told = answer.json()
    assert answer.headers["Location"] == told["links"]["intent"] == f"/v2/intents/{told['intentId']}"
    assert "Idempotency-Replayed" not in answer.headers
    assert told["status"] == "RUNNING"
    assert [(order["line"], order["correlationId"], order["state"]) for order in told["orders"]] == [
        (0, "leg-0", "RECEIVED"),
        (1, "leg-1", "RECEIVED"),
    ]
    orders = system.settled(told["intentId"])
    assert [order["orderId"] for order in orders] == [order["orderId"] for order in told["orders"]]
    assert [order["state"] in ("OPEN", "FILLED") for order in orders] == [True, True]
    system.assert_sound()


def test_who_prefers_to_wait_is_answered_when_all_lines_have_settled(system: System) -> None:
    answer = system.place(FILLS, prefer="wait=60")

    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert (answer.json()["status"], answer.json()["settled"]) == ("DONE", 1)


def test_who_waits_in_vain_for_one_line_is_told_of_the_others(system: System) -> None:
    with system.fault(kind="latency_before", facade="zerodha", endpoint="place", seconds=3, count=1):
        answer = system.place(FILLS, FILLS | {"broker": "ZERODHA"}, prefer="wait=2")

        assert answer.status_code in (202, 207)  # a machine under load may have settled neither
        assert answer.json()["settled"] == (1 if answer.status_code == 207 else 0)
        assert len(system.filled(answer.json()["intentId"])) == 2
    system.assert_sound()


def test_a_key_gives_its_intent_again_and_places_nothing(system: System) -> None:
    key = a_key()
    first = system.place(FILLS, key=key)
    again = system.place(FILLS, key=key)

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    (order,) = system.settled(first.json()["intentId"])
    assert len(system.book(order["brokerTag"])) == 1

    waited = system.place(FILLS, key=key, prefer="wait=5")

    assert (waited.status_code, waited.headers["Idempotency-Replayed"]) == (200, "true")
    assert waited.json()["orders"][0]["orderId"] == order["orderId"]


def test_a_key_is_for_one_request(system: System) -> None:
    key = a_key()
    system.accepted(FILLS, key=key)
    other = system.place(FILLS | {"quantity": 2}, key=key)

    assert other.status_code == 422
    assert other.headers["Content-Type"].startswith("application/problem+json")
    assert other.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert system.place(FILLS | {"price": "1200.0"}, key=key).status_code == 202  # the same price, written otherwise


@pytest.mark.parametrize(("key", "code"), [(None, "IDEMPOTENCY_KEY_MISSING"), ("short", "IDEMPOTENCY_KEY_INVALID")])
def test_without_a_good_key_nothing_is_taken(system: System, key: str | None, code: str) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = system.http.post("/v2/orders/multi", json={"orders": [FILLS]}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_a_refused_request_uses_up_no_key(system: System) -> None:
    key = a_key()
    refused = system.place(FILLS | {"quantity": 0}, key=key)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/orders/0/quantity"
    assert system.place(FILLS, key=key).status_code == 202


def test_of_64_first_uses_of_a_key_at_once_one_is_carried_out(system: System) -> None:
    key, ready = a_key(), threading.Barrier(CROWD)

    def place() -> tuple[int, str, bool]:
        ready.wait(30)
        answer = system.place(RESTS, key=key)
        return answer.status_code, answer.json().get("intentId"), "Idempotency-Replayed" in answer.headers

    with ThreadPoolExecutor(CROWD) as pool:
        answers = [asked.result() for asked in [pool.submit(place) for _ in range(CROWD)]]

    assert {(status, intent_id) for status, intent_id, _ in answers} == {(202, answers[0][1])}
    assert Counter(replayed for *_, replayed in answers) == {False: 1, True: CROWD - 1}
    assert len(system.rows("select 1 from intents where idempotency_key = %s", (key,))) == 1
    (order,) = system.settled(answers[0][1])
    assert len(system.book(order["brokerTag"])) == 1


def test_a_key_outlives_the_process_that_took_it(system: System) -> None:
    key = a_key()
    first = system.place(FILLS, key=key)

    system.stack.kill("web")
    system.stack.wait_ready("web")

    again = system.place(FILLS, key=key)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    (order,) = system.settled(first.json()["intentId"])
    assert len(system.book(order["brokerTag"])) == 1
