from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import ABLE, INSTRUMENTS, NOON, a_derivative_order, an_instrument, an_order, ist, validate_facts

from domain.orders import Order, OrderType, Product, Side, Validity
from domain.rules import find_breaches
from domain.verdicts import Proceed, Reject, Verdict
from pipeline.stages.validate import decide

OPTION = "NFO:NIFTY26DEC24500CE"


def verdict_on(order: Order, **how) -> Verdict:
    return decide(order, validate_facts(**how))


def codes_and_reasons(verdict: Verdict) -> tuple[str, tuple[str, ...]]:
    assert isinstance(verdict, Reject), verdict
    return verdict.code, verdict.reasons


def test_a_plain_order_proceeds_with_the_numbers_it_was_judged_by():
    assert verdict_on(an_order()) == Proceed(
        {
            "instrument": "NSE:INFY",
            "tick": Decimal("0.10"),
            "lot": 1,
            "freeze_quantity": 89_000,
            "calendar": "NSE",
            "phase": "CONTINUOUS",
        }
    )


@pytest.mark.parametrize(
    "order",
    [
        a_derivative_order(),
        a_derivative_order(OPTION),
        a_derivative_order(OPTION, product=Product.MIS, side=Side.SELL),
        a_derivative_order("BFO:SENSEX26DECFUT"),
        a_derivative_order("CDS:USDINR26DECFUT"),
        an_order("BSE:RELIANCE", product=Product.MIS),
        an_order(product=Product.MTF),
        an_order(order_type=OrderType.MARKET, price=None),
        an_order(order_type=OrderType.MARKET, price=None, market_protection=Decimal(25)),
        an_order(order_type=OrderType.MARKET, price=None, market_protection=Decimal(-1)),
        an_order(order_type=OrderType.SL_M, price=None, trigger_price=Decimal(1_150)),
        an_order(validity=Validity.IOC),
        an_order(quantity=100, disclosed_quantity=10),
        an_order("NSE:KHADIM"),
    ],
    ids=lambda order: f"{order.instrument} {order.product} {order.order_type}",
)
def test_what_exchanges_take_proceeds(order):
    assert isinstance(verdict_on(order), Proceed)


def test_an_unknown_instrument_is_rejected():
    assert verdict_on(an_order("NSE:INFOSYS")) == Reject(
        "UNKNOWN_INSTRUMENT", ("NSE:INFOSYS is not among today's instruments",)
    )


def test_an_expired_contract_is_rejected_from_the_day_after_its_last():
    order = a_derivative_order("NFO:NIFTY26NOVFUT")

    assert isinstance(verdict_on(order), Proceed)
    assert verdict_on(order, at=ist("2026-11-25 12:00")) == Reject(
        "INSTRUMENT_EXPIRED", ("NFO:NIFTY26NOVFUT expired on 2026-11-23",)
    )


def test_a_rejection_names_every_rule_that_is_broken():
    order = a_derivative_order(
        product=Product.CNC,
        quantity=18_005,
        order_type=OrderType.SL,
        price=Decimal("24500.03"),
        trigger_price=Decimal(25_500),
        disclosed_quantity=5,
    )

    assert verdict_on(order) == Reject(
        "PRODUCT_NOT_ALLOWED",
        (
            "CNC is not for a derivative such as NFO:NIFTY26DECFUT: use MIS or NRML",
            "price ₹24,500.03 is not a multiple of the tick of ₹0.10: ₹24,500.00 or ₹24,500.10 is",
            "price ₹24,500.03 is under the trigger ₹25,500.00: a buy stop needs more",
            "price ₹24,500.03 is ₹999.97 from the trigger ₹25,500.00, the exchange allows ₹765.00",
            "quantity 18005 is over 17550: one order is cut into at most 10 slices of 1755"
            " (the exchange's freeze quantity is 1800); send 2 orders",
            "disclosed quantity 5: derivatives are always shown in full",
        ),
    )


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (an_order(product=Product.NRML), "NRML is not for a share such as NSE:INFY: use CNC or MIS or MTF"),
        (
            an_order("NSE:KHADIM", product=Product.MIS),
            "NSE:KHADIM is in series BE, where each trade settles by itself: MIS is not possible, use CNC",
        ),
        (
            an_order("BSE:TIMEX", product=Product.MIS),
            "BSE:TIMEX is in series T, where each trade settles by itself: MIS is not possible, use CNC",
        ),
    ],
)
def test_products_by_instrument(order, reason):
    assert verdict_on(order) == Reject("PRODUCT_NOT_ALLOWED", (reason,))


