from __future__ import annotations

import pytest
from rich.console import Console

from domain.events import EventType
from ops.grid import grid
from ops.progress import LiveProgress, steps
from ops.show import LINE, ORDER_COLUMNS, price, reason
from ops.story import SENTENCES, duration, facts


def an_order(**more):
    return {"line": 0, "correlationId": "leg-1", "instrument": "NSE:INFY", "side": "BUY", "quantity": 10, **more}


def work(stage, state="READY"):
    return {"stage": stage, "state": state}


@pytest.mark.parametrize(
    ("order", "signs"),
    [
        (an_order(state="RECEIVED"), "○○○○○○○"),
        (an_order(state="RECEIVED", work=work("validate")), "◐○○○○○○"),
        (an_order(state="SENDING", work=work("dispatch.upstox", "SENDING")), "●●●●◐○○"),
        (an_order(state="UNKNOWN", work=work("persist", "UNKNOWN")), "●●●●●?○"),
        (an_order(state="HELD", work=work("groups", "HELD")), "●●●●‖○○"),
        (an_order(state="RECEIVED", work=work("margin", "STUCK")), "●●✗○○○○"),
        (an_order(state="FILLED", work=work("notify", "DONE")), "●●●●●●●"),
        (an_order(state="OPEN"), "●●●●●●●"),
        (an_order(state="REJECTED", work=work("notify", "DONE"), reason={"code": "TICK_SIZE"}), "✗○○○○○○"),
        (an_order(state="REJECTED", work=work("notify", "DONE"), reason={"code": "RISK_LIMIT"}), "●✗○○○○○"),
        (an_order(state="REJECTED", work=work("notify", "DONE"), reason={"code": "DISCARDED"}), "○○○○○○○"),
        (an_order(state="REJECTED", work=work("notify", "DONE"), reason={"code": "BROKER_REFUSED"}), "●●●●✗○○"),
    ],
)
def test_the_steps_show_where_an_order_stands(order, signs):
    assert steps(order).plain == signs


def test_a_held_line_says_what_it_waits_for():
    held = an_order(state="HELD", work={**work("groups", "HELD"), "error": "waits for line 1 (leg-1) to be filled"})

    assert reason(held) == "waits for line 1 (leg-1) to be filled"


def test_the_steps_are_spaced_out_where_there_is_room():
    assert steps(an_order(state="RECEIVED", work=work("risk")), spaced=True).plain == "● ◐ ○ ○ ○ ○ ○"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("1512.5", "1,512.50"),
        ("84.2525", "84.2525"),
        ("1512.5000", "1,512.50"),
        ("1234567.05", "12,34,567.05"),
        ("-0.5", "-0.50"),
        (None, ""),
    ],
)
def test_a_price_keeps_its_decimals_and_is_grouped_as_in_india(given, shown):
    assert price(given) == shown


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_table_is_never_wider_than_its_terminal(width):
    full = an_order(
        orderId="0" * 36,
        instrument="NFO:BANKNIFTY26NOV52000CE",
        state="PARTIALLY_FILLED",
        product="NRML",
        orderType="SL",
        price="1234.50",
        triggerPrice="1230.00",
        broker="ZERODHA",
        account="zerodha-paper",
        filledQuantity=1000,
        averagePrice="1234.5025",
        reason={"code": "BROKER_REFUSED"},
        updatedAt="2026-11-23T04:45:02.120000Z",
    )
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(grid([full], (LINE, *ORDER_COLUMNS), width=width))
    console.file.close()

    lines = console.export_text().splitlines()

    assert all(len(line) <= width for line in lines)
    assert "BANKNIFTY26NOV52000CE" in lines[1]
    assert "PARTIALLY_FILLED" in lines[1]


def test_a_long_name_is_cut_before_a_column_goes(capsys):
    order = an_order(
        correlationId="reliance-delivery", instrument="NFO:NIFTY26NOVFUT", state="FILLED", broker="ZERODHA"
    )
    console = Console(width=60)
    console.print(grid([order], (LINE, *ORDER_COLUMNS), width=60))

    title, row = capsys.readouterr().out.splitlines()

    assert "broker" in title
    assert "relianc" in row
    assert "…" in row


def test_the_live_view_shows_the_unsettled_lines_when_the_screen_is_too_small(tmp_path):
    orders = [
        an_order(line=n, correlationId=f"leg-{n + 1}", state="FILLED" if n < 30 else "SENDING") for n in range(35)
    ]
    live = LiveProgress("intent 1")
    live.show({"orders": orders, "settled": 30, "total": 35})
    with (tmp_path / "screen").open("w") as screen:
        console = Console(width=100, height=16, record=True, file=screen, force_terminal=True)
        console.print(live)

    text = console.export_text()

    assert len(text.splitlines()) <= 16
    assert "leg-31" in text
    assert "and 25 more lines" in text


@pytest.mark.parametrize(("seconds", "shown"), [(0.0042, "+4.2 ms"), (1.5, "+1.50 s"), (125, "+2 min 05 s")])
def test_durations_are_told_in_a_unit_that_fits(seconds, shown):
    assert duration(seconds) == shown


def test_facts_are_told_with_their_units():
    told = facts({"blocked_paise": 150000, "isBuy": True, "lot_size": 65, "nested": {"a": 1}, "nothing": None})

    assert told == "blocked ₹1,500.00 · is buy yes · lot size 65 · nested (a 1)"


def test_every_event_has_a_sentence():
    assert {event.value for event in EventType} <= set(SENTENCES)
