from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from domain.margins import Margin, estimate
from domain.money import Money
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.reference import all_instruments
from domain.valuation import exposure_of, price_of, value_of

TODAY = date(2026, 11, 23)
NOON = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
NOTHING = Money(0)


def an_order(instrument: str, **terms) -> Order:
    usual = {
        "side": Side.BUY,
        "quantity": 10,
        "product": Product.CNC,
        "order_type": OrderType.LIMIT,
        "price": Decimal(100),
    }
    return Order(
        id="o-1",
        intent_id="i-1",
        line=0,
        correlation_id="a",
        user_id="u-1",
        instrument=instrument,
        validity=Validity.DAY,
        accepted_at=NOON,
        send_before=NOON,
        **{**usual, **terms},
    )


def margin(order: Order, *, charges: Money = NOTHING, underlying: str | None = None, buffer_ppm: int = 0) -> Margin:
    instrument = all_instruments(TODAY)[order.instrument]
    return estimate(
        order,
        instrument,
        value=value_of(price_of(order, instrument.close), order.quantity, instrument),
        charges=charges,
        underlying_price=Decimal(underlying) if underlying else None,
        trade_date=TODAY,
        buffer_ppm=buffer_ppm,
    )


def test_delivery_needs_the_value_and_the_charges():
    assert margin(an_order("NSE:INFY"), charges=Money(1_234)).required == Money(101_234)


def test_a_delivery_sale_needs_nothing():
    assert margin(an_order("NSE:INFY", side=Side.SELL)).required == Money(0)


@pytest.mark.parametrize("side", Side)
def test_intraday_needs_a_fifth_either_way(side):
    order = an_order("NSE:INFY", side=side, quantity=100, price=Decimal(500), product=Product.MIS)

    assert margin(order).required == Money(1_000_000)


@pytest.mark.parametrize("side", Side)
def test_an_index_future_needs_13_percent_of_its_notional(side):
    order = an_order("NFO:NIFTY26DECFUT", side=side, quantity=65, price=Decimal(25_000), product=Product.NRML)

    assert margin(order) == Margin(Money(21_125_000), 130_000, "future: a share of the notional")


def test_a_stock_future_needs_a_fifth_and_a_currency_future_less():
    stock = an_order("NFO:RELIANCE26DECFUT", quantity=500, price=Decimal(1_300), product=Product.NRML)
    currency = an_order("CDS:USDINR26DECFUT", quantity=1_000, price=Decimal("95.80"), product=Product.NRML)

    assert margin(stock).required == Money(13_000_000)
    assert margin(currency).required == Money(335_300)


def test_a_bought_option_needs_its_premium_and_the_charges():
    order = an_order("NFO:NIFTY26DEC24500CE", quantity=65, price=Decimal(146), product=Product.NRML)

    assert margin(order, charges=Money(2_400)).required == Money(949_000 + 2_400)


def test_a_sold_option_needs_a_share_of_what_it_is_an_option_on():
    order = an_order("NFO:NIFTY26DEC24500CE", side=Side.SELL, quantity=65, price=Decimal(146), product=Product.NRML)

    assert margin(order, underlying="25000").required == Money(21_125_000)
    assert margin(order).required == Money(20_702_500)  # by its strike, where the underlying's price is not known


def test_a_sold_index_option_needs_2_percent_more_on_its_last_day():
    order = an_order("NFO:NIFTY26NOV24500CE", side=Side.SELL, quantity=65, price=Decimal(60), product=Product.NRML)

    assert margin(order, underlying="25000") == Margin(
        Money(24_375_000), 150_000, "sold option: a share of the underlying's value"
    )


def test_the_buffer_is_added_and_the_sum_rounded_up():
    order = an_order("NSE:INFY", quantity=1, price=Decimal("100.05"))

    assert margin(order, buffer_ppm=30_000).required == Money(10_306)  # 103.0515


def test_a_market_order_to_buy_counts_a_hundredth_more_or_its_own_protection():
    market = an_order("NSE:INFY", order_type=OrderType.MARKET, price=None)
    protected = an_order("NSE:INFY", order_type=OrderType.MARKET, price=None, market_protection=Decimal(5))
    automatic = an_order("NSE:INFY", order_type=OrderType.MARKET, price=None, market_protection=Decimal(-1))
    sold = an_order("NSE:INFY", order_type=OrderType.MARKET, price=None, side=Side.SELL)

    assert [price_of(order, Decimal(200)) for order in (market, protected, automatic, sold)] == [202, 210, 202, 200]


def test_a_stop_without_a_limit_counts_from_its_trigger():
    stop = an_order("NSE:INFY", order_type=OrderType.SL_M, price=None, trigger_price=Decimal(300))

    assert price_of(stop, Decimal(200)) == 303


def test_exposure_of_a_sold_option_is_that_of_its_strike_and_of_a_delivery_sale_nothing():
    instruments = all_instruments(TODAY)
    sold = an_order("NFO:NIFTY26DEC24500CE", side=Side.SELL, quantity=65, product=Product.NRML)
    delivered = an_order("NSE:INFY", side=Side.SELL)

    assert exposure_of(sold, instruments[sold.instrument], Money(1)) == Money(159_250_000)
    assert exposure_of(delivered, instruments[delivered.instrument], Money(1)) == Money(0)
    assert exposure_of(an_order("NSE:INFY"), instruments["NSE:INFY"], Money(100_000)) == Money(100_000)
