"""Settings that change while the system runs: an admin's for all, and each user's own. Every default is safe.

A setting's docstring says what it means; `docs/settings.md` and the commands' help are made of these.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DAY_S = 86_400
PAISE_MAX = 10**15  # ₹10,000 crore
_Word = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:\-]*$")]
_Seconds = Annotated[float, Field(gt=0, le=DAY_S)]
Read = Literal["brokers", "history", "intents", "order", "orders", "trades"]

# What every order and account is held to; over REST these are together under `limits`.
LIMITS = (
    "order_value_max_paise",
    "derivative_value_max_paise",
    "quantity_max",
    "open_orders_max",
    "orders_per_s_max",
    "exposure_max_paise",
    "price_deviation_ppm",
    "modify_quantity_delta_max_ppm",
    "modify_price_delta_max_ppm",
    "restricted",
)


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Settings(_Document):
    """An admin's. Amounts are paise. None means no limit."""

    # the door
    max_orders_per_batch: int = Field(default=20, ge=1, le=500)
    """The most lines of one place request."""

    idempotency_window_s: int = Field(default=300, ge=1, le=30 * DAY_S)
    """How long a key is answered as it was at first; as long as a line of its intent is under way in any case."""

    max_unsent_s: int = Field(default=120, ge=1, le=DAY_S)
    """An order that wasn't sent within this time of its acceptance is not sent any more, unless its request says otherwise."""

    admission_age_s: float = Field(default=2.0, gt=0, le=DAY_S)
    """While due work is older than this, new intents are refused with 503."""

    admission_rows: int = Field(default=200_000, ge=1, le=100_000_000)
    """So much due work refuses new intents in place of its age, while RabbitMQ is away."""

    audit_level: Literal["WRITES", "ALL"] = "WRITES"
    """What the audit log has: what people change, or every authenticated read over REST as well, written before its answer."""

    read_policy: dict[Read, Annotated[float, Field(ge=0, le=60)]] = Field(default_factory=dict)
    """How many seconds old an answer may be, by read, to users whose `readConsistency` is EVENTUAL; a read that isn't named, 0."""

    # risk, per account
    order_value_max_paise: int | None = Field(default=50_000_000, ge=0, le=PAISE_MAX)
    """The most that one order in shares may be worth, price times quantity."""

    derivative_value_max_paise: int | None = Field(default=500_000_000, ge=0, le=PAISE_MAX)
    """The most that one order in derivatives may be worth: its notional value, of a bought option its premium."""

    quantity_max: int | None = Field(default=1_000_000, ge=0, le=10**9)
    """The most units of one order."""

    open_orders_max: int | None = Field(default=1_000, ge=0, le=10**6)
    """The most orders of an account that have not ended, the new one included."""

    orders_per_s_max: int | None = Field(default=100, ge=0, le=10**6)
    """The most orders of an account in one calendar second."""

    exposure_max_paise: int | None = Field(default=100_000_000_000, ge=0, le=PAISE_MAX)
    """The most that all open orders of an account may be worth together."""

    price_deviation_ppm: int | None = Field(default=None, ge=0, le=1_000_000)
    """How far a limit price may lie from the reference price on its dear side; without it the circuit band alone counts."""

    modify_quantity_delta_max_ppm: int | None = Field(default=None, ge=0, le=10**9)
    """How far one modify may move a quantity, of what it is."""

    modify_price_delta_max_ppm: int | None = Field(default=None, ge=0, le=10**9)
    """How far one modify may move a price or a trigger price, of what it is."""

    restricted: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(default=(), max_length=800)  # a body has room for these
    """Instruments that nobody may trade here, as EXCHANGE:TRADINGSYMBOL."""

    # margin
    margin_buffer_ppm: int = Field(default=30_000, ge=0, le=10_000_000)
    """What is blocked beyond our estimate of the margin, of the estimate."""

    # routing
    fallback_brokers: tuple[_Word, ...] = Field(default=("upstox", "zerodha"), max_length=32)
    """The brokers of an order for which neither it, its user nor its strategy names one; in this order."""

    strategy_brokers: dict[_Word, _Word] = Field(default_factory=dict)
    """The broker of a strategy's orders, where neither the order nor its user names one."""

    # dispatch
    place_timeout_s: float = Field(default=10.0, gt=0, le=300)
    """How long a call that places, modifies or cancels may take; what it came to is unknown then."""

    read_timeout_s: float = Field(default=10.0, gt=0, le=300)
    """How long a read of a broker's book may take."""

    lease_margin_s: float = Field(default=5.0, gt=0, le=300)
    """How long after a call's time is over its process may still write down what came of it."""

    dispatch_tries: int = Field(default=8, ge=1, le=1_000)
    """How often dispatch tries an order after defects of our own; then it is an operator's."""

    broker_failover_enabled: bool = False
    """What a broker has provably not taken goes to the user's next account, where the order names none."""

    # what is kept
    signals_kept_days: int = Field(default=90, ge=2, le=3_650)
    """How long a signal's delivery is kept; one that was accepted with a nonce is kept for good."""

    schedules_kept_days: int = Field(default=90, ge=1, le=3_650)
    """How long a schedule is kept after the last of its times."""

    answers_kept_days: int = Field(default=90, ge=1, le=3_650)
    """How long a request that makes no intent is answered again under its key, `idempotencyWindowSec` at least; then the key is refused."""

    # cancels
    async_cancel_enabled: bool = True
    """SOFT cancels are taken: they are marked, and done as the broker's rate budget allows."""

    cancel_policy: Literal["BEST_EFFORT", "FAIL_FAST"] = "BEST_EFFORT"
    """How a cancel request that names no policy goes on after a line that could not be cancelled."""

    schedules_max: int = Field(default=200, ge=1, le=10_000)
    """The most scheduled cancels of one user that are still to come."""

    # the unknown
    proof_s: float = Field(default=60.0, gt=0, le=DAY_S)
    """From a call's end until an order that was taken stands in its broker's book for sure."""

    broker_proof_s: dict[_Word, _Seconds] = Field(default_factory=dict)
    """The same, by broker where it differs."""

    cancel_twins: bool = True
    """Of two live orders with one tag, the one that the record doesn't follow is cancelled."""

    unknown_alarm_s: float = Field(default=120.0, gt=0, le=DAY_S)
    """An order that is unknown for longer is told to the operator."""

    # the reconciler: every account against its broker
    reconcile_every_s: float = Field(default=60.0, gt=0, le=DAY_S)
    """How often each account is compared to its broker."""

    book_lag_s: float = Field(default=10.0, gt=0, le=3_600)
    """No broker's book, positions or trades are further behind than that."""

    funds_tolerance_paise: int = Field(default=1_000_000, ge=0, le=PAISE_MAX)
    """How far an account's funds may differ from its broker's before that is told."""

    funds_tolerance_ppm: int = Field(default=250_000, ge=0, le=10_000_000)
    """And how much more, of what is blocked."""


class UserSettings(_Document):
    """What a user has chosen."""

    default_broker: _Word | None = None
    """The broker of your orders that name none; without one, the account that was set up as your default."""

    allow_partial_multi_order: bool = True
    """Lines of a place request are carried out each for itself; else a request that names no policy is ALL_OR_NONE."""

    read_consistency: Literal["EVENTUAL", "STRONG"] = "EVENTUAL"
    """Whether what you read may be as old as the administrator's `readPolicy` allows, or comes from the database each time."""

    auto_retry_on_network_failure: bool = True
    """What was provably not sent is sent again, within the order's time."""
