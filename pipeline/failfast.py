"""FAIL_FAST: whose turn it is among the lines of an intent that go one after another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from domain.cancels import CancelPolicy, waits_its_turn
from domain.changes import Change, Result
from store import changes, intents
from store.unit import Unit

WAIT_LEAST, WAIT_MAX = timedelta(seconds=1), timedelta(seconds=60)
PER_LINE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether a line may go: once nothing before it is under way, and if nothing before it has failed."""

    behind: int = 0  # how many lines it is away from the one that is under way
    is_skipped: bool = False

    @property
    def wait(self) -> timedelta:
        """Until it looks again by itself: it is woken once it is next, so that this grows with the distance."""
        return min(WAIT_MAX, max(WAIT_LEAST, self.behind * PER_LINE))


GO = Turn()


@dataclass(slots=True)
class _Intent:
    undone: set[tuple[int, str]] = field(default_factory=set)  # line, order
    failed: int | None = None  # the first line that ended otherwise than CANCELLED
    has_moved: bool = False

    def settle(self, line: int, order_id: str, result: Result) -> None:
        self.undone.discard((line, order_id))
        if result not in (Result.CANCELLED, Result.SKIPPED):
            self.failed = line if self.failed is None else min(self.failed, line)


class Lines:
    """The lines of the FAIL_FAST intents among some changes, as they are on record and as a batch settles them."""

    def __init__(self, rows: Iterable[tuple[str, int, str, Result | None]]) -> None:
        """Of rows (intent, line, order, result)."""
        self._intents: dict[str, _Intent] = {}
        for intent_id, line, order_id, result in rows:
            intent = self._intents.setdefault(intent_id, _Intent())
            if result is None:
                intent.undone.add((line, order_id))
            else:
                intent.settle(line, order_id, result)

    def turn(self, change: Change) -> Turn:
        intent = self._intents.get(change.intent_id)
        if intent is None or not waits_its_turn(change.wanted):
            return GO
        if intent.failed is not None and intent.failed < change.line:
            return Turn(is_skipped=True)
        first = min(intent.undone, default=(change.line, ""))[0]
        return Turn(behind=max(0, change.line - first))

    def settled(self, change: Change) -> None:
        """A change of the batch has its result."""
        intent = self._intents.get(change.intent_id)
        if intent is not None and change.result is not None:
            intent.settle(change.line, change.order_id, change.result)
            intent.has_moved = True

    def wake_next(self, unit: Unit, at: datetime) -> bool:
        """Whose turn it has become is due at once, or all that is skipped; gives whether anything is."""
        is_any = False
        for intent_id, intent in self._intents.items():
            if intent.has_moved and intent.undone:
                last = None if intent.failed is not None else min(intent.undone)[0]
                changes.hasten_lines(unit, intent_id, last, at)
                is_any = True
        return is_any


def lines_of(unit: Unit, found: Mapping[tuple[str, int], Change]) -> Lines:
    """The lines of the FAIL_FAST intents among these changes.

    The intents are locked: another worker with lines of theirs in hand reads after this one's commit what it has settled.
    """
    wanted: Sequence[str] = sorted(
        {change.intent_id for change in found.values() if change.wanted.get("policy") == CancelPolicy.FAIL_FAST}
    )
    if not wanted:
        return Lines(())
    intents.lock(unit, wanted)
    return Lines(changes.lines_of(unit, wanted))
