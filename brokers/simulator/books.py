"""Every order the exchange took, and what of it a broker shows by now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from brokers.simulator.book import SimOrder


class Books:
    """A broker shows the day's orders, and an order only once it is visible; the judge sees `all`."""

    def __init__(self) -> None:
        self.all: dict[str, SimOrder] = {}
        self.day = 1
        self._of_day: dict[str, list[SimOrder]] = {}
        self._tagged: dict[tuple[str, str], list[SimOrder]] = {}

    def enter(self, order: SimOrder) -> None:
        self.all[order.order_id] = order
        if order.day == self.day:
            self._of_day.setdefault(order.account, []).append(order)
            if order.ask.tag is not None:
                self._tagged.setdefault((order.account, order.ask.tag), []).append(order)

    def turn(self) -> None:
        """Begin a new day: its books are empty, but for the orders that wait for the next session."""
        waiting = list(self.live())
        self.day += 1
        self._of_day.clear()
        self._tagged.clear()
        for order in waiting:
            order.day = self.day
            self.enter(order)

    def live(self) -> Iterator[SimOrder]:
        return (order for book in list(self._of_day.values()) for order in list(book) if not order.is_final)

    def of(self, account: str, at: datetime) -> list[SimOrder]:
        return [order for order in self._of_day.get(account, ()) if order.visible_at <= at]

    def find(self, account: str, order_id: str, at: datetime) -> SimOrder | None:
        order = self.all.get(order_id)
        if order is None or order.account != account or order.day != self.day or order.visible_at > at:
            return None
        return order

    def tagged(self, account: str, tag: str, at: datetime) -> list[SimOrder]:
        return [order for order in self._tagged.get((account, tag), ()) if order.visible_at <= at]
