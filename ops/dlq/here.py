"""What the `dlq` commands share: the screen and the desk, which orders are meant, who acts and why."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyclopts import Parameter

from ops.commandline import Flag
from ops.exits import Ended, Exit, Failed
from ops.operating import Options, open_desk
from ops.screen import Screen

if TYPE_CHECKING:
    from pipeline.deadletters import By
    from pipeline.desk import Desk
    from store.stuck import Wanted

FULL_ID = 36
SEARCHED = 10_000  # stopped orders among which the end of an id is looked for

MENDS = {
    "MAY_HAVE_BEEN_SENT": "coordinator dlq explain ID says what may be done; coordinator dlq settle, once you have evidence.",
    "NOT_STUCK": "Only what is stuck is listed: coordinator dlq list",
    "NOT_UNKNOWN": "coordinator dlq explain ID says what may be done.",
    "CONTRADICTED": "coordinator dlq explain ID tells each call and its answer.",
    "NOT_FOUND": "coordinator dlq list, coordinator dlq list --unknown",
    "STORE_UNAVAILABLE": "coordinator doctor",
}


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Matching:
    """Which of what has stopped is meant."""

    stage: str | None = None
    """Only what is stuck there, such as margin or dispatch.upstox."""

    broker: str | None = None
    """Only orders for this broker."""

    account: str | None = None
    """Only orders of this account."""

    error: str | None = None
    """Only those with this text in their last error."""

    parked: Flag = False
    """Those that are parked, instead of those that aren't."""

    def wanted(self, *states: str) -> Wanted:
        from store.stuck import Wanted

        return Wanted(
            states=states,
            stage=self.stage,
            broker=self.broker.lower() if self.broker else None,
            account=self.account,
            error=self.error,
            parked=self.parked,
        )

    @property
    def is_narrow(self) -> bool:
        return any((self.stage, self.broker, self.account, self.error, self.parked))


ALL = Matching()


@contextmanager
def desk_here(options: Options) -> Iterator[tuple[Screen, Desk]]:
    """The screen and a desk; a refusal within is told and ends the command."""
    from domain.errors import CoordinatorError, Malformed, StoreAway
    from store.unit import is_passing

    screen = Screen(json=options.json)
    try:
        with open_desk() as desk:
            yield screen, desk
    except Failed as failed:
        screen.failure(failed)
        raise Ended(failed.exit_code) from None
    except Exception as raised:
        error = StoreAway("the database is busy; try again") if is_passing(raised) else raised
        if not isinstance(error, CoordinatorError):
            raise
        faults = error.faults if isinstance(error, Malformed) else ()
        told = "that can't be so:" if faults else str(error)
        lines = tuple(f"{fault.pointer.lstrip('/')}: {fault.detail} [{fault.code}]" for fault in faults)
        screen.failure(Failed(Exit.ERROR, told, mend=MENDS.get(error.code, ""), code=error.code), lines=lines)
        raise Ended(Exit.ERROR) from None


def whole_id(desk: Desk, text: str) -> str:
    """The full id of a stopped order given by the end of it; a full id is taken as it is."""
    from pipeline import stuck

    if len(text) >= FULL_ID:
        return text
    found = [str(item["orderId"]) for item in stuck.list_stuck(desk, stuck.ANY, limit=SEARCHED).rows]
    ends = [order_id for order_id in found if order_id.endswith(text)]
    if len(ends) > 1:
        raise Failed(Exit.USAGE, f"{len(ends)} stopped orders end in {text}", mend="Give more of the id.")
    if not ends:
        raise Failed(
            Exit.ERROR, f"no stuck or unknown order ends in {text}", mend=MENDS["NOT_FOUND"], code="NOT_FOUND"
        )
    return ends[0]


def by_whom(operator: str | None, reason: str) -> By:
    """Who acts: the one named, else the user of this machine. Raises Failed where no reason is given."""
    from pipeline.deadletters import By

    return By(operator=operator or getpass.getuser(), reason=given(reason, "reason"))


def given(text: str, what: str) -> str:
    if not text.strip():
        raise Failed(
            Exit.USAGE, f"the {what} is empty", mend="Say it in a few words, for who reads the audit log."
        )
    return text.strip()
