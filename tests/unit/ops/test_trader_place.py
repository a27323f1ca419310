from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from fake_coordinator import becomes_unknown, fills_in_parts, gets_stuck, is_rejected, problem, rests

PLACE = ("order", "place-multi")


def test_all_lines_settled_without_a_rejection_exit_with_0(fake, run_trader, orders_file):
    fake.fates["leg-2"] = rests

    ran = run_trader(*PLACE, orders_file({}, {}))

    assert ran.code == 0
    assert "FILLED" in ran.out
    assert "OPEN" in ran.out
    assert "DONE" in ran.out


def test_json_is_one_document_on_standard_output_and_everything_else_on_standard_error(fake, run_trader, orders_file):
    ran = run_trader(*PLACE, orders_file({}, {}), "--json")

    document = ran.document
    assert document["intentId"] in fake.intents
    assert document["status"] == "DONE"
    assert [order["state"] for order in document["orders"]] == ["FILLED", "FILLED"]
    assert document["idempotencyKey"] == fake.posts[0]["key"]
    assert "line 1 (leg-1) BUY 10 NSE:INFY: SENDING" in ran.err


def test_a_line_that_cannot_be_understood_is_a_document_too(run_trader):
    ran = run_trader(*PLACE, "--json")

    assert ran.code == 2
    assert ran.document["code"] == "USAGE"
    assert "FILE" in ran.document["detail"]


@pytest.mark.parametrize(
    ("fates", "exit_code", "status", "timeout"),
    [
        ({"leg-1": is_rejected}, 3, "PARTIAL", "60"),
        ({"leg-1": is_rejected, "leg-2": is_rejected}, 4, "REJECTED", "60"),
        ({"leg-2": becomes_unknown}, 5, "RUNNING", "0.2"),
    ],
)
def test_the_exit_code_tells_how_the_lines_ended(fake, run_trader, orders_file, fates, exit_code, status, timeout):
    fake.fates.update(fates)

    ran = run_trader(*PLACE, orders_file({}, {}), "--json", "--timeout", timeout)

    assert ran.code == exit_code
    assert ran.document["status"] == status


def test_a_rejection_is_told_with_its_line_and_its_whole_reason(fake, run_trader, orders_file):
    fake.fates["leg-2"] = is_rejected

    ran = run_trader(*PLACE, orders_file({}, {}))

    assert "line 2 (leg-2) REJECTED  RISK_LIMIT: order value ₹15,12,500.00 is over ₹5,00,000.00" in ran.out


def test_waiting_ends_early_when_all_that_is_left_is_stuck(fake, run_trader, orders_file):
    fake.fates["leg-1"] = gets_stuck

    ran = run_trader(*PLACE, orders_file({}, {}), "--timeout", "600")

    assert ran.code == 5
    assert "stuck in margin: no margin rule for this product" in ran.out
    assert "what isn't settled is stuck" in ran.err


def test_an_order_that_is_just_being_filled_is_given_a_moment_more(fake, run_trader, orders_file):
    fake.fates["leg-1"] = fills_in_parts

    ran = run_trader(*PLACE, orders_file({}), "--json")

    assert ran.document["orders"][0]["state"] == "FILLED"


def test_an_order_that_stays_partly_filled_is_settled_all_the_same(fake, run_trader, orders_file, monkeypatch):
    monkeypatch.setattr("ops.watching.LINGER_S", 0.01)
    fake.fates["leg-1"] = lambda order: fills_in_parts(order)[:-1]

    ran = run_trader(*PLACE, orders_file({}), "--json")

    assert (ran.code, ran.document["orders"][0]["state"]) == (0, "PARTIALLY_FILLED")


def test_no_wait_hands_in_and_says_how_to_follow(fake, run_trader, orders_file):
    ran = run_trader(*PLACE, orders_file({}), "--no-wait", "--json")

    assert ran.code == 0
    assert ran.document["orders"][0]["state"] == "RECEIVED"
    assert f"trader intent watch {ran.document['intentId']}" in ran.err


def test_a_lost_answer_is_tried_again_with_the_same_key_and_makes_one_intent(fake, run_trader, orders_file):
    fake.faults = ["drop", "drop before"]

    ran = run_trader(*PLACE, orders_file({}), "--json")

    assert ran.code == 0
    assert len(fake.intents) == 1
    assert len({post["key"] for post in fake.posts}) == 1
    assert len(fake.posts) == 3
    assert "trying again with the same key" in ran.err


