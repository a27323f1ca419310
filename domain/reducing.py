"""Reducing: whether an order makes its account's position smaller, whatever else is under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from domain.orders import Product, Side


class Place(NamedTuple):
    """Where a position is held."""

    user_id: str
    account_id: str
    instrument: str
    product: Product


@dataclass(slots=True)
class Standing:
    """A position and what may still change it. Units of the instrument.

    `net` is bought less sold, of what has been filled; `buying` and `selling` are what other orders may still fill.
    Orders that are let through are added to these, so that the next one finds less.
    """

    net: int = 0
    buying: int = 0
    selling: int = 0

    def room(self, side: Side) -> int:
        """How many units an order of that side may fill without ever making the position larger."""
        if side is Side.SELL:
            return max(0, self.net - self.selling)
        return max(0, -self.net - self.buying)

    def beside(self, side: Side, quantity: int) -> Standing:
        """What an order finds that is among those under way itself, and may still fill so much."""
        if side is Side.SELL:
            return Standing(self.net, self.buying, max(0, self.selling - quantity))
        return Standing(self.net, max(0, self.buying - quantity), self.selling)

    def take(self, side: Side, quantity: int) -> None:
        if side is Side.SELL:
            self.selling += quantity
        else:
            self.buying += quantity


def needs_standing(product: Product) -> bool:
    """Whether the position has to be looked at: shares held for delivery can only be sold, and never short."""
    return product is not Product.CNC


def find_breach(place: Place, side: Side, quantity: int, standing: Standing) -> str | None:
    """Why the order doesn't only reduce, with its numbers; None where it does."""
    what = f"{place.instrument} {place.product} at {place.account_id}"
    if not needs_standing(place.product):
        return None if side is Side.SELL else f"a purchase of {what} adds to what is held for delivery"
    room = standing.room(side)
    if quantity <= room:
        return None
    word, pending = ("sell", standing.selling) if side is Side.SELL else ("buy", standing.buying)
    under_way = f", of which orders under way may {word} {pending}" if pending else ""
    return f"the position in {what} is {standing.net}{under_way}: at most {room} can be closed, not {quantity}"
