"""What holds for every order, whatever comes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sim_world import SHARE, USER, an_ask, an_exchange, place, wait

from brokers.simulator.exchange import AlreadyFinal, BeingProcessed
from domain.money import ZERO
from domain.orders import Side, Validity

PRICES = st.integers(min_value=17_000, max_value=23_000).map(lambda ticks: Decimal(ticks) * SHARE.tick)

STEPS = st.one_of(
    st.tuples(
        st.just("place"),
        st.integers(1, 6000),
        st.none() | PRICES,
        st.sampled_from(list(Side)),
        st.sampled_from(list(Validity)),
    ),
    st.tuples(st.just("modify"), st.integers(0, 20), st.integers(1, 6000), PRICES),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("price"), PRICES),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.003, 0.05, 2.0])),
    st.tuples(st.just("fill"), st.integers(0, 20), st.integers(1, 6000)),
)
DIALS = st.fixed_dictionaries(
    {
        "partial_percent": st.sampled_from([0, 50, 100]),
        "dry_percent": st.sampled_from([0, 50]),
        "liquidity_max": st.none() | st.integers(1, 300),
        "reject_percent": st.sampled_from([0, 20]),
        "market_as_limit": st.booleans(),
    }
)


def play(seed: str, dials: dict[str, Any], steps: list[tuple[Any, ...]]) -> Any:
    exchange = an_exchange(seed=seed, **dials)
    orders: list[Any] = []
    for step in steps:
        try:
            match step:
                case ("place", quantity, price, side, validity):
                    wanted = None if price is None else str(price)
                    orders.append(
                        place(exchange, an_ask(quantity, price=wanted, side=side, terms={"validity": validity}))
                    )
                case ("modify", at, quantity, price) if orders:
                    order = orders[at % len(orders)]
                    exchange.modify(order, replace(order.terms, quantity=quantity, price=price))
                case ("cancel", at) if orders:
                    exchange.cancel(orders[at % len(orders)])
                case ("price", price):
                    exchange.pin(SHARE, price)
                case ("wait", seconds):
                    wait(exchange, seconds)
                case ("fill", at, quantity) if orders:
                    exchange.force_fill(orders[at % len(orders)], quantity, exchange.last(SHARE))
        except (AlreadyFinal, BeingProcessed):
            pass
    wait(exchange, 30)
    return exchange


@settings(max_examples=60, deadline=None)
@given(dials=DIALS, steps=st.lists(STEPS, max_size=25))
def test_fills_add_up_and_never_exceed_the_quantity(dials, steps):
    exchange = play("1", dials, steps)

    for order in exchange.books.all.values():
        assert order.filled == sum(trade.quantity for trade in order.trades) <= order.terms.quantity
        assert all(trade.quantity > 0 for trade in order.trades)
        assert (order.status == "complete") == (order.filled == order.terms.quantity)
        finals = [row for row in order.rows if row.status in ("complete", "cancelled", "rejected")]
        assert len(finals) <= 1
        assert finals == ([order.rows[-1]] if order.is_final else [])
        fills = [row.filled for row in order.rows]
        assert fills == sorted(fills)


@settings(max_examples=60, deadline=None)
@given(dials=DIALS, steps=st.lists(STEPS, max_size=25))
def test_what_is_over_holds_no_funds_and_positions_are_the_sum_of_trades(dials, steps):
    exchange = play("1", dials, steps)
    account = exchange.accounts[USER]
    open_ids = {order.order_id for order in exchange.books.live()}
    signed = sum(o.filled if o.is_buy else -o.filled for o in exchange.books.all.values())

    assert account.blocked.keys() <= open_ids
    assert sum(account.blocked.values(), ZERO) == account.blocked_total
    assert sum(position.net for position in account.positions.values()) == signed


@settings(max_examples=25, deadline=None)
@given(dials=DIALS, steps=st.lists(STEPS, max_size=25), seed=st.sampled_from(["1", "2"]))
def test_the_same_seed_and_requests_give_the_same_rows_and_trades(dials, steps, seed):
    first, second = play(seed, dials, steps), play(seed, dials, steps)

    assert [(o.rows, o.trades) for o in first.books.all.values()] == [
        (o.rows, o.trades) for o in second.books.all.values()
    ]


def test_another_seed_fills_otherwise():
    def trades(seed: str) -> list[list[int]]:
        exchange = an_exchange(seed=seed, partial_percent=50)
        orders = [place(exchange, an_ask(100)) for _ in range(20)]
        wait(exchange, 5)
        return [[trade.quantity for trade in order.trades] for order in orders]

    assert trades("1") != trades("2")
