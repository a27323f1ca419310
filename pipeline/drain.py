"""A drain: one act for everything stuck that matches, some orders at a time, each part in a transaction of its own.

It goes once through the orders by their ids. Killed midway, what was done is done, and the rest is as it was: the same
drain, begun again, finds what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from domain.errors import Refused
from pipeline import letters
from pipeline.chain import all_stages
from pipeline.crash import crash
from pipeline.deadletters import Act, By, Done, act_on, discard_one, requeue_one
from pipeline.desk import Desk
from pipeline.refusals import Case, cases_of, refuse_to_discard, refuse_to_requeue
from store import stuck
from store.stuck import Wanted

PART = 50  # orders in one transaction
TOLD_MAX = 1_000  # refusals that are kept to be told; the others are counted


@dataclass(frozen=True, slots=True)
class _Drain:
    act: Act
    refuse: Callable[[Case], None]


DRAINS = {"requeue": _Drain(requeue_one, refuse_to_requeue), "discard": _Drain(discard_one, refuse_to_discard)}


@dataclass(slots=True)
class Drained:
    """How far a drain has come."""

    done: int = 0
    refused: int = 0
    refusals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return self.done + self.refused

    def add(self, part: dict[str, Any]) -> None:
        self.done += len(part["done"])
        self.refused += len(part["refused"])
        self.refusals += part["refused"][: TOLD_MAX - len(self.refusals)]


def drain(
    desk: Desk, what: str, wanted: Wanted, by: By, *, dry: bool = False, told: Callable[[Drained], None] = lambda _: None
) -> Drained:
    """Requeue or discard everything stuck that matches; with `dry` only say what would be done, and what refused."""
    drained, after = Drained(), None
    while True:
        part = drain_part(desk, what, wanted, by, after=after, limit=PART, dry=dry)
        drained.add(part)
        told(drained)
        after = part["last"]
        if after is None:
            break
    if not dry:
        tidy_after(desk, wanted)
    return drained


def drain_part(
    desk: Desk, what: str, wanted: Wanted, by: By, *, after: str | None, limit: int, dry: bool = False
) -> dict[str, Any]:
    """The next orders after this id, in one transaction: `done`, `refused`, and `last`, None when nothing more follows.

    Letters stay where they are. With a key in `by`, a repeat gets the answer of the first time.
    """
    with desk.store.unit() as unit:
        items = stuck.page(unit, wanted, desk.now(), limit=limit + 1, after=after)
        seqs: dict[str, int] = {}
        for item in items[:limit]:
            seqs.setdefault(item.order_id, item.seq)  # one of an order's at a time
        ids = list(seqs)
        last = ids[-1] if len(items) > limit else None
        if dry:
            return _foretold(DRAINS[what], cases_of(unit, ids, seqs), last)

    def answer(done: Done) -> dict[str, Any]:
        refused = [_told(order_id, refusal) for order_id, refusal in done.refused.items()]
        return {"done": list(done.done), "refused": refused, "last": last}

    crash("drain.before_part")
    given, _ = act_on(desk, f"dlq.{what}", ids, by, DRAINS[what].act, answer=answer, seqs=seqs)
    crash("drain.after_part")
    return given


def tidy_after(desk: Desk, wanted: Wanted) -> int:
    """Take the letters of what isn't stuck any more off the queues, those of an earlier drain that was killed, too."""
    stages = [wanted.stage] if wanted.stage else all_stages(tuple(sorted(desk.adapters)))
    return letters.tidy(desk, stages)


def _foretold(drain: _Drain, cases: dict[str, Case], last: str | None) -> dict[str, Any]:
    done: list[str] = []
    refused: list[dict[str, Any]] = []
    for order_id, case in cases.items():
        try:
            drain.refuse(case)
        except Refused as refusal:
            refused.append(_told(order_id, refusal))
        else:
            done.append(order_id)
    return {"done": done, "refused": refused, "last": last}


def _told(order_id: str, refusal: Refused) -> dict[str, Any]:
    return {"orderId": order_id, "code": refusal.code, "detail": str(refusal)}
