"""The mode that counts for an order, and what of it makes a position smaller: pure rules, tried with any figures."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from domain.orders import Product, Side
from domain.reducing import Place, Standing, find_breach
from domain.switches import ALL, Key, Mode, Scope, Switch, keys_for, strategy_subject, strictest

USER, ACCOUNT, STRATEGY = "0190", "UP1", "momentum"
KEYS = keys_for(USER, ACCOUNT, STRATEGY)
STRICTER = [Mode.ACTIVE, Mode.REDUCING, Mode.HALTED]
MIS = Place(USER, ACCOUNT, "NSE:INFY", Product.MIS)
CNC = MIS._replace(product=Product.CNC)


def a_switch(key: Key, mode: Mode) -> Switch:
    return Switch(
        scope=key.scope,
        subject=key.subject,
        mode=mode,
        version=1,
        reason="enough",
        by="asha",
        by_operator=True,
        at=datetime(2026, 11, 25, tzinfo=UTC),
    )


modes = st.sampled_from(STRICTER)
others = st.sampled_from(
    [
        Key(Scope.USER, "0191"),
        Key(Scope.ACCOUNT, "UP2"),
        Key(Scope.STRATEGY, strategy_subject("0191", STRATEGY)),
        Key(Scope.STRATEGY, strategy_subject(USER, "other")),
    ]
)


@given(st.dictionaries(st.sampled_from(KEYS), modes), st.dictionaries(others, modes))
def test_the_strictest_switch_that_applies_counts_and_no_other_ones(own: dict[Key, Mode], of_others: dict[Key, Mode]):
    switches = {key: a_switch(key, mode) for key, mode in {**own, **of_others}.items()}

    counting = strictest(switches, KEYS)

    wanted = max((STRICTER.index(mode) for mode in own.values()), default=0)
    assert STRICTER.index(counting.mode if counting else Mode.ACTIVE) == wanted
    assert counting is None or counting.key in own


def test_of_two_that_are_as_strict_the_wider_one_is_named():
    halted = {key: a_switch(key, Mode.HALTED) for key in KEYS}

    counting = strictest(halted, KEYS)

    assert counting is not None
    assert counting.key == ALL


def test_a_strategy_of_another_user_is_another_strategy():
    other = Key(Scope.STRATEGY, strategy_subject("0191", STRATEGY))

    assert strictest({other: a_switch(other, Mode.HALTED)}, KEYS) is None


orders = st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 500)), max_size=64)


@given(st.integers(-1_000, 1_000), st.integers(0, 500), st.integers(0, 500), orders)
def test_orders_let_through_never_turn_a_position_round_or_make_it_larger(
    net: int, buying: int, selling: int, asked: list[tuple[Side, int]]
):
    standing = Standing(net, buying, selling)
    let_through = dict.fromkeys(Side, 0)
    for side, quantity in asked:
        if find_breach(MIS, side, quantity, standing) is None:
            standing.take(side, quantity)
            let_through[side] += quantity

    assert let_through[Side.SELL] <= max(0, net - selling)
    assert let_through[Side.BUY] <= max(0, -net - buying)
    assert 0 in let_through.values()


@given(st.integers(-1_000, 1_000), st.integers(0, 500), st.integers(1, 500))
def test_as_much_as_there_is_room_for_goes_through(net: int, selling: int, quantity: int):
    is_through = find_breach(MIS, Side.SELL, quantity, Standing(net, 0, selling)) is None

    assert is_through == (quantity <= net - selling)


def test_an_order_under_way_finds_what_the_others_leave():
    assert Standing(net=40, selling=40).beside(Side.SELL, 40).room(Side.SELL) == 40
    assert Standing(net=40, selling=90).beside(Side.SELL, 40).room(Side.SELL) == 0
    assert Standing(net=-40, buying=60).beside(Side.BUY, 40).room(Side.BUY) == 20
    assert Standing().beside(Side.SELL, 40).room(Side.SELL) == 0, "it was not counted"


def test_a_delivery_sale_always_reduces_and_a_delivery_purchase_never():
    assert find_breach(CNC, Side.SELL, 10, Standing()) is None
    assert find_breach(CNC, Side.BUY, 10, Standing(net=-10)) is not None


def test_the_reason_names_the_position_what_is_under_way_and_the_quantity():
    assert find_breach(MIS, Side.SELL, 50, Standing(net=100, selling=60)) == (
        "the position in NSE:INFY MIS at UP1 is 100, of which orders under way may sell 60: at most 40 can be closed, not 50"
    )
