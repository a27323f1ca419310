from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.charges import Charges, contract_note, estimate, group_of, segment_of, stt_of_day, stt_on_exercise
from domain.money import Money
from domain.orders import Product, Side
from domain.rates import ChargeSegment, RateUnknown
from domain.reference import all_instruments

IN_2026 = date(2026, 9, 1)
DERIVATIVES = [ChargeSegment.EQ_FUT, ChargeSegment.EQ_OPT, ChargeSegment.CUR_FUT, ChargeSegment.CUR_OPT]
HOMES = {
    ChargeSegment.EQ_DELIVERY: "NSE",
    ChargeSegment.EQ_INTRADAY: "NSE",
    ChargeSegment.FUND_DELIVERY: "NSE",
    ChargeSegment.EQ_FUT: "NFO",
    ChargeSegment.EQ_OPT: "NFO",
    ChargeSegment.CUR_FUT: "CDS",
    ChargeSegment.CUR_OPT: "CDS",
    ChargeSegment.COM_FUT: "MCX",
    ChargeSegment.COM_OPT: "MCX",
}
BROKERS = ["zerodha", "upstox", "fyers", "angel", "dhan"]

segments = st.sampled_from(ChargeSegment)
sides = st.sampled_from(Side)
brokers = st.sampled_from(BROKERS)
turnovers = st.decimals(min_value="0.01", max_value="100000000", places=2)


def leg(
    side: Side, turnover: str, segment: ChargeSegment, *, broker="zerodha", day=IN_2026, exchange=None, with_dp=False
) -> Charges:
    return estimate(
        broker=broker,
        exchange=exchange or HOMES[segment],
        segment=segment,
        side=side,
        turnover=Decimal(turnover),
        trade_date=day,
        group="A",
        with_depository=with_dp,
    )


def round_trip(buy: str, sell: str, segment: ChargeSegment, **how) -> list[Charges]:
    return [leg(Side.BUY, buy, segment, **how), leg(Side.SELL, sell, segment, **how)]


def exact(legs: list[Charges]) -> Decimal:
    return sum((charges.exact for charges in legs), Decimal(0))


def test_s1_delivery_as_zerodhas_calculator_has_it():
    note = contract_note(round_trip("5000000", "5000000", ChargeSegment.EQ_DELIVERY))

    assert note.total == Money(1_112_406)
    assert {code: str(amount) for code, amount in note.lines.items()} == {
        "BROKERAGE": "0.00",
        "STT": "10000",
        "EXCHANGE": "307.00",
        "SEBI": "10.00",
        "STAMP": "750",
        "GST": "57.06",
    }


def test_s2_intraday_as_zerodhas_calculator_has_it():
    assert contract_note(round_trip("400000", "440000", ChargeSegment.EQ_INTRADAY)).total == Money(20_062)


def test_s3_options_as_zerodhas_calculator_has_them_before_and_after_the_stt_rose():
    after = contract_note(round_trip("11780", "15940", ChargeSegment.EQ_OPT))
    before = contract_note(round_trip("11780", "15940", ChargeSegment.EQ_OPT, day=date(2026, 3, 31)))

    assert (after.total, after.lines["STT"]) == (Money(8_286), Decimal(24))
    assert (before.total, before.lines["STT"]) == (Money(7_486), Decimal(16))


@pytest.mark.parametrize(("side", "billed"), [(Side.BUY, 2_854), (Side.SELL, 3_354)])
def test_s4_a_crude_oil_option_as_zerodhas_calculator_has_it(side, billed):
    option = leg(side, "10000", ChargeSegment.COM_OPT, day=date(2026, 9, 16))

    assert contract_note([option], ctt_in_rupees=False).total == Money(billed)


def test_d1_an_index_future():
    legs = round_trip("1625000", "1631500", ChargeSegment.EQ_FUT)

    assert exact(legs) == Decimal("969.613531")
    assert contract_note(legs).total == Money(97_036)


def test_d2_a_currency_future():
    legs = round_trip("845000", "846000", ChargeSegment.CUR_FUT)

    assert exact(legs) == Decimal("57.02421")
    assert contract_note(legs).total == Money(5_718)


def test_d3_a_gold_future_with_ctt_to_the_rupee_or_to_the_paisa():
    legs = round_trip("1250000", "1254000", ChargeSegment.COM_FUT)

    assert exact(legs) == Decimal("262.60384")
    assert contract_note(legs).total == Money(26_220)
    assert contract_note(legs, ctt_in_rupees=False).total == Money(26_260)


def test_d4_rounding_comes_after_adding_up():
    legs = round_trip("9490", "9490", ChargeSegment.EQ_OPT, day=date(2026, 8, 28))

    assert exact(legs).quantize(Decimal("0.0001")) == Decimal("69.6995")
    assert [charges.total for charges in legs] == [Money(2_787), Money(4_182)]  # a paisa less than the sum
    assert contract_note(legs).total == Money(6_918)


