"""One legal rate budget per account, shared by every process: counted in Redis, by Redis's clock.

A window of a second is counted as it slides: never more than its count within any second, wherever the broker's own
seconds begin. Longer ones are counted by the calendar in Indian time, as brokers do. Nothing is granted in the last
tenth of a calendar second: what is granted then would arrive in the next one and count there.

Of 10 a second all calls together take 9, and places only 8 of these: a cancel always finds room. While Redis is away
each process goes on with a third of every window, counted by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from redis import Redis
from redis.exceptions import RedisError

from domain.capabilities import Window

log = logging.getLogger(__name__)

SECOND_US = 1_000_000
IST_US = 19_800 * SECOND_US
GUARD_US = 100_000  # the end of each calendar second in which nothing is granted
LOCAL_SHARE = 1 / 3  # of every window, for a process on its own
AWAY_S = 3.0  # after a failure Redis is left alone for this time


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a window's count is used: by all calls together, and by places (what remains is for cancels)."""

    all: float
    places: float


SHORT_SHARE = Share(all=0.9, places=0.8)  # windows of a second
LONG_SHARE = Share(all=0.98, places=0.95)


@dataclass(frozen=True, slots=True)
class Granted:
    """How many of the tokens asked for may be used at once, and when to ask for the others."""

    account_id: str
    count: int
    wait_s: float  # until one more may be had; 0 when all were granted
    at_us: int = 0
    forgotten: bool = False  # nobody has counted this account today: `remember` what the record knows
    local: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """A window as it is enforced."""

    seconds: int
    all: int
    places: int


def rooms_of(windows: Iterable[Window], share: float = 1.0) -> tuple[Room, ...]:
    rooms = []
    for window in windows:
        shares = SHORT_SHARE if window.seconds == 1 else LONG_SHARE
        everything = max(1, int(window.count * shares.all * share))
        rooms.append(
            Room(window.seconds, everything, min(everything, max(1, int(window.count * shares.places * share))))
        )
    return tuple(rooms)


class RateBudget:
    """The tokens of one kind of call ("order", "read") at one broker, for any of its accounts."""

    def __init__(
        self, redis: Redis, broker: str, windows: Sequence[Window], kind: str = "order", guard_us: int = GUARD_US
    ) -> None:
        self._redis, self._prefix = redis, f"rate:{broker}:{kind}"
        self._rooms, self._guard_us = rooms_of(windows), guard_us
        self._take = redis.register_script(_LUA["take"])
        self._give_back = redis.register_script(_LUA["give_back"])
        self._remember = redis.register_script(_LUA["remember"])
        self._local = LocalBudget(rooms_of(windows, LOCAL_SHARE), guard_us)
        self._is_long = any(room.seconds > 1 for room in self._rooms)
        self._now_us = 0  # Redis's clock
        self._away_until = 0.0

    def take(self, account_id: str, wanted: int, *, urgent: bool = False) -> Granted:
        """As many of the tokens wanted as every window has room for. `urgent` is for cancels."""
        if not self._rooms or wanted <= 0:
            return Granted(account_id, max(0, wanted), 0.0)
        try:
            count, wait_us, at_us, fresh = self._ask(
                self._take, account_id, wanted, int(urgent), self._guard_us, self._now_us
            )
        except _Away:
            return self._local.take(account_id, wanted, urgent=urgent)
        return Granted(account_id, count, wait_us / SECOND_US, at_us, forgotten=bool(fresh) and self._is_long)

    def give_back(self, granted: Granted, count: int) -> None:
        """Tokens that weren't used after all; where their window is over they are worth nothing any more."""
        if not self._rooms or count <= 0:
            return
        if granted.local:
            self._local.give_back(granted, count)
            return
        try:
            self._ask(self._give_back, granted.account_id, min(count, granted.count), granted.at_us)
        except _Away:
            return

    def remember(self, account_id: str, used: Mapping[int, int]) -> None:
        """Raise the counts of the windows under way, by their seconds, to what the record knows was sent."""
        try:
            known = [used.get(room.seconds, 0) for room in self._rooms]
            self._ask(self._remember, account_id, self._now_us, *known)
        except _Away:
            return

    def _ask(self, script: Callable[..., list[int]], account_id: str, *arguments: int) -> list[int]:
        if time.monotonic() < self._away_until:
            raise _Away
        windows = [number for room in self._rooms for number in (room.seconds, room.all, room.places)]
        # The hash tag keeps both keys on one node of a cluster.
        keys = [f"{self._prefix}:{{{account_id}}}:windows", f"{self._prefix}:{{{account_id}}}:second"]
        try:
            return script(keys=keys, args=[len(self._rooms), *windows, *arguments])
        except RedisError as error:
            self._away_until = time.monotonic() + AWAY_S
            log.warning("rate budgets are counted by each process alone: %s", type(error).__name__)
            raise _Away from error


