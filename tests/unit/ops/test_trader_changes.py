"""`trader order modify`, `cancel` and `cancel-multi`: what is asked, what is told, and the exit code that says so."""

from __future__ import annotations

import io
import json
from pathlib import Path

import fake_coordinator
import pytest
from fake_changes import FakeChanges
from fake_coordinator import problem, rests

MODIFY, CANCEL, CANCEL_MULTI = ("order", "modify"), ("order", "cancel"), ("order", "cancel-multi")


@pytest.fixture
def fake(monkeypatch):
    server = FakeChanges().start()
    monkeypatch.setenv("TRADER_URL", server.url)
    monkeypatch.setenv("TRADER_KEY", fake_coordinator.KEY)
    monkeypatch.setattr("ops.changewatch.LONG_POLL_S", 0)
    monkeypatch.setattr("ops.changewatch.MARKED_PAUSE_S", 0.001)
    monkeypatch.setattr("ops.changewatch.TOLD_EVERY_S", 0.0)
    yield server
    server.stop()


@pytest.fixture
def resting(fake, run_trader, orders_file):
    """Places so many orders, which rest; gives their ids."""

    def place(count: int = 3, **terms) -> list[str]:
        fake.fates = {f"leg-{number}": rests for number in range(1, count + 1)}
        ran = run_trader("order", "place-multi", orders_file(*[terms] * count), "--json")
        return [order["orderId"] for order in ran.document["orders"]]

    return place


# Modifying


def test_a_modify_reads_the_version_shows_it_and_sends_only_what_was_given(fake, resting, run_trader):
    (order_id,) = resting(1)

    ran = run_trader(*MODIFY, order_id[-8:], "--quantity", "12", "--price", "1515.50")

    path, headers, body = fake.writes[-1]
    assert (path, headers["If-Match"], body) == (f"/v3/orders/{order_id}", '"1"', {"quantity": 12, "price": "1515.50"})
    assert ran.code == 0
    assert "at version 1: BUY 10 NSE:INFY  CNC LIMIT 1,512.50, OPEN, 0 filled" in ran.err
    assert "at version 2: BUY 12 NSE:INFY  CNC LIMIT 1,515.50" in ran.err
    assert "modified" in ran.out


def test_a_stale_version_is_an_error_that_says_what_to_look_at(fake, resting, run_trader):
    (order_id,) = resting(1)
    fake.orders()[0]["version"] = 4

    ran = run_trader(*MODIFY, order_id, "--quantity", "12", "--version", "1", "--json")
    told = run_trader(*MODIFY, order_id, "--quantity", "12", "--version", "1")

    assert (ran.code, ran.document["code"], ran.document["current"]["version"]) == (1, "STALE_VERSION", 4)
    assert f"order {order_id} is at version 4, not 1" in told.err
    assert "trader order show" in told.err


def test_a_modify_of_nothing_asks_nobody(fake, resting, run_trader):
    (order_id,) = resting(1)

    ran = run_trader(*MODIFY, order_id, "--json")

    assert (ran.code, ran.document["code"], fake.writes) == (2, "USAGE", [])


@pytest.mark.parametrize(("result", "exit_code"), [("MODIFIED", 0), ("REFUSED", 4), ("NOT_APPLIED", 4), (None, 5)])
def test_the_exit_code_of_a_modify_tells_what_came_of_it(fake, resting, run_trader, result, exit_code):
    (order_id,) = resting(1)
    fake.results["leg-1"] = result

    assert run_trader(*MODIFY, order_id, "--quantity", "12", "--timeout", "0.1").code == exit_code


# Cancelling


def test_orders_are_cancelled_by_the_ends_of_their_ids(fake, resting, run_trader):
    first, _, third = resting(3)

    ran = run_trader(*CANCEL, first[-8:], third, first)

    path, _, body = fake.writes[-1]
    assert (path, body) == ("/v2/orders/multi/cancel", {"orderIds": [first, third]})
    assert ran.code == 0
    assert "2 cancelled" in ran.out
    assert [order["state"] for order in fake.orders()] == ["CANCELLED", "OPEN", "CANCELLED"]