def test_a_request_whose_answers_are_all_lost_is_not_known_and_names_the_way_to_find_out(fake, run_trader, orders_file):
    fake.faults = ["drop"] * 6

    ran = run_trader(*PLACE, orders_file({}), "--idempotency-key", "my-key-0123456789", "--json")

    assert ran.code == 5
    assert ran.document["code"] == "OUTCOME_NOT_KNOWN"
    assert "trader order place-multi orders.json --idempotency-key my-key-0123456789" in ran.err


def test_a_server_error_may_have_stored_the_orders_and_is_tried_again(fake, run_trader, orders_file):
    fake.faults = [(500, {}, problem(500, "ERROR", "something broke")), (502, {}, b"<html>Bad Gateway</html>")]

    ran = run_trader(*PLACE, orders_file({}))

    assert ran.code == 0
    assert len({post["key"] for post in fake.posts}) == 1


def test_overload_is_waited_out_and_told_as_an_error_when_it_lasts(fake, run_trader, orders_file):
    busy = (503, {"Retry-After": "0"}, problem(503, "OVERLOADED", "work is waiting"))
    fake.faults = [busy] * 6

    ran = run_trader(*PLACE, orders_file({}), "--json")

    assert ran.code == 1
    assert ran.document["code"] == "OVERLOADED"
    assert "Nothing was stored" in ran.err
    assert not fake.intents


def test_nobody_there_is_unreachable_and_says_that_nothing_was_sent(run_trader, orders_file, monkeypatch):
    monkeypatch.setenv("TRADER_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TRADER_KEY", "key")

    ran = run_trader(*PLACE, orders_file({}), "--json")

    assert ran.code == 7
    assert ran.document["code"] == "UNREACHABLE"
    assert "nothing was sent" in ran.err


def test_a_connection_lost_while_waiting_stops_nothing(fake, run_trader, orders_file):
    file = orders_file({})
    fake.drop_gets = 2

    ran = run_trader(*PLACE, file)

    assert ran.code == 0
    assert "the orders go on, asking again" in ran.err


def test_the_made_key_is_told_with_the_way_to_repeat_and_a_repeat_places_nothing(fake, run_trader, orders_file):
    file = orders_file({})
    first = run_trader(*PLACE, file, "--json")
    key = first.document["idempotencyKey"]
    assert f"add --idempotency-key {key}" in first.err

    second = run_trader(*PLACE, file, "--idempotency-key", key, "--json")

    assert second.document["intentId"] == first.document["intentId"]
    assert second.document["replayed"] is True
    assert "nothing was placed again" in second.err
    assert len(fake.intents) == 1


def test_a_fault_is_told_at_its_row_line_and_field(fake, run_trader, orders_file):
    file = orders_file({}, {"quantity": 0})
    row = next(number for number, text in enumerate(Path(file).read_text().splitlines(), 1) if '"quantity": 0' in text)

    ran = run_trader(*PLACE, file, "--json")

    assert ran.code == 1
    assert f"orders.json:{row} line 2 (leg-2) quantity: must be positive [NOT_POSITIVE]" in ran.err
    assert ran.document["errors"][0]["pointer"] == "/orders/1/quantity"


def test_a_dash_reads_standard_input(fake, run_trader, orders_file, monkeypatch):
    text = Path(orders_file({})).read_text()
    monkeypatch.setattr("sys.stdin", io.StringIO(text))

    assert run_trader(*PLACE, "-").code == 0


def test_an_unknown_key_is_an_error_with_its_mend(fake, run_trader, orders_file, monkeypatch):
    monkeypatch.setenv("TRADER_KEY", "another")

    ran = run_trader(*PLACE, orders_file({}))

    assert ran.code == 1
    assert "NOT_AUTHENTICATED" in ran.err
    assert "Check the key" in ran.err
    assert ran.out == ""


def test_a_spent_key_leads_to_its_intent(fake, run_trader, orders_file):
    spent = {**problem(409, "IDEMPOTENCY_KEY_SPENT", "its window is over"), "intentId": "0198-abc"}
    fake.faults = [(409, {}, spent)]

    ran = run_trader(*PLACE, orders_file({}), "--idempotency-key", "my-key-0123456789")

    assert ran.code == 1
    assert "trader intent show 0198-abc" in ran.err


