"""Positions: what an account holds at its broker, in one instrument and product."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from domain.orders import Product


@dataclass(frozen=True, slots=True)
class Position:
    """A position as its broker counts it. Quantities are units, negative where more was sold than bought.

    `instrument` is canonical, or None where our master has none by that name; `product` is None for one of the
    broker's own. `average_price` is None where nothing is left.
    """

    instrument: str | None
    name: str  # the broker's own, unique among its instruments
    product: Product | None
    quantity: int
    carried: int  # of it, what earlier days left
    average_price: Decimal | None

    @property
    def of_today(self) -> int:
        """What today's trades made of it: bought less sold."""
        return self.quantity - self.carried
