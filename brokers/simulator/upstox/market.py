"""Upstox's answers about instruments: margin, brokerage, last prices, the instruments file."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import orjson

from brokers.simulator.accounts import margin_of
from brokers.simulator.book import NOTHING
from brokers.simulator.charges import charges_of
from brokers.simulator.exchange import Exchange
from brokers.simulator.service import Call
from brokers.simulator.upstox import words
from brokers.simulator.upstox.answers import BAD_INPUT, UNKNOWN_PATH, Problem, Refused, success
from brokers.simulator.upstox.asks import as_number, body_of
from brokers.simulator.web import Answer
from domain.instruments import Instrument
from domain.orders import Side

_KEYS_MAX = 500
_MARGIN_LINES_MAX = 20
_AMOUNT_MAX = 10**9


class Market:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def margin(self, call: Call) -> Answer:
        lines = body_of(call.request)
        lines = lines.get("instruments") if isinstance(lines, dict) else None
        if not isinstance(lines, list) or not lines or not all(isinstance(line, dict) for line in lines):
            raise Refused(BAD_INPUT)
        if len(lines) > _MARGIN_LINES_MAX:
            raise Refused(Problem("UDAPI1102", f"More than {_MARGIN_LINES_MAX} instruments", "instruments"))
        rows = [self._margin_row(line) for line in lines]
        total = sum((row["total_margin"] for row in rows), Decimal(0))
        return success({"margins": rows, "required_margin": total, "final_margin": total})

    def brokerage(self, call: Call) -> Answer:
        first = call.request.first
        instrument = self._instrument(first("instrument_token"), "UDAPI1059")
        product = words.product(first("product") or "", instrument)
        try:
            quantity, price = int(first("quantity") or ""), Decimal(first("price") or "")
            side = Side(first("transaction_type") or "")
            possible = 0 < quantity <= _AMOUNT_MAX and 0 < price <= _AMOUNT_MAX
        except (ValueError, ArithmeticError):
            raise Refused(BAD_INPUT) from None
        if product is None or not possible:
            raise Refused(Problem("UDAPI1064", "The quantity, price or product is invalid"))
        charges = charges_of(instrument, product, side, quantity, price)
        other = {"transaction": charges.exchange.rupees, "clearing": 0.0, "sebi_turnover": charges.sebi.rupees}
        plan = {"name": "SIM", "min_expense": 0.0}
        row = {
            "total": charges.total.rupees,
            "brokerage": charges.brokerage.rupees,
            "taxes": {"gst": charges.gst.rupees, "stt": charges.stt.rupees, "stamp_duty": charges.stamp.rupees},
            "other_charges": {**other, "ipft": 0.0},
            "otherTaxes": other,
            "dp_plan": plan,
            "dpPlan": plan,
        }
        return success({"charges": row})

    def last_prices_v3(self, call: Call) -> Answer:
        return success(
            {
                f"{words.segment(i)}:{words.listed_symbol(i)}": {
                    "last_price": self._exchange.last(i),
                    "instrument_token": words.instrument_key(i),
                    "ltq": i.lot_size,
                    "volume": 100_000,
                    "cp": i.close,
                }
                for i in self._quoted(call)
            }
        )

    def last_prices_v2(self, call: Call) -> Answer:
        return success(
            {
                f"{words.segment(i)}:{words.listed_symbol(i)}": {
                    "last_price": self._exchange.last(i),
                    "instrument_token": words.instrument_key(i),
                }
                for i in self._quoted(call)
            }
        )

    def instruments_file(self, call: Call) -> Answer:
        """The gzipped JSON master; of one exchange, or `complete`."""
        wanted = call.path["name"]
        if wanted not in ("complete", "NSE", "BSE"):
            raise Refused(UNKNOWN_PATH)
        rows = [
            row
            for row in map(words.instrument_row, self._exchange.listing)
            if wanted == "complete" or row["exchange"] == wanted
        ]
        return Answer(body=gzip.compress(orjson.dumps(rows, default=float), 5), content_type="application/gzip")

    def _quoted(self, call: Call) -> Iterable[Instrument]:
        keys = [key for key in (call.request.first("instrument_key") or "").split(",") if key]
        if not keys:
            raise Refused(Problem("UDAPI1009", "Instrument key is required", "instrument_key"))
        if len(keys) > _KEYS_MAX:
            raise Refused(Problem("UDAPI100043", f"More than {_KEYS_MAX} instrument keys", "instrument_key"))
        return [self._instrument(key, "UDAPI1087") for key in keys]

    def _instrument(self, key: Any, code: str) -> Instrument:
        found = self._exchange.listing.by(words.instrument_key).get(key) if isinstance(key, str) else None
        if found is None:
            raise Refused(Problem(code, "The instrument key is invalid", "instrument_key", key))
        return found

    def _margin_row(self, line: dict[str, Any]) -> dict[str, Any]:
        instrument = self._instrument(line.get("instrument_key"), "UDAPI1099")
        product, quantity = words.product(str(line.get("product")), instrument), line.get("quantity")
        if product is None:
            raise Refused(Problem("UDAPI1100", "The product is required", "product"))
        if not isinstance(quantity, int) or not 0 < quantity <= _AMOUNT_MAX:
            raise Refused(Problem("UDAPI1096", "The quantity must be above 0", "quantity", quantity))
        if quantity % instrument.lot_size:
            raise Refused(Problem("UDAPI1104", "The quantity is not a multiple of the lot size", "quantity", quantity))
        if line.get("transaction_type") not in ("BUY", "SELL"):
            raise Refused(Problem("UDAPI1101", "The transaction type is required", "transaction_type"))
        side, price = Side(line["transaction_type"]), as_number(line.get("price") or 0)
        total = margin_of(instrument, product, side, quantity, price or self._exchange.last(instrument)).rupees
        premium = total if instrument.is_option and side is Side.BUY else NOTHING
        future = total - premium if instrument.is_derivative else NOTHING
        return {
            "span_margin": future,
            "exposure_margin": 0.0,
            "equity_margin": NOTHING if instrument.is_derivative else total,
            "net_buy_premium": premium,
            "additional_margin": 0.0,
            "total_margin": total,
            "tender_margin": 0.0,
        }
