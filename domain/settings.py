"""Settings an admin may change while the system runs; every one has a default that is safe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Amounts are paise. None means no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # the door
    max_orders_per_batch: int = Field(default=20, ge=1, le=500)
    idempotency_window_s: int = Field(default=300, ge=1)
    max_unsent_s: int = Field(default=120, ge=1)  # past it an unsent order is EXPIRED_UNSENT
    admission_age_s: float = Field(default=2.0, gt=0)  # due work older than this: new intents get 503
    admission_rows: int = Field(default=200_000, ge=1)  # due rows: counts in place of the age while RabbitMQ is away

    # risk, per account
    order_value_max_paise: int | None = 50_000_000  # ₹5,00,000 for equity
    derivative_value_max_paise: int | None = 500_000_000  # ₹50,00,000 notional
    quantity_max: int | None = 1_000_000
    open_orders_max: int | None = 1_000
    orders_per_s_max: int | None = 100
    exposure_max_paise: int | None = 100_000_000_000
    price_deviation_ppm: int | None = None  # from the reference price; None: the band alone
    modify_quantity_delta_max_ppm: int | None = Field(default=None, ge=0)  # how far one modify moves a quantity
    modify_price_delta_max_ppm: int | None = Field(default=None, ge=0)  # or a price or trigger price, of what they are
    restricted: tuple[str, ...] = ()  # instruments nobody may trade here

    # margin
    margin_buffer_ppm: int = Field(default=30_000, ge=0)

    # routing
    fallback_brokers: tuple[str, ...] = ("upstox", "zerodha")
    strategy_brokers: dict[str, str] = Field(default_factory=dict)

    # dispatch
    place_timeout_s: float = Field(default=10.0, gt=0)
    read_timeout_s: float = Field(default=10.0, gt=0)
    lease_margin_s: float = Field(default=5.0, gt=0)
    dispatch_tries: int = Field(default=8, ge=1)

    broker_failover_enabled: bool = False  # from what was provably not taken, to the user's next account

    # cancels
    async_cancel_enabled: bool = True  # SOFT cancels are taken
    cancel_policy: Literal["BEST_EFFORT", "FAIL_FAST"] = "BEST_EFFORT"  # of a request that names none

    # the unknown: from a call's end until an order that was taken surely stands in the book; per broker where it differs
    proof_s: float = Field(default=60.0, gt=0)
    broker_proof_s: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    cancel_twins: bool = True  # of two live orders with one tag, the one that the record doesn't follow
    unknown_alarm_s: float = Field(default=120.0, gt=0)  # an order that is unknown for longer is told to the operator

    # the reconciler: every account against its broker
    reconcile_every_s: float = Field(default=60.0, gt=0)
    book_lag_s: float = Field(default=10.0, gt=0)  # no broker's book, positions or trades are further behind than that
    funds_tolerance_paise: int = Field(default=1_000_000, ge=0)  # ₹10,000, and of what is blocked so much more:
    funds_tolerance_ppm: int = Field(default=250_000, ge=0)


class UserSettings(BaseModel):
    """What a user has chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auto_retry_on_network_failure: bool = True  # send again what was provably not sent
    allow_partial_multi_order: bool = True  # else a request that names no policy is ALL_OR_NONE
