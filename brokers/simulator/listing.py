"""The instruments that can be traded here, by whatever name a broker has for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import Any

from domain.instruments import Instrument
from domain.reference import all_instruments

Source = Callable[[date], Iterable[Instrument]]


class Listing:
    """The day's instruments; those of earlier days stay known, so that positions in them keep their name."""

    def __init__(self, source: Source, today: date) -> None:
        self._source = source
        self._by_key: dict[str, Instrument] = {}
        self._indexes: dict[Callable[[Instrument], Any], Mapping[Any, Instrument]] = {}
        self.renew(today)

    def renew(self, today: date) -> None:
        self.today = today
        self._by_key.update({instrument.key: instrument for instrument in self._source(today)})
        self._indexes.clear()

    def __getitem__(self, key: str) -> Instrument:
        return self._by_key[key]

    def __iter__(self) -> Iterator[Instrument]:
        """Today's instruments."""
        return (i for i in self._by_key.values() if i.expiry is None or i.expiry >= self.today)

    def get(self, key: str) -> Instrument | None:
        return self._by_key.get(key)

    def by(self, name: Callable[[Instrument], Any]) -> Mapping[Any, Instrument]:
        """Today's instruments by the name that the function gives them."""
        if name not in self._indexes:
            self._indexes[name] = {name(instrument): instrument for instrument in self}
        return self._indexes[name]


def reference_instruments(today: date) -> Iterable[Instrument]:
    """The project's own reference data."""
    return all_instruments(today).values()