@pytest.mark.parametrize(
    ("results", "exit_code", "words"),
    [
        ({}, 0, "3 cancelled"),
        ({"leg-2": "FILLED", "leg-3": "REFUSED"}, 3, "1 cancelled, 1 filled meanwhile, 1 refused"),
        ({"leg-1": "FILLED", "leg-2": "FILLED", "leg-3": "ENDED"}, 4, "2 filled meanwhile, 1 ended meanwhile"),
        ({"leg-2": None}, 5, "2 cancelled, 1 not yet known"),
    ],
)
def test_the_exit_code_of_a_cancel_tells_all_some_none_or_not_known(
    fake, resting, run_trader, results, exit_code, words
):
    resting(3)
    fake.results = results

    ran = run_trader(*CANCEL_MULTI, "--instrument", "nse:infy", "--timeout", "0.3")

    assert (ran.code, words in ran.out) == (exit_code, True), ran.out
    assert fake.writes[-1][2] == {"mode": "HARD", "filter": {"instrument": "NSE:INFY"}}


def test_a_refusal_is_told_with_its_line_and_its_reason(fake, resting, run_trader):
    resting(2)
    fake.results["leg-2"] = "REFUSED"

    ran = run_trader(*CANCEL_MULTI, "--all")

    assert "line 2 (leg-2) refused  BROKER_REFUSED: upstox: not now (UDAPI1)" in ran.out
    assert fake.writes[-1][2]["filter"] == {"all": True}


def test_every_word_of_the_filter_reaches_the_request(fake, resting, run_trader):
    resting(1)
    words = ["--broker", "upstox", "--account", "UP1", "--segment", "cash", "--tag", "a b", "--strategy", "s1"]

    run_trader(*CANCEL_MULTI, *words, "--intent", "0" * 36, "--mode", "soft", "--fail-fast", "--timeout", "0.1")

    assert fake.writes[-1][2] == {
        "mode": "SOFT",
        "policy": "FAIL_FAST",
        "filter": {
            "broker": "UPSTOX",
            "account": "UP1",
            "segment": "CASH",
            "tag": "a b",
            "strategy": "s1",
            "intentId": "0" * 36,
        },
    }


def test_nothing_is_meant_by_nothing(fake, run_trader, resting):
    resting(1)

    for words in ([], ["--mode", "soft"], ["--ids-from", "ids.txt", "--tag", "x"]):
        assert run_trader(*CANCEL_MULTI, *words).code == 2
    assert run_trader(*CANCEL).code == 2
    assert fake.writes == []


def test_ids_come_from_a_file_each_once_and_a_fault_is_told_by_its_row(fake, resting, run_trader):
    first, second = resting(2)
    Path("ids.txt").write_text(f"# the worst\n{first}\n\n{second}  # this one, too\n{first}\n")
    fault = {"pointer": "/orderIds/1", "code": "BAD_FORM", "detail": "these characters are not allowed here"}
    fake.faults = [(422, {}, {**problem(422, "MALFORMED", "x"), "errors": [fault]})]

    refused = run_trader(*CANCEL_MULTI, "--ids-from", "ids.txt")
    ran = run_trader(*CANCEL_MULTI, "--ids-from", "ids.txt")

    assert (refused.code, "ids.txt:4: these characters" in refused.err) == (1, True)
    assert (ran.code, fake.writes[-1][2]["orderIds"]) == (0, [first, second])


def test_ids_come_from_standard_input(fake, resting, run_trader, monkeypatch):
    (order_id,) = resting(1)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{order_id}\n"))

    assert run_trader(*CANCEL_MULTI, "--ids-from", "-").code == 0


def test_a_file_without_ids_is_a_mistake(fake, run_trader):
    Path("ids.txt").write_text("# nothing\n")

    assert run_trader(*CANCEL_MULTI, "--ids-from", "ids.txt").code == 2
    assert run_trader(*CANCEL_MULTI, "--ids-from", "nowhere.txt").code == 2


def test_a_dry_run_shows_what_would_be_cancelled_and_asks_for_nothing(fake, resting, run_trader):
    resting(3)

    ran = run_trader(*CANCEL_MULTI, "--all", "--dry-run")
    document = run_trader(*CANCEL_MULTI, "--all", "--dry-run", "--json").document

    assert "3 orders would be cancelled; nothing was done" in ran.out
    assert (document["matched"], len(document["orders"])) == (3, 3)
    assert {path for path, *_ in fake.writes} == {"/v2/orders/multi/cancel/preview"}


