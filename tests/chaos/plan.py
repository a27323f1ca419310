"""The faults of a campaign, drawn from its seed before it begins."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.points import points

PAUSE_S = (0.5, 6.0)  # longer than a lease's margin, at most
KILLS_PER_OTHER = 6  # so many kills to one pause and one orderly stop
OPERATORS = ("deadletters.", "drain.", "letters.before_ack", "reconcile.ask.")  # where only an operator's command gets
RARE = (  # where a process gets by a failure, a wait or a twin only, or once in its life: test_crash_points.py has them all
    *("risk.", "margin.", "route.", "notify."),
    *("books.session.", "books.twins.", "books.cancel.", "reports.set_aside.", "claims.before_forget"),
    *("sweep.bury.", "letters.", "clock.partitions.", "listen.leave."),
    *("groups.", "schedules.", "signals.", "squareoff.", "switches.", "aftermath.", "settings.", "reads.", "retention.", "intake.after_guard"),  # the load asks for none of it
)
WORKERS = ("intake", "outcome", "dispatch-upstox", "dispatch-zerodha")

# Which process gets to a crash point, by the beginning of its name; the first that fits.
PLACES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("intake.", ("web",)),
    ("dispatch.upstox.", ("dispatch-upstox",)),
    ("dispatch.zerodha.", ("dispatch-zerodha",)),
    ("dispatch.", ("dispatch-upstox", "dispatch-zerodha")),
    ("broker.", ("dispatch-upstox", "dispatch-zerodha")),
    ("books.", ("dispatch-upstox", "dispatch-zerodha")),
    ("sweep.", ("clock",)),
    ("clock.", ("clock",)),
    ("letters.", ("clock",)),
    ("reports.", ("outcome",)),
    ("persist.", ("outcome",)),
    ("notify.", ("outcome",)),
    ("wakeups.before_ack", WORKERS),
    ("wakeups.", ("web", "clock", *WORKERS)),
    ("claims.", WORKERS),
    ("listen.", ("listen",)),
    ("updates.", ("listen",)),
    ("reconcile.", ("dispatch-upstox", "dispatch-zerodha")),
    *((f"{stage}.", ("intake",)) for stage in ("validate", "risk", "margin", "route", "cancel", "modify", "groups")),
    ("change.", ("dispatch-upstox", "dispatch-zerodha")),
    ("cancelling.", ("web",)),
    ("modifying.", ("web",)),
)


class Kind(StrEnum):
    KILL = "kill -9"
    PAUSE = "pause"
    STOP = "stop"  # SIGTERM, and started again
    POINT = "crash point"


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    target: str  # a process or a server
    gap_s: float  # until the next one
    after_s: float  # from its burst of orders
    seconds: float = 0.0  # of a pause, or of a server's absence
    point: str = ""

    def __str__(self) -> str:
        extra = f" at {self.point}" if self.point else f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind} {self.target}{extra}"


def draw(
    seed: str,
    *,
    processes: Sequence[str],
    servers: Sequence[str],
    kills: int,
    every_s: float,
    crash_points: Sequence[str] = (),
    times: int = 1,
) -> list[Fault]:
    """So many kills, spread evenly over processes and servers; pauses and stops among them; each point so many times."""
    chance = random.Random(f"{seed} plan")
    targets = [*processes, *servers]
    drawn: list[tuple[Kind, str, str]] = []
    hit: list[str] = []
    for number in range(kills):
        if not hit:
            hit = chance.sample(targets, len(targets))
        drawn.append((Kind.KILL, hit.pop(), ""))
        if number % KILLS_PER_OTHER == KILLS_PER_OTHER - 1:
            drawn.append((Kind.PAUSE, chance.choice(targets), ""))
            drawn.append((Kind.STOP, chance.choice(targets), ""))
    deaths = [(Kind.POINT, chance.choice(places_of(point, processes)), point) for point in crash_points for _ in range(times)]
    for death in deaths:
        drawn.insert(chance.randrange(len(drawn) + 1), death)
    return [
        Fault(
            kind,
            target,
            gap_s=chance.uniform(0.4, 1.6) * every_s,
            after_s=chance.uniform(0.0, 0.8),
            seconds=chance.uniform(*PAUSE_S) if kind is Kind.PAUSE or (kind is Kind.STOP and target in servers) else 0.0,
            point=point,
        )
        for kind, target, point in drawn
    ]


def places_of(point: str, processes: Sequence[str]) -> tuple[str, ...]:
    """The processes that may get to a crash point."""
    for beginning, places in PLACES:
        if point.startswith(beginning):
            return tuple(place for place in places if place in processes) or tuple(processes)
    return tuple(processes)


def reachable() -> list[str]:
    """Every crash point that a process of the stack gets to under load."""
    names = (point.name for point in points())
    return [name for name in names if not name.startswith((*OPERATORS, *RARE)) and ".set_aside." not in name]