def test_options_take_no_stop_market_orders():
    order = a_derivative_order(OPTION, order_type=OrderType.SL_M, price=None, trigger_price=Decimal(500))

    assert codes_and_reasons(verdict_on(order))[0] == "ORDER_TYPE_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"order_type": OrderType.LIMIT, "price": None}, "LIMIT orders need a price"),
        ({"order_type": OrderType.MARKET}, "MARKET orders have no price"),
        ({"order_type": OrderType.SL}, "SL orders need a trigger price"),
        ({"trigger_price": Decimal(1_100)}, "LIMIT orders have no trigger price"),
    ],
)
def test_each_type_has_its_own_prices(terms, reason):
    assert verdict_on(an_order(**terms)) == Reject("PRICE_TERMS", (reason,))


@pytest.mark.parametrize(
    ("side", "price", "trigger", "reasons"),
    [
        (Side.BUY, "1150", "1150", None),
        (Side.BUY, "1149.90", "1150", "price ₹1,149.90 is under the trigger ₹1,150.00: a buy stop needs more"),
        (Side.SELL, "1150", "1150", None),
        (Side.SELL, "1150.10", "1150", "price ₹1,150.10 is over the trigger ₹1,150.00: a sell stop needs less"),
    ],
)
def test_a_stops_limit_lies_beyond_its_trigger(side, price, trigger, reasons):
    order = an_order(order_type=OrderType.SL, side=side, price=Decimal(price), trigger_price=Decimal(trigger))

    verdict = verdict_on(order)

    if reasons is None:
        assert isinstance(verdict, Proceed)
    else:
        assert verdict == Reject("TRIGGER_RELATION", (reasons,))


@pytest.mark.parametrize(
    ("instrument", "trigger", "allowed", "tick"),
    [
        ("NSE:INFY", "1000", "30", "0.10"),
        ("NSE:IDEA", "10", "1.5", "0.01"),
        ("NFO:NIFTY26DECFUT", "24000", "720", "0.10"),
        (OPTION, "50", "10", "0.05"),
        (OPTION, "60", "12", "0.05"),
    ],
)
def test_the_stop_limit_gap_at_its_edge_and_past_it(instrument, trigger, allowed, tick):
    lots = an_instrument(instrument).lot_size
    product = Product.NRML if instrument.startswith("NFO") else Product.CNC
    stop = an_order(
        instrument,
        quantity=lots,
        product=product,
        order_type=OrderType.SL,
        trigger_price=Decimal(trigger),
        price=Decimal(trigger) + Decimal(allowed),
    )

    assert isinstance(verdict_on(stop), Proceed)
    stop.price += Decimal(tick)
    assert codes_and_reasons(verdict_on(stop))[0] == "STOP_LIMIT_GAP"


def test_bse_has_no_stop_limit_gap():
    stop = an_order("BSE:RELIANCE", order_type=OrderType.SL, trigger_price=Decimal(1_300), price=Decimal(1_400))

    assert isinstance(verdict_on(stop), Proceed)


keys = st.sampled_from(sorted(INSTRUMENTS))


@settings(max_examples=80, deadline=None)
@given(keys, st.integers(min_value=1, max_value=5_000), st.decimals("0.0001", "0.0024", places=4))
def test_a_price_on_its_tick_is_right_and_anything_beside_it_is_not(key, ticks, beside):
    instrument = INSTRUMENTS[key]
    price = instrument.tick * ticks

    assert "TICK_SIZE" not in codes_of(key, price=price)
    assert "TICK_SIZE" in codes_of(key, price=price + beside)
    assert "TICK_SIZE" in codes_of(key, price=price - beside)


@settings(max_examples=80, deadline=None)
@given(keys, st.data())
def test_whole_lots_up_to_ten_slices_of_the_freeze_quantity_and_not_one_unit_more(key, data):
    instrument = INSTRUMENTS[key]
    most = instrument.freeze_quantity // instrument.lot_size
    quantity = data.draw(st.integers(min_value=1, max_value=most)) * instrument.lot_size

    assert not {"LOT_SIZE", "FREEZE_QUANTITY"} & codes_of(key, quantity=quantity)
    assert ("LOT_SIZE" in codes_of(key, quantity=quantity + 1)) is (instrument.lot_size > 1)
    assert "FREEZE_QUANTITY" not in codes_of(key, quantity=10 * most * instrument.lot_size)
    assert "FREEZE_QUANTITY" in codes_of(key, quantity=10 * most * instrument.lot_size + 1)


def codes_of(key: str, **terms) -> set[str]:
    """The codes of all breaches, told one by one."""
    return {breach.code.value for breach in find_breaches(an_order(key, **terms), INSTRUMENTS[key])}


@pytest.mark.parametrize(
    ("quantity", "disclosed", "reason"),
    [
        (100, 10, None),
        (100, 9, "disclosed quantity 9 is under 10, a tenth of 100"),
        (101, 10, "disclosed quantity 10 is under 11, a tenth of 101"),
        (100, 99, None),
        (100, 100, "disclosed quantity 100 is not below the quantity of 100"),
    ],
)
def test_a_disclosed_quantity_is_at_least_a_tenth_and_not_all(quantity, disclosed, reason):
    verdict = verdict_on(an_order(quantity=quantity, disclosed_quantity=disclosed))

    if reason is None:
        assert isinstance(verdict, Proceed)
    else:
        assert verdict == Reject("DISCLOSED_QUANTITY", (reason,))


