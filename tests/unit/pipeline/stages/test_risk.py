from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import NOON, a_derivative_order, an_order, risk_facts, totals

from domain.money import Money
from domain.orders import Order, OrderType, Side
from domain.settings import Settings
from domain.verdicts import Proceed, Reject
from pipeline.stages.risk import RiskLimits, decide, undo

OPTION = "NFO:NIFTY26DEC24500CE"  # its close is ₹477.85
SECOND = int(NOON.timestamp())


def test_an_order_within_its_limits_proceeds_and_reserves():
    order, account = an_order(quantity=10, price=Decimal(1_120)), totals(exposure_paise=500, open_orders=2)

    verdict = decide(order, risk_facts(account))

    assert verdict == Proceed(
        {
            "value_paise": 1_120_000,
            "exposure_paise": 1_120_000,
            "account_exposure_paise": 1_120_500,
            "open_orders": 3,
            "orders_this_second": 1,
            "reference": Decimal("1121.00"),
            "band": (Decimal("1008.9"), Decimal("1233.1")),
        }
    )
    assert (order.exposure_paise, account.exposure_paise, account.open_orders) == (1_120_000, 1_120_500, 3)


def test_a_rejection_names_every_limit_that_was_passed():
    order = an_order(quantity=10, price=Decimal(1_120))
    account = totals(exposure_paise=900, open_orders=3, second=SECOND, orders_this_second=9)

    verdict = decide(
        order,
        risk_facts(
            account,
            order_value_max=Money(1_119_999),
            quantity_max=9,
            open_orders_max=3,
            orders_per_s_max=9,
            exposure_max=Money(1_120_899),
            restricted=frozenset({"NSE:INFY"}),
        ),
    )

    assert verdict == Reject(
        "RESTRICTED",
        (
            "NSE:INFY is on the list of instruments not to be traded here",
            "order value ₹11,200.00 is over ₹11,199.99",
            "quantity 10 is over 9",
            "3 orders are open already, the limit",
            "9 orders came in this second already, the limit: send it again later",
            "exposure would be ₹11,209.00, ₹11,200.00 of it by this order, and is over ₹11,208.99",
        ),
    )
    assert (account.exposure_paise, account.open_orders, order.exposure_paise) == (900, 3, 0)


def test_a_limit_may_be_reached_but_not_passed():
    account = totals(exposure_paise=100, open_orders=2, second=SECOND, orders_this_second=1)
    facts = risk_facts(
        account,
        order_value_max=Money(1_120_000),
        quantity_max=10,
        open_orders_max=3,
        orders_per_s_max=2,
        exposure_max=Money(1_120_100),
    )

    assert isinstance(decide(an_order(quantity=10, price=Decimal(1_120)), facts), Proceed)


def test_no_limit_means_no_limit():
    order = an_order("NSE:IDEA", quantity=9_999_999)

    assert isinstance(decide(order, risk_facts(totals(exposure_paise=10**15, open_orders=10**6))), Proceed)


def test_a_new_second_counts_from_one():
    account = totals(second=SECOND - 1, orders_this_second=10)

    assert isinstance(decide(an_order(), risk_facts(account, orders_per_s_max=10)), Proceed)
    assert (account.second, account.orders_this_second) == (SECOND, 1)


def test_each_order_of_a_batch_sees_what_the_ones_before_it_took():
    facts = risk_facts(open_orders_max=2)

    verdicts = [decide(an_order(), facts) for _ in range(3)]

    assert [type(verdict) for verdict in verdicts] == [Proceed, Proceed, Reject]


def test_what_a_later_stage_refuses_is_given_back():
    order, account = an_order(), totals(exposure_paise=7, open_orders=1)
    decide(order, risk_facts(account))

    undo(order, account)

    assert (account.exposure_paise, account.open_orders, account.orders_this_second) == (7, 1, 0)
    assert order.exposure_paise == 0


def test_derivatives_have_a_limit_of_their_own_on_their_notional():
    future = a_derivative_order(quantity=65, price=Decimal(24_600))
    sold = a_derivative_order(OPTION, side=Side.SELL)
    facts = risk_facts(order_value_max=Money(1), derivative_value_max=Money(159_249_999))

    assert decide(future, facts) == Reject("RISK_LIMIT", ("notional value ₹15,99,000.00 is over ₹15,92,499.99",))
    assert decide(sold, facts) == Reject("RISK_LIMIT", ("notional value ₹15,92,500.00 is over ₹15,92,499.99",))
    assert isinstance(decide(a_derivative_order(OPTION), facts), Proceed)  # a bought one counts its premium


