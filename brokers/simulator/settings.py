"""What the simulator can be told to do differently, while it runs: `PUT /settings`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Windows = dict[int, int]  # seconds of a window, to the calls allowed in it


class Limits(BaseModel):
    """Calls of one account allowed in each calendar window, as the broker's documentation has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    orders: Windows  # place, modify and cancel together
    placements: Windows = {}  # placements alone
    reads: Windows
    quotes: Windows = {}


class Settings(BaseModel):
    """Times in milliseconds of the simulator's clock, unless a name says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step_delay_ms: int = Field(default=5, ge=0)  # from one interim status to the next
    fill_delay_ms: int = Field(default=20, ge=0)  # from open to the first trade
    trade_gap_ms: int = Field(default=30, ge=0)  # between the trades of one order
    cancel_delay_ms: int = Field(default=10, ge=0)  # from "cancel pending" to "cancelled": a fill may win meanwhile
    tick_ms: int = Field(default=1000, ge=10)  # how often prices move and resting orders are looked at
    visibility_delay_ms: int = Field(default=0, ge=0)  # from accepted to first seen in the broker's book
    answer_delay_ms: int = Field(default=0, ge=0)  # of every answer, in real time

    liquidity_max: int | None = Field(default=None, ge=1)  # largest quantity of one trade; None: any
    partial_percent: int = Field(default=30, ge=0, le=100)  # of orders that fill over several trades
    trades_max: int = Field(default=4, ge=1)  # the trades such an order takes at most, where liquidity lets it
    dry_percent: int = Field(
        default=0, ge=0, le=100
    )  # of orders whose market runs dry after the first trade, until a tick
    reject_percent: int = Field(default=0, ge=0, le=100)  # of orders the exchange rejects for no reason of ours

    check_funds: bool = True
    check_holdings: bool = True  # a delivery sell needs holdings or shares bought today
    market_as_limit: bool = False  # a MARKET order is stored as a LIMIT at its protection price
    day_reset_ist: str | None = Field(
        default="03:30", pattern=r"^\d\d:\d\d$"
    )  # the day's book is emptied; None: never by itself
    modifications_max: int = 25  # of one Zerodha order
    upstox_lines_max: int = 10  # of one multi-place, counted after slicing; also of one multi-cancel
    slices_max: int = 10

    rate_limits: bool = True
    multi_counts_lines: bool = True  # a multi-place of n lines counts as n calls
    upstox: Limits = Limits(orders={1: 10, 60: 500, 1800: 2000}, reads={1: 50, 60: 500, 1800: 2000})
    zerodha: Limits = Limits(orders={1: 10, 60: 400}, placements={86_400: 5000}, reads={1: 10}, quotes={1: 1})

    def changed(self, fields: dict[str, Any]) -> Settings:
        """
        Raises:
            pydantic.ValidationError: a field isn't known or its value makes no sense.
        """
        return Settings.model_validate({**self.model_dump(), **fields})
