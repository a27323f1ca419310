"""Money in paise and prices as exact decimals; nothing here is ever a float."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

PAISE_PER_RUPEE = 100


@dataclass(frozen=True, order=True, slots=True)
class Money:
    """An amount of Indian rupees, held in paise (1 rupee = 100 paise).

    Money adds to Money and scales by a whole number, and by nothing else, so a
    price can't be added to a quantity. Shown as "₹1,23,456.50" (Indian grouping).
    """

    paise: int

    def __add__(self, other: Money) -> Money:
        return Money(self.paise + other.paise)

    def __sub__(self, other: Money) -> Money:
        return Money(self.paise - other.paise)

    def __mul__(self, times: int) -> Money:
        return Money(self.paise * times)

    def __neg__(self) -> Money:
        return Money(-self.paise)

    def __bool__(self) -> bool:
        return self.paise != 0

    def __str__(self) -> str:
        rupees, paise = divmod(abs(self.paise), PAISE_PER_RUPEE)
        sign = "-" if self.paise < 0 else ""
        return f"{sign}₹{_grouped(rupees)}.{paise:02d}"

    @property
    def rupees(self) -> Decimal:
        return Decimal(self.paise).scaleb(-2)

    @classmethod
    def of_rupees(cls, rupees: Decimal) -> Money:
        """Rounded half up to the paisa."""
        return cls(int((rupees * PAISE_PER_RUPEE).quantize(Decimal(1), ROUND_HALF_UP)))


ZERO = Money(0)


def value_of(price: Decimal, quantity: int, multiplier: int = 1) -> Money:
    """Price times quantity times the contract's multiplier, rounded half up once, to the paisa."""
    return Money.of_rupees(price * quantity * multiplier)


def _grouped(rupees: int) -> str:
    """Digits in the Indian grouping: the last three together, then by twos."""
    digits = str(rupees)
    head, tail = digits[:-3], digits[-3:]
    pairs: list[str] = []
    while head:
        pairs.insert(0, head[-2:])
        head = head[:-2]
    return ",".join([*pairs, tail])
