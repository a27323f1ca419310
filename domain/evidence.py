"""Evidence: what complete reads of an account's book prove of an order whose call ended without a documented answer.

One read in which its tag stands: it was taken. None proves that it wasn't, but two do, when each could not have missed
it: of the same account and the same book day, begun after everything that may delay an order's appearance has passed,
and a while apart. Time alone proves nothing, and a day's end takes the book with it.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

IST = ZoneInfo("Asia/Kolkata")
CLEAN_READS = 2
SEEN = -1  # in place of a count of clean reads: its tag stood in the book once, so it was taken
APART = timedelta(seconds=5)  # between two reads that count
LOOKS_S = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 30.0)  # waits between looks; the last goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One order that is looked for. `fence` is the number of the attempt nobody knows the end of; all times UTC."""

    order_id: str
    account_id: str
    fence: int
    asked_at: datetime  # when the attempt was committed
    proof_from: datetime  # a read that began before proves no absence
    next_at: datetime
    looks: int = 0
    clean_reads: int = 0
    clean_at: datetime | None = None  # when the last read that counts began

    @property
    def is_absent(self) -> bool:
        """Whether the order is proven not to have been taken."""
        return self.clean_reads >= CLEAN_READS


def book_day(moment: datetime) -> date:
    """The Indian day that a broker's book of that moment is about; every broker empties its book between two of them."""
    return moment.astimezone(IST).date()


def search(
    order_id: str, account_id: str, fence: int, *, asked_at: datetime, ended_at: datetime, proof: timedelta, now: datetime
) -> Search:
    """A search that begins now.

    Args:
        asked_at: when the attempt was committed.
        ended_at: when the call gave up, or its lease ended.
        proof: the longest time from there until an order that was taken stands in the book: the broker's latest
            acceptance after the client's timeout, and its longest delay of visibility. 60 s in all by default.
    """
    return Search(
        order_id=order_id,
        account_id=account_id,
        fence=fence,
        asked_at=asked_at,
        proof_from=ended_at + proof,
        next_at=now + timedelta(seconds=LOOKS_S[0]),
    )


def weigh(searched: Search, tag: str, *, shown: Set[str], began: datetime, ended: datetime) -> Search:
    """The search after one complete, successful read of its account's book, which showed these tags.

    A read in which the tag stands settles it: whatever later ones don't show, the order was taken, and the report of that
    read will say so once it is applied.
    """
    looks = searched.looks + 1
    wait_s = LOOKS_S[min(looks, len(LOOKS_S) - 1)]
    next_at = ended + timedelta(seconds=wait_s)
    if ended < searched.proof_from <= next_at:
        next_at = searched.proof_from
    after = replace(searched, looks=looks, next_at=next_at)
    if tag in shown or searched.clean_reads == SEEN:
        return replace(after, clean_reads=SEEN, clean_at=None)
    same_day = book_day(searched.asked_at) == book_day(began) == book_day(ended)
    apart = searched.clean_at is None or began - searched.clean_at >= APART
    if began < searched.proof_from or not same_day or not apart:
        return after
    clean_reads = searched.clean_reads + 1
    if clean_reads < CLEAN_READS:
        next_at = ended + APART
    return replace(after, clean_reads=clean_reads, clean_at=began, next_at=next_at)
