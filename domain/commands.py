"""A command: the unit that moves through the stages, one per order and instruction (FIX: NewOrderSingle and kin)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class CommandKind(StrEnum):
    PLACE = "PLACE"
    MODIFY = "MODIFY"
    CANCEL = "CANCEL"


class CommandState(StrEnum):
    READY = "READY"  # its stage may take it once it is due
    HELD = "HELD"  # waits for its group
    SENDING = "SENDING"  # an attempt is committed; its call may be under way until its lease ends
    UNKNOWN = "UNKNOWN"  # its call ended without a documented answer
    STUCK = "STUCK"  # out of tries; an operator's
    DONE = "DONE"


@dataclass(slots=True, kw_only=True)
class Command:
    """Where one instruction stands. `attempts` counts failed tries at the present stage, `deaths` workers it killed."""

    order_id: str
    seq: int
    kind: CommandKind
    stage: str
    state: CommandState
    due_at: datetime  # UTC: not to be worked on before
    lease_until: datetime | None = None  # SENDING: past it the call counts as ended without an answer
    attempts: int = 0
    deaths: int = 0
    fence: int = 0  # the number of its newest attempt
    error: str | None = None
    done_at: datetime | None = None

    def go_to(self, stage: str, at: datetime) -> None:
        """Ready at another stage, with a clean count of tries."""
        self.stage, self.state, self.due_at = stage, CommandState.READY, at
        self.attempts, self.deaths, self.error = 0, 0, None

    def hold(self, stage: str, until: datetime) -> None:
        """Nobody takes it before its group lets it go, or its time is over."""
        self.go_to(stage, until)
        self.state, self.error = CommandState.HELD, "waits for its group"

    def finish(self, stage: str, at: datetime) -> None:
        self.stage, self.state, self.due_at, self.done_at = stage, CommandState.DONE, at, at
        self.attempts, self.deaths, self.error = 0, 0, None