class _Away(Exception):
    """Redis doesn't answer."""


@dataclass(slots=True)
class _Counts:
    calendar: dict[int, tuple[int, int]] = field(default_factory=dict)  # seconds: (which window, how many)
    second: deque[list[int]] = field(default_factory=deque)  # [when, how many], oldest first


class LocalBudget:
    """The same rules counted in this process alone."""

    def __init__(
        self, rooms: Sequence[Room], guard_us: int = GUARD_US, clock_us: Callable[[], int] | None = None
    ) -> None:
        self._rooms, self._guard_us = rooms, guard_us
        self._clock_us = clock_us or _steady_clock_us()
        self._counts: dict[str, _Counts] = {}
        self._lock = threading.Lock()

    def take(self, account_id: str, wanted: int, *, urgent: bool = False) -> Granted:
        with self._lock:
            counts = self._counts.setdefault(account_id, _Counts())
            now = max(self._clock_us(), counts.second[-1][0] if counts.second else 0)
            while counts.second and counts.second[0][0] <= now - SECOND_US:
                counts.second.popleft()
            count = wanted
            for room in self._rooms:
                count = min(count, _cap(room, urgent) - self._used(room, counts, now))
            count = 0 if self._guarded(now) else max(0, count)
            if count:
                self._record(counts, now, count)
            wait_us = self._wait_us(counts, now, urgent) if count < wanted else 0
            return Granted(account_id, count, wait_us / SECOND_US, now, local=True)

    def give_back(self, granted: Granted, count: int) -> None:
        with self._lock:
            counts = self._counts[granted.account_id]
            for room in self._rooms:
                which, used = counts.calendar.get(room.seconds, (0, 0))
                if room.seconds > 1 and which == _which(room, granted.at_us):
                    counts.calendar[room.seconds] = (which, max(0, used - count))
            for entry in counts.second:
                if entry[0] == granted.at_us:
                    entry[1] = max(0, entry[1] - count)
                    break

    def _used(self, room: Room, counts: _Counts, now: int) -> int:
        if room.seconds == 1:
            return sum(count for _, count in counts.second)
        which, used = counts.calendar.get(room.seconds, (-1, 0))
        return used if which >= _which(room, now) else 0

    def _record(self, counts: _Counts, now: int, count: int) -> None:
        for room in self._rooms:
            if room.seconds == 1:
                counts.second.append([now, count])
            else:
                which, _ = counts.calendar.get(room.seconds, (-1, 0))
                counts.calendar[room.seconds] = (max(which, _which(room, now)), self._used(room, counts, now) + count)

    def _wait_us(self, counts: _Counts, now: int, urgent: bool) -> int:
        """Until every window has room for one."""
        wait = 0
        for room in self._rooms:
            over = self._used(room, counts, now) - _cap(room, urgent)
            if over >= 0:
                wait = max(wait, self._until_less_us(room, counts, now, over))
        if any(room.seconds == 1 for room in self._rooms):
            into = (now + wait) % SECOND_US
            if into >= SECOND_US - self._guard_us:
                wait += SECOND_US - into
        return wait

    def _until_less_us(self, room: Room, counts: _Counts, now: int, over: int) -> int:
        if room.seconds > 1:
            window_us = room.seconds * SECOND_US
            return min(window_us, (_which(room, now) + 1) * window_us - IST_US - now)
        freed = 0
        for at, count in counts.second:
            freed += count
            if freed > over:
                return min(SECOND_US, at + SECOND_US - now)
        return SECOND_US

    def _guarded(self, now: int) -> bool:
        return now % SECOND_US >= SECOND_US - self._guard_us and any(room.seconds == 1 for room in self._rooms)


def _steady_clock_us() -> Callable[[], int]:
    """The time of day as it is now, going on without jumps."""
    offset_ns = time.time_ns() - time.monotonic_ns()
    return lambda: (offset_ns + time.monotonic_ns()) // 1000


def _cap(room: Room, urgent: bool) -> int:
    return room.all if urgent else room.places


def _which(room: Room, now_us: int) -> int:
    """The number of the calendar window, in Indian time, that a moment lies in."""
    return (now_us + IST_US) // (room.seconds * SECOND_US)


_LUA = {
    name: resources.files(__package__).joinpath("lua", f"{name}.lua").read_text("utf-8")
    for name in ("take", "give_back", "remember")
}
