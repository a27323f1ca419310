"""Zerodha's answers about instruments: margins and charges of orders, quotes, the instruments dump."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from brokers.simulator.accounts import margin_of
from brokers.simulator.book import NOTHING
from brokers.simulator.charges import charges_of
from brokers.simulator.exchange import Exchange
from brokers.simulator.service import Call
from brokers.simulator.web import Answer
from brokers.simulator.zerodha import words
from brokers.simulator.zerodha.answers import bad_input, success
from domain.instruments import Instrument
from domain.orders import Product, Side

_QUOTES_MAX, _LAST_PRICES_MAX = 500, 1000
_PRICE_MAX = 10**9


class Market:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def order_margins(self, call: Call) -> Answer:
        return success([self._margin_row(line) for line in _lines(call)])

    def basket_margins(self, call: Call) -> Answer:
        rows = [self._margin_row(line) for line in _lines(call)]
        total = sum((row["total"] for row in rows), NOTHING)
        whole = {**_empty_margin(), "var": total, "total": total}
        return success({"initial": whole, "final": whole, "orders": rows, "charges": _empty_margin()["charges"]})

    def charges(self, call: Call) -> Answer:
        rows = []
        for line in _lines(call):
            instrument, product, side, quantity = self._traded(line)
            price = _amount(line, "average_price")
            if price <= 0:
                raise bad_input("Missing or empty field `average_price`")
            echoed = ("transaction_type", "tradingsymbol", "exchange", "variety", "product", "order_type", "quantity")
            charges = _charges(instrument, product, side, quantity, price)
            rows.append({name: line.get(name) for name in echoed} | {"price": price, "charges": charges})
        return success(rows)

    def quotes(self, call: Call) -> Answer:
        return success({key: self._quote(instrument) for key, instrument in self._asked(call, _QUOTES_MAX)})

    def ohlc(self, call: Call) -> Answer:
        names = ("instrument_token", "last_price", "ohlc")
        return success({key: {n: self._quote(i)[n] for n in names} for key, i in self._asked(call, _LAST_PRICES_MAX)})

    def last_prices(self, call: Call) -> Answer:
        return success(
            {
                key: {"instrument_token": words.instrument_token(i), "last_price": self._exchange.last(i)}
                for key, i in self._asked(call, _LAST_PRICES_MAX)
            }
        )

    def instruments(self, call: Call) -> Answer:
        wanted = call.path.get("exchange")
        rows = [i for i in self._exchange.listing if wanted is None or i.exchange == wanted]
        return Answer(body=words.instruments_csv(rows), content_type="text/csv")

    def _asked(self, call: Call, most: int) -> Iterator[tuple[str, Instrument]]:
        """The instruments that were asked for; those that nobody knows are left out without a word."""
        keys = call.request.query.get("i", [])
        if len(keys) > most:
            raise bad_input(f"More than {most} instruments.")
        listing = self._exchange.listing
        return ((key, found) for key in keys if (found := listing.get(key)) is not None)

    def _quote(self, instrument: Instrument) -> dict[str, Any]:
        last, now = self._exchange.last(instrument), words.timestamp(self._exchange.now)
        low, high = self._exchange.prices.band(instrument)
        nobody = [{"price": 0, "quantity": 0, "orders": 0}] * 4
        offer = [{"price": last, "quantity": instrument.lot_size * 100, "orders": 5}, *nobody]
        return {
            "instrument_token": words.instrument_token(instrument),
            "timestamp": now,
            "last_trade_time": now,
            "last_price": last,
            "last_quantity": instrument.lot_size,
            "buy_quantity": 0,
            "sell_quantity": 0,
            "volume": 100_000,
            "average_price": last,
            "oi": 0,
            "oi_day_high": 0,
            "oi_day_low": 0,
            "net_change": last - instrument.close,
            "lower_circuit_limit": low,
            "upper_circuit_limit": high,
            "ohlc": {"open": instrument.close, "high": last, "low": last, "close": instrument.close},
            "depth": {"buy": offer, "sell": offer},
        }

    def _traded(self, line: dict[str, Any]) -> tuple[Instrument, Product, Side, int]:
        instrument = self._exchange.listing.get(f"{line.get('exchange')}:{line.get('tradingsymbol')}")
        if instrument is None:
            raise bad_input("Invalid `tradingsymbol`.")
        try:
            return instrument, Product(line["product"]), Side(line["transaction_type"]), int(line["quantity"])
        except (KeyError, ValueError, TypeError):
            raise bad_input("Invalid `product`, `transaction_type` or `quantity`.") from None

    def _margin_row(self, line: dict[str, Any]) -> dict[str, Any]:
        instrument, product, side, quantity = self._traded(line)
        price = _amount(line, "price") or self._exchange.last(instrument)
        total = margin_of(instrument, product, side, quantity, price).rupees
        is_premium = instrument.is_option and side is Side.BUY
        return _empty_margin() | {
            "type": "equity",
            "tradingsymbol": instrument.symbol,
            "exchange": instrument.exchange,
            "span": total if instrument.is_derivative and not is_premium else NOTHING,
            "option_premium": total if is_premium else NOTHING,
            "var": NOTHING if instrument.is_derivative else total,
            "leverage": 5 if product is Product.MIS and not instrument.is_derivative else 1,
            "charges": _charges(instrument, product, side, quantity, price),
            "total": total,
        }


def _lines(call: Call) -> list[dict[str, Any]]:
    try:
        lines = json.loads(call.request.body, parse_float=Decimal)
    except ValueError:
        raise bad_input("The request body is not valid JSON.") from None
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise bad_input("The request body is a list of orders.")
    return lines


def _amount(line: dict[str, Any], name: str) -> Decimal:
    """A price; 0 where it is left out."""
    try:
        amount = Decimal(str(line.get(name) or 0))
        possible = 0 <= amount <= _PRICE_MAX
    except InvalidOperation:
        possible = False
    if not possible:
        raise bad_input(f"Invalid `{name}`.")
    return amount


def _charges(instrument: Instrument, product: Product, side: Side, quantity: int, price: Decimal) -> dict[str, Any]:
    charges = charges_of(instrument, product, side, quantity, price)
    return {
        "transaction_tax": charges.stt.rupees,
        "transaction_tax_type": "stt",
        "exchange_turnover_charge": charges.exchange.rupees,
        "sebi_turnover_charge": charges.sebi.rupees,
        "brokerage": charges.brokerage.rupees,
        "stamp_duty": charges.stamp.rupees,
        "gst": {"igst": charges.gst.rupees, "cgst": 0, "sgst": 0, "total": charges.gst.rupees},
        "total": charges.total.rupees,
    }


def _empty_margin() -> dict[str, Any]:
    names = ("span", "exposure", "option_premium", "additional", "bo", "cash", "var", "leverage", "total")
    charges = dict.fromkeys(
        ("transaction_tax", "exchange_turnover_charge", "sebi_turnover_charge", "brokerage", "stamp_duty", "total"), 0
    )
    return {
        "type": "",
        "tradingsymbol": "",
        "exchange": "",
        **dict.fromkeys(names, 0),
        "pnl": {"realised": 0, "unrealised": 0},
        "charges": {**charges, "transaction_tax_type": "", "gst": {"igst": 0, "cgst": 0, "sgst": 0, "total": 0}},
    }
