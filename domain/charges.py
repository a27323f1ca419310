"""What a trade costs beyond its price: brokerage, taxes, exchange and regulator fees, by the day's rate card.

The rates lie in tables with the trade dates they hold for, so that an old trade is charged by its own day's card. Two
roundings, both half up: an estimate of one order keeps every line exact and rounds its total to the paisa; a contract
note adds up first, then rounds line by line: STT, CTT and stamp duty to the rupee, everything else to the paisa.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import NamedTuple

from domain.instruments import Instrument
from domain.instruments import Segment as Market
from domain.money import PAISE_PER_RUPEE, Money
from domain.orders import Product, Side
from domain.rates import ZERO, ChargeSegment, Plan, depository_fee, gst_fraction, plan_of, rates_of, stt_fraction

HALF = Decimal("0.5")
RUPEE, PAISA = Decimal(1), Decimal("0.01")
WHOLE_RUPEES = frozenset({"STT", "CTT", "STAMP"})
FUND_ISIN = "INF"  # an ISIN that begins so is a fund's: an exchange-traded fund


@dataclass(frozen=True, slots=True)
class Charges:
    """Charges line by line, in rupees: BROKERAGE, STT, CTT, EXCHANGE, IPFT, SEBI, STAMP, DP and GST, where they apply.

    `card` is the day from which the newest of their rates holds; `assumed` tells what had to be guessed.
    """

    lines: Mapping[str, Decimal]
    total: Money
    card: str
    assumed: tuple[str, ...] = ()

    @property
    def exact(self) -> Decimal:
        """The sum of the lines in rupees, not rounded."""
        return sum(self.lines.values(), ZERO)


def estimate(
    *,
    broker: str,
    exchange: str,
    segment: ChargeSegment,
    side: Side,
    turnover: Decimal,
    trade_date: date,
    group: str = "",
    with_depository: bool = True,
) -> Charges:
    """The charges of one order that fills completely.

    Args:
        exchange: NSE, BSE, NFO, BFO, CDS or MCX.
        turnover: price times quantity times multiplier, in rupees; for options the premium's.
        group: BSE's group of a share, the underlying of a BSE option; elsewhere it plays no part.
        with_depository: whether a delivery sell bears the depository's fee, due once a day for each ISIN.

    Raises:
        RateUnknown: the trade date is before the first rate known of one of the charges.
    """
    card = rate_card(broker, exchange, segment, side, group, trade_date)
    brokerage = card.plan.brokerage(turnover)
    lines, taxable = {"BROKERAGE": brokerage}, brokerage
    for code, fraction, is_taxed in card.rates:
        amount = lines[code] = turnover * fraction
        if is_taxed:
            taxable += amount
    if with_depository and card.depository:
        lines["DP"] = card.depository
        taxable += card.depository
    lines["GST"] = taxable * card.gst
    return Charges(lines, _to_paisa(sum(lines.values(), ZERO)), card.name, card.assumed)


def segment_of(instrument: Instrument, product: Product) -> ChargeSegment:
    match instrument.segment:
        case Market.CASH:
            if product is Product.MIS:
                return ChargeSegment.EQ_INTRADAY
            is_fund = instrument.isin is not None and instrument.isin.startswith(FUND_ISIN)
            return ChargeSegment.FUND_DELIVERY if is_fund else ChargeSegment.EQ_DELIVERY
        case Market.EQUITY_DERIVATIVES:
            return ChargeSegment.EQ_OPT if instrument.is_option else ChargeSegment.EQ_FUT
        case Market.CURRENCY:
            return ChargeSegment.CUR_OPT if instrument.is_option else ChargeSegment.CUR_FUT
        case Market.COMMODITY:
            return ChargeSegment.COM_OPT if instrument.is_option else ChargeSegment.COM_FUT


def group_of(instrument: Instrument) -> str:
    """What a rate may depend on beside exchange and segment: BSE's group, or a BSE derivative's underlying."""
    return instrument.series if instrument.segment is Market.CASH else instrument.underlying or ""


def contract_note(estimates: Iterable[Charges], *, ctt_in_rupees: bool = True) -> Charges:
    """The charges of one client's day in one segment as a contract note bills them.

    Args:
        estimates: those of the day's orders, on what was executed.
        ctt_in_rupees: MCX's own calculator leaves CTT at the paisa; then False.
    """
    sums: dict[str, Decimal] = {}
    card, assumed = "", dict[str, None]()
    for charges in estimates:
        card = max(card, charges.card)
        assumed.update(dict.fromkeys(charges.assumed))
        for code, amount in charges.lines.items():
            code = "EXCHANGE" if code == "IPFT" else code  # a note shows the two as one
            sums[code] = sums.get(code, ZERO) + amount
    whole = WHOLE_RUPEES if ctt_in_rupees else WHOLE_RUPEES - {"CTT"}
    lines = {code: amount.quantize(RUPEE if code in whole else PAISA, ROUND_HALF_UP) for code, amount in sums.items()}
    return Charges(lines, _to_paisa(sum(lines.values(), ZERO)), card, tuple(assumed))


def stt_on_exercise(intrinsic: Decimal, trade_date: date) -> Decimal:
    """STT, exact, that the holder pays on an option exercised at its end. `intrinsic`: its whole worth in rupees."""
    return intrinsic * stt_fraction(ChargeSegment.EQ_OPT, "EXERCISE", trade_date)


def stt_of_day(
    *, buy_value: Decimal, buy_quantity: int, sell_value: Decimal, sell_quantity: int, trade_date: date
) -> Decimal:
    """A client's exact STT in one share on one day by the exchange's method (NSE/CMTR/5588).

    What was both bought and sold is intraday, the rest delivery, all of it valued at the day's weighted average price,
    which is rounded to the paisa. Values are rupees.
    """
    average = ((buy_value + sell_value) / (buy_quantity + sell_quantity)).quantize(PAISA, ROUND_HALF_UP)
    intraday, delivery = min(buy_quantity, sell_quantity), abs(buy_quantity - sell_quantity)
    return average * (
        intraday * stt_fraction(ChargeSegment.EQ_INTRADAY, "SELL", trade_date)
        + delivery * stt_fraction(ChargeSegment.EQ_DELIVERY, "BUY", trade_date)
    )


class Card(NamedTuple):
    """Everything that charges one kind of order on one day."""

    name: str
    rates: tuple[tuple[str, Decimal, bool], ...]  # code, fraction of the turnover, whether GST is due on it
    plan: Plan
    depository: Decimal
    gst: Decimal
    assumed: tuple[str, ...]


@lru_cache(maxsize=1024)
def rate_card(broker: str, exchange: str, segment: ChargeSegment, side: Side, group: str, trade_date: date) -> Card:
    rates, newest, assumed = rates_of(exchange, segment, side, group, trade_date)
    plan, plan_assumed = plan_of(broker, segment, trade_date)
    is_delivery = segment in (ChargeSegment.EQ_DELIVERY, ChargeSegment.FUND_DELIVERY)
    fee = depository_fee(broker, trade_date) if is_delivery and side is Side.SELL else ZERO
    gst = gst_fraction(trade_date)
    return Card(newest.isoformat(), rates, plan, fee, gst, (*assumed, *plan_assumed))


def _to_paisa(rupees: Decimal) -> Money:
    """Half up; quicker than `Money.of_rupees`, and right because no charge is negative."""
    return Money(int(rupees * PAISE_PER_RUPEE + HALF))