def test_a_delivery_sale_adds_no_exposure_but_its_value_counts():
    sale = an_order(side=Side.SELL, quantity=10, price=Decimal(1_120))

    assert isinstance(decide(sale, risk_facts(exposure_max=Money(0))), Proceed)
    assert isinstance(decide(sale, risk_facts(order_value_max=Money(1))), Reject)


@pytest.mark.parametrize(
    ("order", "inside", "outside"),
    [
        (an_order("NSE:INFY"), "1233.10", "1233.20"),  # the dynamic band of 10 % round 1,121
        (an_order("NSE:INFY"), "1008.90", "1008.80"),
        (an_order("NSE:20MICRONS"), "245.02", "245.03"),  # 20 % round 204.19 is 245.028
        (an_order("NSE:KHADIM"), "113.83", "113.84"),  # 5 % round 108.41 is 113.8305
        (a_derivative_order(), "25396.80", "25396.90"),  # 3 % round 24,657.10
        (a_derivative_order(OPTION), "668.95", "669.00"),  # 40 % round 477.85 is 668.99
        (a_derivative_order("CDS:USDINR26DECFUT"), "99.3050", "99.3075"),  # 3 % round 96.415 is 99.30745
    ],
    ids=lambda value: value.instrument if isinstance(value, Order) else value,
)
def test_price_bands_at_the_edge_and_past_it(order, inside, outside):
    order.price = Decimal(inside)
    assert isinstance(decide(order, risk_facts()), Proceed)

    order.price = Decimal(outside)
    verdict = decide(order, risk_facts())
    assert isinstance(verdict, Reject)
    assert verdict.code == "PRICE_BAND"


def test_a_band_is_told_with_its_rule():
    assert decide(an_order("NSE:INFY", price=Decimal(1_300)), risk_facts()) == Reject(
        "PRICE_BAND", ("price ₹1,300.00 is outside ₹1,008.90 to ₹1,233.10 (the dynamic band of 10 % round ₹1,121.00)",)
    )


def test_a_newer_reference_price_moves_the_band():
    order = an_order("NSE:INFY", price=Decimal(1_300))
    facts = risk_facts()
    moved = type(facts)(
        instruments=facts.instruments,
        totals=facts.totals,
        limits=facts.limits,
        now=facts.now,
        references={"NSE:INFY": Decimal(1_290)},
    )

    assert isinstance(decide(order, moved), Proceed)


@pytest.mark.parametrize(
    ("side", "price", "proceeds"),
    [
        (Side.BUY, "1177.00", True),  # 5 % over 1,121 is 1,177.05
        (Side.BUY, "1177.10", False),
        (Side.BUY, "1010.00", True),  # a low bid is patient, not mistaken
        (Side.SELL, "1065.00", True),  # 5 % under is 1,064.95
        (Side.SELL, "1064.90", False),
        (Side.SELL, "1230.00", True),
    ],
)
def test_a_price_may_not_stray_far_on_its_dear_side(side, price, proceeds):
    order = an_order("NSE:INFY", side=side, price=Decimal(price))

    assert isinstance(decide(order, risk_facts(price_deviation_ppm=50_000)), Proceed) is proceeds


def test_a_straying_price_is_told():
    order = an_order("NSE:INFY", side=Side.SELL, price=Decimal(1_050))

    assert decide(order, risk_facts(price_deviation_ppm=50_000)) == Reject(
        "PRICE_DEVIATION", ("price ₹1,050.00 is more than 5 % under the reference price ₹1,121.00",)
    )


def test_market_orders_have_no_price_to_stray():
    order = an_order(order_type=OrderType.MARKET, price=None)

    assert isinstance(decide(order, risk_facts(price_deviation_ppm=1)), Proceed)


def test_limits_come_from_the_settings():
    limits = RiskLimits.of(Settings(order_value_max_paise=None, restricted=("NSE:IDEA",)))

    assert limits.order_value_max is None
    assert limits.derivative_value_max == Money(500_000_000)
    assert limits.restricted == {"NSE:IDEA"}


@settings(max_examples=50)
@given(
    st.lists(st.integers(min_value=1, max_value=500), min_size=1, max_size=30),
    st.integers(min_value=0, max_value=5_000_000),
    st.integers(min_value=0, max_value=20),
    st.integers(min_value=1, max_value=20),
)
def test_no_batch_passes_a_limit(quantities, exposure_max, open_max, per_second):
    account = totals()
    facts = risk_facts(account, exposure_max=Money(exposure_max), open_orders_max=open_max, orders_per_s_max=per_second)
    orders = [an_order(quantity=quantity, price=Decimal(1_120)) for quantity in quantities]

    passed = [order for order in orders if isinstance(decide(order, facts), Proceed)]

    assert account.exposure_paise == sum(order.exposure_paise for order in passed) <= exposure_max
    assert account.open_orders == len(passed) <= min(open_max, per_second)
