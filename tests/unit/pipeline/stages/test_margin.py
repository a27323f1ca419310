from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from judged import INSTRUMENTS, a_derivative_order, an_order, margin_facts, totals

from domain.orders import OrderType, Product, Side
from domain.verdicts import Proceed, Reject
from pipeline.stages.margin import decide, undo


def test_an_order_that_its_account_can_bear_blocks_its_margin_and_tells_the_numbers():
    order, account = an_order(quantity=10, price=Decimal(1_000)), totals(limit_paise=2_000_000, blocked_paise=500_000)

    verdict = decide(order, margin_facts(account))

    assert isinstance(verdict, Proceed)
    assert verdict.facts == {
        "required_paise": 1_031_223,  # (₹10,000 and ₹11.87) and 3 %
        "available_paise": 1_500_000,
        "basis": "delivery: the value and the charges",
        "rate_ppm": 1_000_000,
        "buffer_ppm": 30_000,
        "charges_paise": 1_187,
        "charges": {
            "BROKERAGE": 0,
            "STT": 10,
            "EXCHANGE": Decimal("0.30699"),
            "IPFT": Decimal("0.00001"),
            "SEBI": Decimal("0.01"),
            "STAMP": Decimal("1.5"),
            "GST": Decimal("0.05706"),
        },
        "rate_card": "2026-03-01",
        "assumed": (),
    }
    assert (order.blocked_paise, account.blocked_paise) == (1_031_223, 1_531_223)


def test_what_an_account_cannot_bear_is_rejected_with_the_numbers():
    account = totals(limit_paise=2_000_000, blocked_paise=970_000)
    first, second = (an_order(quantity=100, price=Decimal(500), product=Product.MIS) for _ in range(2))

    assert isinstance(decide(first, margin_facts(account)), Proceed)
    assert decide(second, margin_facts(account)) == Reject(
        "MARGIN_ESTIMATE",
        (
            "margin of ₹10,300.00 is needed (intraday: a share of the value), ₹0.00 is left of ₹20,000.00:"
            " open orders hold ₹20,000.00",
        ),
    )
    assert (second.blocked_paise, account.blocked_paise) == (0, 2_000_000)


def test_one_paisa_too_little_is_too_little():
    order = an_order(quantity=100, price=Decimal(500), product=Product.MIS)

    assert isinstance(decide(order, margin_facts(totals(limit_paise=1_029_999))), Reject)
    assert isinstance(decide(order, margin_facts(totals(limit_paise=1_030_000))), Proceed)


def test_a_delivery_sale_blocks_nothing_even_in_an_overdrawn_account():
    order, account = an_order(side=Side.SELL), totals(limit_paise=100, blocked_paise=100)

    assert isinstance(decide(order, margin_facts(account)), Proceed)
    assert order.blocked_paise == 0


def test_what_a_later_stage_refuses_is_given_back():
    order, account = an_order(), totals(blocked_paise=11)
    decide(order, margin_facts(account))

    undo(order, account)

    assert (order.blocked_paise, account.blocked_paise) == (0, 11)


def test_a_sold_option_is_judged_by_its_underlyings_price():
    order = a_derivative_order("NFO:NIFTY26DEC24500CE", side=Side.SELL)

    verdict = decide(order, margin_facts(buffer_ppm=0, underlying_prices={"NIFTY": Decimal(25_000)}))

    assert isinstance(verdict, Proceed)
    assert order.blocked_paise == 21_125_000


def test_a_guess_in_the_charges_is_told():
    verdict = decide(an_order(broker="acme"), margin_facts())

    assert isinstance(verdict, Proceed)
    assert verdict.facts["assumed"] == ("the brokerage plan of acme is not known: 20 rupees an order",)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["NSE:INFY", "NSE:IDEA", "NFO:NIFTY26DECFUT", "NFO:NIFTY26DEC24500CE", "CDS:USDINR26DECFUT"]
            ),
            st.sampled_from(Side),
            st.sampled_from([OrderType.LIMIT, OrderType.MARKET]),
            st.sampled_from([Product.CNC, Product.MIS]),
            st.integers(min_value=1, max_value=20),
        ),
        min_size=1,
        max_size=25,
    ),
    st.integers(min_value=0, max_value=1_000_000_000),
)
def test_a_batch_never_blocks_more_than_there_is(lines, limit):
    account = totals(limit_paise=limit)
    facts = margin_facts(account)
    passed = []
    for key, side, order_type, product, lots in lines:
        order = an_order(
            key,
            side=side,
            order_type=order_type,
            quantity=lots * INSTRUMENTS[key].lot_size,
            product=Product.NRML if INSTRUMENTS[key].is_derivative else product,
            price=INSTRUMENTS[key].close if order_type is OrderType.LIMIT else None,
        )
        if isinstance(decide(order, facts), Proceed):
            passed.append(order)

    assert account.blocked_paise == sum(order.blocked_paise for order in passed) <= limit