def test_ctrl_c_ends_the_waiting_and_not_the_orders(fake, run_trader, orders_file, monkeypatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("ops.placing.follow", interrupted)

    ran = run_trader(*PLACE, orders_file({}), "--json")

    assert ran.code == 5
    assert ran.document["status"] == "RUNNING"
    assert "the orders go on" in ran.err


def test_ctrl_c_while_handing_in_leaves_the_outcome_unknown_and_says_how_to_learn_it(
    fake, run_trader, orders_file, monkeypatch
):
    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("ops.client.Client.place", interrupted)

    ran = run_trader(*PLACE, orders_file({}), "--idempotency-key", "my-key-0123456789")

    assert ran.code == 5
    assert "trader order place-multi orders.json --idempotency-key my-key-0123456789" in ran.err


def test_completion_is_written_for_each_shell(run_trader):
    for shell in ("bash", "zsh", "fish"):
        assert run_trader("--install-completion", "--shell", shell, "--output", f"for-{shell}").code == 0
        assert "place-multi" in Path(f"for-{shell}").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [((), "FILE"), (("orders.json", "--no-such"), "--no-such"), (("orders.json", "--timeout", "soon"), "timeout")],
)
def test_a_command_line_that_makes_no_sense_exits_with_2(run_trader, words, told):
    ran = run_trader(*PLACE, *words)

    assert ran.code == 2
    assert told in ran.err.replace("\n", " ")
    assert ran.out == ""


def test_prices_written_as_numbers_arrive_exactly_as_written(fake, run_trader):
    line = '{"correlationId": "a", "instrument": "CDS:USDINR-FUT", "side": "BUY", "quantity": 1000, "price": 84.2525}'
    Path("orders.json").write_text('{"$schema": "x.json", "orders": [' + line + "]}")

    run_trader(*PLACE, "orders.json")

    request = fake.posts[0]["request"]
    assert request["orders"][0]["price"] == "84.2525"
    assert "$schema" not in request


def test_the_final_table_fits_80_columns(fake, run_trader, orders_file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    ran = run_trader(*PLACE, orders_file({}, {"instrument": "NFO:BANKNIFTY26NOV52000CE"}))

    assert max(len(line) for line in ran.out.splitlines()) <= 80


def test_colour_is_left_out_where_no_color_says_so(fake, run_trader, orders_file, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")

    ran = run_trader(*PLACE, orders_file({}))

    assert "\x1b[3" not in ran.out


def test_the_request_that_is_sent_is_the_file(fake, run_trader, orders_file):
    file = orders_file({}, {"marketProtection": "3"})

    run_trader(*PLACE, file)

    assert fake.posts[0]["request"] == json.loads(Path(file).read_text())


def test_a_policy_on_the_command_line_goes_before_the_one_in_the_file_and_into_the_way_to_repeat(
    fake, run_trader, tmp_path
):
    lines = [{"correlationId": f"leg-{n}", "instrument": "NSE:INFY", "side": "BUY", "quantity": 1, "product": "CNC",
              "orderType": "MARKET"} for n in (1, 2)]  # fmt: skip
    file = tmp_path / "orders.json"
    file.write_text(json.dumps({"orders": [lines[0], {**lines[1], "after": "leg-1"}], "policy": "FAIL_FAST"}))

    run_trader(*PLACE, str(file))
    assert fake.posts[-1]["request"]["policy"] == "FAIL_FAST"
    assert fake.posts[-1]["request"]["orders"][1]["after"] == "leg-1"
    fake.faults = ["drop"] * 6
    ran = run_trader(*PLACE, str(file), "--policy", "ALL_OR_NONE")

    assert fake.posts[-1]["request"]["policy"] == "ALL_OR_NONE"
    assert "--policy ALL_OR_NONE --idempotency-key" in ran.err


def test_an_unknown_policy_is_refused_before_anything_is_sent(fake, run_trader, orders_file):
    ran = run_trader(*PLACE, orders_file({}), "--policy", "MOST")

    assert ran.code == 2
    assert not fake.posts
