"""The cash instruments of NSE and BSE that come with the project."""

from __future__ import annotations

from decimal import Decimal

from domain.instruments import Instrument, Kind, Segment
from domain.reference.tables import read


def cash() -> tuple[Instrument, ...]:
    return tuple(
        Instrument(
            key=f"{row['exchange']}:{row['symbol']}",
            exchange=row["exchange"],
            symbol=row["symbol"],
            segment=Segment.CASH,
            kind=Kind.EQUITY,
            name=row["name"],
            series=row["series"],
            isin=row["isin"],
            token=int(row["token"]),
            lot_size=1,
            tick=Decimal(row["tick"]),
            freeze_quantity=int(row["freeze_quantity"]),
            band_percent=Decimal(row["band_percent"]) if row["band_percent"] else None,
            close=Decimal(row["close"]),
            source=f"{row['source']}, {row['as_of']}",
        )
        for row in read("cash")
    )
