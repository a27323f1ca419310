"""Clock, prices, sessions and days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_world import FUTURE, INSTRUMENTS, NOON, OPTION, PRICE, SHARE, USER, an_ask, an_exchange, place, statuses, wait

from brokers.simulator.book import Status
from brokers.simulator.clock import Clock
from brokers.simulator.exchange import next_reset
from brokers.simulator.prices import Prices, is_on_tick
from domain.orders import Product, Side


def test_a_clock_stands_still_jumps_and_runs_on_but_never_back():
    source = [1000.0]
    clock = Clock(source=lambda: source[0])
    clock.freeze()
    source[0] += 50
    assert clock.now() == datetime.fromtimestamp(1000, UTC)

    clock.jump(clock.now() + timedelta(seconds=10))
    clock.run()
    source[0] += 5
    assert clock.now() == datetime.fromtimestamp(1015, UTC)
    assert clock.seconds_until(clock.now() + timedelta(seconds=3)) == 3
    with pytest.raises(ValueError, match="can't go back"):
        clock.jump(clock.now() - timedelta(seconds=1))


def test_a_frozen_clock_never_reaches_what_is_ahead():
    clock = Clock(source=lambda: 1000.0)
    clock.freeze()

    assert clock.seconds_until(clock.now() + timedelta(seconds=1)) is None
    assert clock.seconds_until(clock.now()) == 0


@given(
    at=st.integers(0, 400 * 86_400_000).map(lambda ms: NOON + timedelta(milliseconds=ms)),
    instrument=st.sampled_from(INSTRUMENTS),
    seed=st.sampled_from(["1", "2"]),
)
def test_prices_stay_on_the_tick_and_inside_the_band_and_are_the_same_for_every_run(at, instrument, seed):
    prices = Prices(seed, tick_ms=1000)
    low, high = prices.band(instrument)
    price = prices.last(instrument, at)

    assert low <= price <= high
    assert is_on_tick(price, instrument.tick)
    assert is_on_tick(low, instrument.tick)
    assert is_on_tick(high, instrument.tick)
    assert Prices(seed, tick_ms=1000).last(instrument, at) == price


def test_prices_move_and_another_seed_moves_them_otherwise():
    def walk(seed: str) -> list[Decimal]:
        prices = Prices(seed, tick_ms=1000)
        return [prices.last(SHARE, NOON + timedelta(seconds=second)) for second in range(60)]

    assert len(set(walk("1"))) > 10
    assert walk("1") != walk("2")
    assert max(abs(a - b) for a, b in zip(walk("1"), walk("1")[1:], strict=False)) < 5


@pytest.mark.parametrize(("now", "then"), [
    ("2026-11-23T03:29:59+05:30", "2026-11-23T03:30:00+05:30"),
    ("2026-11-23T03:30:00+05:30", "2026-11-24T03:30:00+05:30"),
    ("2026-11-23T23:00:00+05:30", "2026-11-24T03:30:00+05:30"),
])  # fmt: skip
def test_the_day_ends_at_the_same_time_in_india(now, then):
    assert next_reset(datetime.fromisoformat(now), "03:30") == datetime.fromisoformat(then)


def test_a_new_day_cancels_what_rests_and_shows_an_empty_book():
    exchange = an_exchange()
    order = place(exchange, an_ask(price="990.00", tag="old"))
    wait(exchange)

    wait(exchange, 24 * 3600)

    assert order.status is Status.CANCELLED
    assert order.message == "cancelled by the exchange at the day's end"
    assert (exchange.book(USER), exchange.tagged(USER, "old"), exchange.find(USER, order.order_id)) == ([], [], None)
    assert exchange.books.all == {order.order_id: order}


def test_a_new_day_delivers_closes_and_carries_positions():
    exchange = an_exchange()
    account = exchange.accounts[USER]
    cash = account.cash
    place(exchange, an_ask(10, product=Product.CNC))
    place(exchange, an_ask(5, product=Product.MIS))
    place(exchange, an_ask(65, product=Product.NRML, instrument=FUTURE))
    wait(exchange)
    exchange.pin(SHARE, PRICE + 10)
    exchange.pin(FUTURE, PRICE - 1)

    exchange.reset_day()

    assert account.holdings == {SHARE.key: 10}
    assert [(p.net, p.carried_price) for p in account.positions.values()] == [(65, PRICE - 1)]
    rupees = (account.cash - cash).rupees
    assert rupees == -10 * PRICE + 5 * 10 - 65 * 1
    assert account.blocked_total.paise == 0


def test_a_day_can_be_kept_from_ending():
    exchange = an_exchange()
    exchange.use(exchange.settings.changed({"day_reset_ist": None}))
    order = place(exchange, an_ask(price="990.00"))
    wait(exchange, 3 * 24 * 3600)

    assert order.status is Status.OPEN


def test_a_close_cancels_what_rests_and_the_next_session_takes_what_came_meanwhile():
    exchange = an_exchange()
    resting = place(exchange, an_ask(price="990.00"))
    wait(exchange)
    exchange.close()
    assert resting.status is Status.CANCELLED

    waiting, dropped = place(exchange), place(exchange)
    exchange.cancel(dropped)
    wait(exchange, 60)
    assert (waiting.status, dropped.status) == (Status.AMO_RECEIVED, Status.AMO_CANCELLED)

    exchange.reset_day()
    exchange.open()
    wait(exchange)

    assert statuses(waiting)[:2] == ["after market order req received", "put order req received"]
    assert waiting.status is Status.COMPLETE
    assert exchange.book(USER) == [waiting]


def test_an_option_has_a_wide_band():
    low, high = Prices("1", tick_ms=1000).band(OPTION)

    assert (low, high) == (Decimal("20.00"), Decimal("60.00"))


def test_selling_short_and_buying_back_leaves_no_position():
    exchange = an_exchange()
    for side in (Side.SELL, Side.BUY):
        place(exchange, an_ask(10, side=side))
        wait(exchange)

    (position,) = exchange.accounts[USER].positions.values()
    assert (position.net, position.bought, position.sold) == (0, 10, 10)
