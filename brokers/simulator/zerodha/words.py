"""Zerodha's names for instruments and statuses."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import datetime

from brokers.simulator.book import Status
from brokers.simulator.clock import ist
from domain.instruments import Instrument

# The last byte of an instrument token names its segment.
_SEGMENT_NUMBERS = {"NSE": 1, "NFO": 2, "CDS": 3, "BSE": 4, "BFO": 5, "MCX": 7}
_COLUMNS = [
    "instrument_token",
    "exchange_token",
    "tradingsymbol",
    "name",
    "last_price",
    "expiry",
    "strike",
    "tick_size",
    "lot_size",
    "instrument_type",
    "segment",
    "exchange",
]
_OWN_WORDS = {
    Status.AMO_RECEIVED: "AMO REQ RECEIVED",
    Status.AMO_MODIFY_RECEIVED: "MODIFY AMO REQ RECEIVED",
    Status.AMO_CANCELLED: "CANCELLED AMO",
}


def instrument_token(instrument: Instrument) -> int:
    return instrument.token * 256 + _SEGMENT_NUMBERS[instrument.exchange]


def status_word(status: Status) -> str:
    return _OWN_WORDS.get(status) or status.upper()


def timestamp(moment: datetime | None) -> str | None:
    return None if moment is None else f"{ist(moment):%Y-%m-%d %H:%M:%S}"


def instruments_csv(instruments: Iterable[Instrument]) -> bytes:
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for instrument in instruments:
        segment = f"{instrument.exchange}-{instrument.kind.replace('CE', 'OPT').replace('PE', 'OPT')}"
        rows.writerow(
            (
                instrument_token(instrument),
                instrument.token,
                instrument.symbol,
                instrument.underlying or instrument.name,
                0,
                instrument.expiry.isoformat() if instrument.expiry else "",
                instrument.strike or 0,
                instrument.tick,
                instrument.lot_size,
                instrument.kind,
                segment if instrument.is_derivative else instrument.exchange,
                instrument.exchange,
            )
        )
    return out.getvalue().encode()
