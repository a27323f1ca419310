"""Changes: a modify or a cancel of an order, beside the command that carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from domain.lifecycle import OrderState

ATTEMPTS_OF_A_SEQ = 1_000_000  # a change's attempts are numbered from its seq times this: a placement's stay below


class Told(StrEnum):
    """How the newest call of a change ended. None of them is the last word: the order's book has that."""

    ACCEPTED = "ACCEPTED"  # asked for
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    NOT_SENT = "NOT_SENT"


class Result(StrEnum):
    """What came of a change. Until there is one, nobody knows."""

    CANCELLED = "CANCELLED"
    MODIFIED = "MODIFIED"
    FILLED = "FILLED"  # meanwhile
    ENDED = "ENDED"  # meanwhile: rejected, expired, or cancelled by another
    REFUSED = "REFUSED"  # by the broker or a stage of ours: the order lives on as it was
    NOT_APPLIED = "NOT_APPLIED"  # its answer was lost, and the broker's book shows the old terms
    SKIPPED = "SKIPPED"  # not tried: a line before it failed and the intent wanted to stop there, or an operator gave it up
    EXPIRED = "EXPIRED"  # not sent in time


@dataclass(slots=True, kw_only=True)
class Change:
    """One line of an intent that changes orders. `seq` is its command's; times are UTC.

    `wanted` are the terms that a modify asks for, or how a cancel is to be done. A read of the account's book that
    began after `proof_from` shows what the newest call has brought about.
    """

    order_id: str
    seq: int
    intent_id: str
    line: int
    wanted: Mapping[str, Any]
    asked_at: datetime
    told: Told | None = None
    told_detail: str | None = None
    proof_from: datetime | None = None
    result: Result | None = None
    reason_code: str | None = None
    reason: str | None = None
    settled_at: datetime | None = field(default=None)

    def settle(self, result: Result, at: datetime, *, code: str | None = None, reason: str | None = None) -> None:
        self.result, self.reason_code, self.reason, self.settled_at = result, code, reason, at


def attempt_number(seq: int, fence: int) -> int:
    """The number of a change's attempt among all attempts of its order."""
    return seq * ATTEMPTS_OF_A_SEQ + fence


def result_of_end(state: OrderState, *, cancel: bool) -> Result:
    """What came of a change whose order has ended."""
    if state is OrderState.FILLED:
        return Result.FILLED
    return Result.CANCELLED if cancel and state is OrderState.CANCELLED else Result.ENDED
