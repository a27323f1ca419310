"""What can go wrong, shaped by what the caller can do about it.

    CoordinatorError
    ├── Refused            the request can't be done as it stands; nothing was stored
    │   ├── Malformed          its form is wrong: the fields and how to mend them
    │   ├── NotAuthenticated   no key, or one that isn't known
    │   ├── NotAllowed         the key may not do this
    │   ├── NotFound           nothing of that id that the caller may see
    │   ├── KeyReused          the idempotency key belongs to another request
    │   ├── KeySpent           the idempotency key's window is over
    │   ├── NoSuchSignal       no such signal strategy, or a wrong secret
    │   ├── SignalsDisabled    the signal strategy is switched off
    │   ├── NonceReused        the signal's nonce belongs to another order
    │   ├── SoftCancelDisabled the administrator allows no soft cancels
    │   ├── ScheduleOver       nothing of the schedule is left to remove
    │   ├── StaleVersion       the order was changed since the client read it
    │   ├── NotModifiable      the order, as it stands, can't be modified, or not so
    │   └── StaleDocument      a switch or settings were changed since the client read them
    └── Busy               the request is fine; try again after `retry_after_s`
        ├── Overloaded         more work is waiting than the stages can finish in time
        ├── TooManyRequests    this key's rate limit
        └── StoreAway          the database can't be reached

HTTP is added in `ingress/problems.py` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from domain.orders import Order


class CoordinatorError(Exception):
    code: ClassVar[str] = "ERROR"


class Refused(CoordinatorError):
    code: ClassVar[str] = "REFUSED"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (a JSON pointer), a stable code, and the mend in words."""

    pointer: str
    code: str
    detail: str


class Malformed(Refused):
    code: ClassVar[str] = "MALFORMED"

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults))
        self.faults = faults


class NotAuthenticated(Refused):
    code: ClassVar[str] = "NOT_AUTHENTICATED"


class NotAllowed(Refused):
    code: ClassVar[str] = "NOT_ALLOWED"


class NotFound(Refused):
    code: ClassVar[str] = "NOT_FOUND"

    def __init__(self, noun: str, wanted: str) -> None:
        super().__init__(f"no {noun} {wanted} that this key may see")


class KeyReused(Refused):
    """The same Idempotency-Key came with another request; use a new key for a new request."""

    code: ClassVar[str] = "IDEMPOTENCY_KEY_REUSED"


class KeySpent(Refused):
    """The key's window is over and its work is done; `intent_id` tells what came of it."""

    code: ClassVar[str] = "IDEMPOTENCY_KEY_SPENT"

    def __init__(self, intent_id: str) -> None:
        super().__init__(f"this Idempotency-Key made intent {intent_id}, and its window is over; nothing was sent again")
        self.intent_id = intent_id


class NoSuchSignal(Refused):
    """One sentence for both, so that nobody learns which strategies there are."""

    code: ClassVar[str] = "NOT_AUTHENTICATED"

    def __init__(self) -> None:
        super().__init__("there is no such signal strategy, or the secret is wrong")


class SignalsDisabled(Refused):
    code: ClassVar[str] = "SIGNALS_DISABLED"

    def __init__(self, name: str) -> None:
        super().__init__(f"the signal strategy {name} is switched off; nothing was placed")


class NonceReused(Refused):
    """A new nonce for a new order; the same one repeats the order that it came with first."""

    code: ClassVar[str] = "NONCE_REUSED"

    def __init__(self) -> None:
        super().__init__("this nonce came with another order before; nothing was placed")


class SoftCancelDisabled(Refused):
    """`asyncCancelEnabled` is off: ask for a HARD cancel."""

    code: ClassVar[str] = "SOFT_CANCEL_DISABLED"


class ScheduleOver(Refused):
    """It was carried out, is just being, or was removed; the schedule itself tells which."""

    code: ClassVar[str] = "SCHEDULE_OVER"


class StaleVersion(Refused):
    """The order was changed since the client read it; read it again, then decide."""

    code: ClassVar[str] = "STALE_VERSION"

    def __init__(self, order_id: str, *, expected: int, found: int, current: Order | None = None) -> None:
        super().__init__(f"order {order_id} is at version {found}, not {expected}")
        self.order_id, self.expected, self.found, self.current = order_id, expected, found, current


class NotModifiable(Refused):
    """The order can't be modified, or not so: `why` is a stable code for it, `current` the order as it stands."""

    code: ClassVar[str] = "ORDER_NOT_MODIFIABLE"

    def __init__(self, order_id: str, *, why: str, words: str, current: Order | None = None) -> None:
        super().__init__(f"order {order_id} can't be modified so: {words}")
        self.order_id, self.why, self.words, self.current = order_id, why, words, current


class StaleDocument(Refused):
    """A switch or a document of settings was changed since the client read it; read it again, then decide."""

    code: ClassVar[str] = "STALE_DOCUMENT"

    def __init__(self, name: str, *, expected: int, found: int) -> None:
        super().__init__(f"{name} is at version {found}, not {expected}")
        self.expected, self.found = expected, found


class Busy(CoordinatorError):
    code: ClassVar[str] = "BUSY"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Busy):
    code: ClassVar[str] = "OVERLOADED"


class TooManyRequests(Busy):
    code: ClassVar[str] = "RATE_LIMITED"


class StoreAway(Busy):
    code: ClassVar[str] = "STORE_UNAVAILABLE"