@pytest.mark.parametrize(("day", "stt"), [(date(2026, 3, 31), "9.75"), (date(2026, 4, 1), "11.70")])
def test_d5_an_exercised_option(day, stt):
    assert stt_on_exercise(Decimal(7_800), day) == Decimal(stt)


def test_d6_a_delivery_buy():
    bought = leg(Side.BUY, "40000", ChargeSegment.EQ_DELIVERY)

    assert bought.exact == Decimal("47.49624")
    assert contract_note([bought]).total == Money(4_750)


def test_d7_a_delivery_sale_bears_the_depositorys_fee_with_gst():
    alone = leg(Side.SELL, "42500", ChargeSegment.EQ_DELIVERY)
    first_of_the_day = leg(Side.SELL, "42500", ChargeSegment.EQ_DELIVERY, with_dp=True)

    assert alone.exact == Decimal("44.089755")
    assert contract_note([alone]).total == Money(4_458)
    assert first_of_the_day.exact - alone.exact == Decimal("15.34")
    assert contract_note([first_of_the_day]).total == Money(5_992)


def test_d8_and_d9_intraday_by_the_value_sold_or_by_the_days_average():
    bought, sold = round_trip("10000", "11000", ChargeSegment.EQ_INTRADAY)
    by_average = stt_of_day(
        buy_value=Decimal(10_000), buy_quantity=100, sell_value=Decimal(11_000), sell_quantity=100, trade_date=IN_2026
    )

    assert bought.exact == Decimal("4.21406")
    assert (sold.exact, sold.lines["STT"]) == (Decimal("7.055466"), Decimal("2.75"))
    assert by_average == Decimal("2.625")
    assert sold.exact - sold.lines["STT"] + by_average == Decimal("6.930466")


def test_d10_delivery_and_intraday_of_one_share_on_one_day():
    stt = stt_of_day(
        buy_value=Decimal(10_000), buy_quantity=100, sell_value=Decimal(4_400), sell_quantity=40, trade_date=IN_2026
    )

    assert stt == Decimal("7.2002")


@pytest.mark.parametrize(
    ("broker", "billed", "unrounded"),
    [
        ("zerodha", 5_434, "53.461303"),
        ("fyers", 5_434, "53.461303"),
        ("dhan", 5_434, "53.461303"),
        ("angel", 5_434, "53.461303"),
        ("upstox", 6_596, "65.084303"),
    ],
)
def test_d11_intraday_by_each_brokers_plan(broker, billed, unrounded):
    legs = round_trip("50000", "50500", ChargeSegment.EQ_INTRADAY, broker=broker)

    assert exact(legs) == Decimal(unrounded)
    assert contract_note(legs).total == Money(billed)


@pytest.mark.parametrize(
    ("day", "stt", "exchange"),
    [
        (date(2023, 3, 31), "4.745", "5.0297"),
        (date(2023, 4, 1), "5.93125", "4.79245"),
        (date(2024, 4, 1), "5.93125", "4.745"),
        (date(2024, 9, 30), "5.93125", "4.745"),
        (date(2024, 10, 1), "9.49", "3.371797"),
        (date(2026, 2, 28), "9.49", "3.371797"),
        (date(2026, 3, 1), "9.49", "3.371797"),
        (date(2026, 3, 31), "9.49", "3.371797"),
        (date(2026, 4, 1), "14.235", "3.371797"),
    ],
)
def test_an_old_trade_is_charged_by_its_own_days_card(day, stt, exchange):
    sold = leg(Side.SELL, "9490", ChargeSegment.EQ_OPT, day=day)

    assert sold.lines["STT"] == Decimal(stt)
    assert sold.lines["EXCHANGE"] + sold.lines["IPFT"] == Decimal(exchange)


def test_charges_name_the_card_they_come_from():
    assert leg(Side.SELL, "9490", ChargeSegment.EQ_OPT).card == "2026-04-01"
    assert leg(Side.SELL, "9490", ChargeSegment.EQ_OPT, day=date(2026, 3, 31)).card == "2026-03-01"


def test_angels_delivery_cost_something_from_2024_11_and_at_least_5_rupees_from_2025_11_17():
    days = [date(2024, 10, 31), date(2024, 11, 1), date(2025, 11, 16), date(2025, 11, 17)]
    brokerages = [
        leg(Side.BUY, "1000", ChargeSegment.EQ_DELIVERY, broker="angel", day=day).lines["BROKERAGE"] for day in days
    ]

    assert brokerages == [0, 1, 1, 5]