def test_a_person_is_asked_where_more_than_one_order_is_meant(fake, resting, run_trader, terminal):
    resting(3)

    terminal("n\n")
    refused = run_trader(*CANCEL_MULTI, "--all")
    assert (refused.code, "cancel 3 orders? [y/N]" in refused.err) == (1, True)
    terminal("")
    assert run_trader(*CANCEL_MULTI, "--all").code == 1
    assert {path for path, *_ in fake.writes} == {"/v2/orders/multi/cancel/preview"}
    terminal("y\n")
    assert run_trader(*CANCEL_MULTI, "--all").code == 0


def test_a_person_is_not_asked_for_one_order_or_with_yes(fake, resting, run_trader, terminal):
    first, *_ = resting(3)
    terminal("")

    assert run_trader(*CANCEL, first).code == 0
    assert run_trader(*CANCEL_MULTI, "--all", "--yes").code == 0


def test_json_is_one_document_with_every_line(fake, resting, run_trader, monkeypatch):
    resting(5)
    monkeypatch.setattr("ops.changewatch.PAGE", 2)

    ran = run_trader(*CANCEL_MULTI, "--all", "--json")

    assert (ran.document["status"], ran.document["counts"]) == ("DONE", {"CANCELLED": 5})
    assert [line["line"] for line in ran.document["changes"]] == [0, 1, 2, 3, 4]
    assert ran.document["idempotencyKey"] == fake.writes[-1][1]["Idempotency-Key"]


def test_the_first_lines_are_shown_and_the_others_counted(fake, resting, run_trader, monkeypatch):
    resting(5)
    monkeypatch.setattr("ops.changeshow.SHOWN", 2)
    monkeypatch.setattr("ops.changewatch.SHOWN", 2)

    ran = run_trader(*CANCEL_MULTI, "--all")

    assert "… and 3 more lines" in ran.out
    assert "leg-3" not in ran.out


def test_a_lost_answer_is_tried_again_with_the_same_key_and_cancels_once(fake, resting, run_trader):
    resting(2)
    fake.faults = ["drop"]

    ran = run_trader(*CANCEL_MULTI, "--all")

    assert (ran.code, len(fake.changed)) == (0, 1)
    assert len({headers["Idempotency-Key"] for _, headers, _ in fake.writes}) == 1


def test_a_cancel_whose_answers_are_all_lost_names_the_way_to_find_out(fake, resting, run_trader):
    resting(1)
    fake.faults = ["drop"] * 6

    ran = run_trader(*CANCEL_MULTI, "--tag", "a b", "--idempotency-key", "my-key-0123456789")

    assert ran.code == 5
    again = "trader order cancel-multi --tag 'a b' --idempotency-key my-key-0123456789"
    assert again in ran.err


def test_no_wait_hands_in_and_says_how_to_follow(fake, resting, run_trader):
    resting(2)

    ran = run_trader(*CANCEL_MULTI, "--all", "--no-wait", "--json")

    assert (ran.code, ran.document["matched"]) == (0, 2)
    assert f"trader intent watch {ran.document['intentId']}" in ran.err


def test_an_intent_that_cancels_is_shown_and_watched_like_any_other(fake, resting, run_trader):
    resting(3)
    fake.results["leg-2"] = "FILLED"
    intent_id = run_trader(*CANCEL_MULTI, "--all", "--no-wait", "--json").document["intentId"]

    rows = run_trader("intent", "watch", intent_id, "--json")
    shown = run_trader("intent", "show", intent_id)

    documents = [json.loads(row) for row in rows.out.splitlines()]
    assert (rows.code, documents[-1]["status"]) == (3, "PARTIAL")
    assert len(documents) >= 2
    assert "2 cancelled, 1 filled meanwhile" in shown.out
    assert run_trader("intent", "watch", intent_id).code == 3


def test_the_waiting_tells_the_figures_as_they_change(fake, resting, run_trader):
    resting(2)

    ran = run_trader(*CANCEL_MULTI, "--all")

    assert "1 of 2 settled: 1 cancelled, 1 not yet known" in ran.err
    assert "2 of 2 settled: 2 cancelled" in ran.err
