"""What a broker can do: the facts route and validate narrow their choice by."""

from __future__ import annotations

from dataclasses import dataclass

from domain.orders import OrderType, Product, Validity


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """At most `count` order requests in one window of `seconds`."""

    seconds: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """One broker's abilities and limits; each number with its source in the adapter that declares it."""

    broker: str
    exchanges: frozenset[str]
    products: frozenset[Product]
    order_types: frozenset[OrderType]
    validities: frozenset[Validity]
    lines_per_call: int = 1  # above 1: the broker has a multi-place
    tag_length: int = 19
    modifies_max: int | None = None  # modifies that one order may have; None: no limit is documented
    needs_market_protection: bool = False
    signs_postbacks: bool = False
    order_windows: tuple[Window, ...] = ()  # per account: place, modify and cancel together
    read_windows: tuple[Window, ...] = ()
    call_slots: int = 8  # calls to it that may be under way at once, per process
    keeps_book: bool = True  # without, there is nothing that the record could be compared to