def test_a_day_before_the_first_rate_is_an_error_and_never_a_guess():
    with pytest.raises(RateUnknown, match="no rate of STAMP is known for NSE on 2020-06-30"):
        leg(Side.BUY, "1000", ChargeSegment.EQ_DELIVERY, day=date(2020, 6, 30))
    with pytest.raises(RateUnknown, match="no rate of EXCHANGE is known for BFO on 2024-09-30"):
        leg(Side.SELL, "1000", ChargeSegment.EQ_OPT, exchange="BFO", day=date(2024, 9, 30))


def test_a_segment_the_exchange_does_not_have_is_an_error():
    with pytest.raises(RateUnknown, match="EQ_OPT is known for NSE"):
        leg(Side.SELL, "1000", ChargeSegment.EQ_OPT, exchange="NSE")


@pytest.mark.parametrize(
    ("group", "exchange_fee", "assumed"),
    [
        ("A", "0.0375", ()),
        ("T", "0.0275", ()),
        ("X", "1.000", ()),
        ("ZP", "10.00", ()),
        ("Q", "0.0375", ("group Q of BSE is charged as A",)),
    ],
)
def test_bse_charges_by_group_and_an_unknown_one_is_told(group, exchange_fee, assumed):
    bought = estimate(
        broker="zerodha",
        exchange="BSE",
        segment=ChargeSegment.EQ_DELIVERY,
        side=Side.BUY,
        turnover=Decimal(1_000),
        trade_date=IN_2026,
        group=group,
    )

    assert (bought.lines["EXCHANGE"], bought.assumed) == (Decimal(exchange_fee), assumed)


def test_a_broker_without_a_known_plan_is_told():
    bought = leg(Side.BUY, "1000", ChargeSegment.EQ_DELIVERY, broker="acme")

    assert bought.lines["BROKERAGE"] == 20
    assert bought.assumed == ("the brokerage plan of acme is not known: 20 rupees an order",)


def test_a_shares_segment_follows_its_product_and_a_fund_has_its_own():
    instruments = all_instruments(date(2026, 11, 22))

    assert segment_of(instruments["NSE:INFY"], Product.CNC) is ChargeSegment.EQ_DELIVERY
    assert segment_of(instruments["NSE:INFY"], Product.MIS) is ChargeSegment.EQ_INTRADAY
    assert segment_of(instruments["NSE:NIFTYBEES"], Product.CNC) is ChargeSegment.FUND_DELIVERY
    assert segment_of(instruments["NFO:NIFTY26DECFUT"], Product.NRML) is ChargeSegment.EQ_FUT
    assert segment_of(instruments["CDS:USDINR26DECFUT"], Product.NRML) is ChargeSegment.CUR_FUT
    assert group_of(instruments["BFO:SENSEX26DECFUT"]) == "SENSEX"


@settings(max_examples=60)
@given(brokers, segments, sides, turnovers)
def test_no_line_is_negative_and_the_total_is_their_sum(broker, segment, side, turnover):
    charges = leg(side, turnover, segment, broker=broker, with_dp=True)

    assert all(amount >= 0 for amount in charges.lines.values())
    assert charges.total == Money.of_rupees(sum(charges.lines.values()))


@settings(max_examples=40)
@given(segments, turnovers)
def test_buyers_pay_no_stt_on_derivatives_and_sellers_no_stamp_duty(segment, turnover):
    bought, sold = leg(Side.BUY, turnover, segment), leg(Side.SELL, turnover, segment)

    assert "STAMP" not in sold.lines
    if segment in DERIVATIVES:
        assert "STT" not in bought.lines


@settings(max_examples=40)
@given(brokers, segments, sides, turnovers, turnovers)
def test_more_turnover_never_costs_less(broker, segment, side, one, other):
    low, high = sorted((one, other))

    assert leg(side, low, segment, broker=broker).total <= leg(side, high, segment, broker=broker).total


@settings(max_examples=40)
@given(segments, sides, turnovers, st.integers(min_value=1, max_value=50))
def test_every_line_but_brokerage_and_its_gst_scales_with_the_turnover(segment, side, turnover, times):
    once, often = leg(side, turnover, segment).lines, leg(side, turnover * times, segment).lines

    assert all(often[code] == once[code] * times for code in once.keys() - {"BROKERAGE", "GST"})


@settings(max_examples=40)
@given(segments, sides, st.lists(turnovers, min_size=1, max_size=5))
def test_the_lines_of_fills_add_up_to_those_of_their_order(segment, side, fills):
    whole = leg(side, sum(fills), segment).lines
    parts = [leg(side, fill, segment).lines for fill in fills]

    assert all(sum(part[code] for part in parts) == whole[code] for code in whole.keys() - {"BROKERAGE", "GST"})
