"""The plan of a run: what one seed makes of the client's wishes and of everybody's misfortunes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

NOON = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
BEFORE_MIDNIGHT = datetime(2026, 11, 23, 18, 29, 40, tzinfo=UTC)  # twenty seconds before the book's day ends in India


# Where a process may be struck on purpose, beside the blind strikes: the code's own crash points, of which the ones
# round a broker call are the dearest.
POINTS = (
    "dispatch.after_commit", "dispatch.before_call", "dispatch.after_call", "dispatch.outcome.before_commit",
    "dispatch.outcome.after_commit", "dispatch.before_commit", "books.before_commit", "books.after_commit",
    "reports.apply.before_commit", "reports.apply.after_commit", "persist.before_commit", "persist.after_commit",
    "validate.after_commit", "intake.after_commit", "sweep.leases.before_commit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Aim:
    """A strike at a crash point, at its n-th pass. `pause_s` is None for a death."""

    pass_number: int
    pause_s: float | None


@dataclass(slots=True, kw_only=True)
class Chances:
    """How likely a thing is, each time it could happen."""

    # of the broker, for each line of a call
    refuses: float = 0.05
    not_sent: float = 0.08
    answer_lost: float = 0.08  # it was taken
    late: float = 0.08  # it is taken after the call has given up
    vanishes: float = 0.05  # the request reached nobody
    doubles: float = 0.0  # the broker itself makes two of one
    unreadable: float = 0.1  # a look into the book
    repeats_row: float = 0.1
    # of the record, for each unit
    answer_to_commit_lost: float = 0.01
    commit_lost: float = 0.005
    slow: float = 0.05  # a statement takes long, its locks held
    # of the queue, for each message
    message_lost: float = 0.1
    message_repeated: float = 0.1
    message_late: float = 0.1
    # of the client
    repeats_request: float = 0.3
    cancels: float = 0.1
    # of a judge, for each order
    raises: float = 0.0
    kills: float = 0.0


@dataclass(slots=True, kw_only=True)
class Plan:
    seed: int
    mood: str
    begins: datetime
    chances: Chances
    intents: int
    lines_max: int
    brokers: tuple[str, ...]
    accounts: int  # of the user at each broker
    limit_paise: int
    lines_per_call: int
    dispatchers: int  # processes for each broker
    failover: bool
    troubles_end_s: float = 14.0
    ends_s: float = 150.0
    place_timeout_s: float = 2.0
    lease_margin_s: float = 1.0
    latest_acceptance_s: float = 4.0  # after a call gave up
    visibility_s: float = 2.0  # until what was taken stands in the book
    proof_s: float = 7.0
    max_unsent_s: int = 40
    steps_between_faults: float = 0.0  # on average; 0: none
    pauses: float = 0.5  # share of these faults that are pauses, and not deaths
    pause_max_s: float = 8.0
    aims: dict[str, Aim] = field(default_factory=dict)  # by crash point
    database_away: tuple[tuple[float, float], ...] = ()  # from, for how long
    queue_away: tuple[tuple[float, float], ...] = ()
    session_dead: tuple[tuple[float, float], ...] = ()
    broker_away: tuple[tuple[float, float], ...] = ()
    orders_per_s: int = 10
    groups: bool = False  # the lines of an intent wait for each other
    # what only the tests of the simulation itself turn off
    checks_lease: bool = True  # no byte leaves once a lease is over
    checks_absence: bool = True  # what is proven absent is compared to what the broker took
    sweeps: bool = True

    @property
    def is_calm(self) -> bool:
        return self.mood == "calm"


def plan(seed: int) -> Plan:
    """What a seed means."""
    rng = Random(seed)
    mood = rng.choices(("calm", "troubled", "bad", "stopped", "midnight"), (1, 6, 3, 1, 0.6))[0]
    made = Plan(
        seed=seed,
        mood=mood,
        begins=BEFORE_MIDNIGHT if mood == "midnight" else NOON,
        chances=Chances(),
        intents=rng.randint(1, 4),
        lines_max=rng.choice((1, 2, 4)),
        brokers=("upstox", "zerodha") if rng.random() < 0.4 else ("upstox",),
        accounts=rng.choice((1, 1, 2)),
        limit_paise=rng.choice((10**9, 10**9, 40_000_000)),
        lines_per_call=rng.choice((1, 1, 3)),
        dispatchers=rng.choice((1, 1, 2)),
        failover=rng.random() < 0.5,
    )
    chances = made.chances
    if mood == "calm":
        made.chances = Chances(
            refuses=0.02, not_sent=0.0, answer_lost=0.0, late=0.0, vanishes=0.0, unreadable=0.0, repeats_row=0.0,
            answer_to_commit_lost=0.0, commit_lost=0.0, slow=0.0, message_lost=0.0, message_repeated=0.0,
            message_late=0.0, repeats_request=0.1, cancels=0.05,
        )  # fmt: skip
        made.intents, made.lines_max, made.orders_per_s = 6, 4, 5
        return made
    made.steps_between_faults = rng.choice((60, 150, 400))
    made.pauses = rng.choice((0.2, 0.5, 0.8))
    made.pause_max_s = rng.choice((2.0, 8.0, 25.0))
    if mood == "stopped":
        # One dispatcher sleeps on a call while another one finds out that it was not made, and makes it.
        made.dispatchers, made.steps_between_faults = 2, 0.0
        chances.not_sent, chances.late = 0.1, 0.4
        aim = Aim(rng.randint(1, 2), rng.uniform(13.0, 24.0))
        made.aims[rng.choice(("dispatch.after_commit", "dispatch.before_call", "dispatch.before_call"))] = aim
        return made
    if mood == "bad":
        chances.answer_lost = chances.late = chances.not_sent = 0.2
        chances.answer_to_commit_lost, chances.commit_lost = 0.04, 0.02
        chances.message_lost = 0.3
    if rng.random() < 0.15:
        chances.doubles = 0.15
    if rng.random() < 0.15:
        chances.raises = rng.choice((0.2, 0.9))
    if rng.random() < 0.1:
        chances.kills = rng.choice((0.2, 0.9))
    for point in rng.sample(POINTS, rng.randint(0, 2)) + rng.sample(POINTS[:4], rng.randint(0, 1)):
        made.aims[point] = Aim(rng.randint(1, 3), rng.choice((None, 0.5, 4.0, 12.0, 20.0)))
    made.database_away = _spells(rng, 0.3, 3.0)
    made.queue_away = _spells(rng, 0.3, 10.0)
    made.session_dead = _spells(rng, 0.2, 6.0)
    made.broker_away = _spells(rng, 0.2, 4.0)
    return made


def plan_of_groups(seed: int) -> Plan:
    """The same misfortunes, for intents whose lines wait for each other."""
    rng = Random(f"groups {seed}")
    made = plan(seed)
    made.groups, made.lines_max, made.intents = True, rng.randint(2, 5), max(2, made.intents)
    if not made.is_calm and rng.random() < 0.4:
        points = ("groups.after_claim", "groups.before_commit", "groups.after_commit")
        made.aims[rng.choice(points)] = Aim(rng.randint(1, 4), rng.choice((None, 0.5, 4.0, 12.0)))
    return made


def _spells(rng: Random, chance: float, longest_s: float) -> tuple[tuple[float, float], ...]:
    if rng.random() >= chance:
        return ()
    return tuple((rng.uniform(0, 12), rng.uniform(0.1, longest_s)) for _ in range(rng.randint(1, 2)))