@pytest.mark.parametrize("percent", ["0", "-2", "25.01"])
def test_market_protection_has_a_range(percent):
    order = an_order(order_type=OrderType.MARKET, price=None, market_protection=Decimal(percent))

    assert codes_and_reasons(verdict_on(order))[0] == "MARKET_PROTECTION"


def test_market_protection_is_not_for_limit_orders():
    assert codes_and_reasons(verdict_on(an_order(market_protection=Decimal(2)))) == (
        "MARKET_PROTECTION",
        ("market protection is for MARKET and SL-M: a LIMIT has its limit price",),
    )


@pytest.mark.parametrize(
    ("able", "code", "reason"),
    [
        (
            {"exchanges": frozenset({"NSE"})},
            "EXCHANGE_NOT_OFFERED",
            "zerodha has no BSE: it trades NSE",
        ),
        ({"products": frozenset({Product.MIS})}, "PRODUCT_NOT_ALLOWED", "zerodha has no CNC: it takes MIS"),
        (
            {"order_types": frozenset({OrderType.MARKET})},
            "ORDER_TYPE_NOT_ALLOWED",
            "zerodha has no LIMIT: it takes MARKET",
        ),
        ({"validities": frozenset({Validity.IOC})}, "VALIDITY_NOT_ALLOWED", "zerodha has no DAY: it takes IOC"),
    ],
)
def test_a_broker_is_asked_only_for_what_it_can_do(able, code, reason):
    assert verdict_on(an_order("BSE:RELIANCE"), able=replace(ABLE, **able)) == Reject(code, (reason,))


def test_a_closed_market_says_when_it_opens():
    assert verdict_on(an_order(), at=ist("2026-11-22 15:00")) == Reject(
        "MARKET_CLOSED",
        ("NSE takes no orders on Sun 22 Nov 2026 15:00 IST (closed): it opens Mon 23 Nov 2026 09:00 IST",),
    )


def test_a_holiday_is_skipped_when_telling_the_next_open():
    assert codes_and_reasons(verdict_on(a_derivative_order(OPTION), at=ist("2026-11-24 11:00")))[1] == (
        "NFO takes no orders on Tue 24 Nov 2026 11:00 IST (closed): it opens Wed 25 Nov 2026 09:15 IST",
    )


@pytest.mark.parametrize(
    ("terms", "at", "reason"),
    [
        (
            {"order_type": OrderType.MARKET, "price": None},
            "2026-11-23 09:06",
            "MARKET is not taken in the pre-open's second part (09:05–09:10 IST): LIMIT only",
        ),
        (
            {"order_type": OrderType.SL_M, "price": None, "trigger_price": Decimal(1_150)},
            "2026-11-23 09:01",
            "SL-M is not taken in the pre-open (09:00–09:05 IST): LIMIT, MARKET only",
        ),
        (
            {"validity": Validity.IOC},
            "2026-11-23 15:21",
            "IOC is not taken in the closing auction (15:20–15:25 IST): use DAY",
        ),
        (
            {"quantity": 100, "disclosed_quantity": 50},
            "2026-11-23 15:21",
            "no disclosed quantity is taken in the closing auction (15:20–15:25 IST): leave it out",
        ),
    ],
)
def test_each_phase_takes_its_own_orders(terms, at, reason):
    assert verdict_on(an_order(**terms), at=ist(at)) == Reject("MARKET_PHASE", (reason,))


def test_no_new_intraday_positions_after_the_cutoff():
    order, cutoff = an_order(product=Product.MIS), ist("2026-11-23 15:00")

    assert isinstance(verdict_on(order, at=cutoff - timedelta(seconds=1)), Proceed)
    assert verdict_on(order, at=cutoff) == Reject(
        "MIS_CUTOFF", ("it is 15:00 IST: no new MIS after 15:00, since brokers square off then; use CNC",)
    )
    assert isinstance(verdict_on(a_derivative_order(product=Product.MIS), at=cutoff), Proceed)
    assert isinstance(verdict_on(an_order(), at=cutoff), Proceed)


def test_a_simulated_account_trades_at_any_hour():
    midnight_on_sunday = ist("2026-11-22 00:30")

    assert isinstance(verdict_on(an_order(product=Product.MIS), at=midnight_on_sunday, calendar="SIM"), Proceed)
    assert isinstance(verdict_on(a_derivative_order(), at=midnight_on_sunday, calendar="SIM"), Proceed)


def test_the_same_order_and_facts_give_the_same_verdict():
    order, facts = an_order(quantity=0), validate_facts(at=NOON)

    assert decide(order, facts) == decide(order, facts)
