"""A circuit per broker and operation, shared by every process: it opens when calls get nowhere.

    closed     calls go out; failures in a row are counted
    open       no calls for a while; each opening doubles the while, up to a minute
    half open  the while is over: one process at a time may try one call, and its end decides

Counted as failures: no connection, no answer, a 5xx. A refusal, a rate limit or a dead session is an answer.
The state lies in Redis and each process looks again after a moment; without Redis it goes by its own calls.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from redis import Redis
from redis.exceptions import RedisError

from brokers.transport import Answer, Answered, Call

log = logging.getLogger(__name__)

FAILURES_MAX = 5  # in a row
OPEN_S = 2.0  # the first time
OPEN_MAX_S = 60.0
PROBE_S = 15.0  # longer than any call: when the prober dies, another may try after this
LOOK_S = 0.25  # how long a closed circuit is believed to be closed
AWAY_S = 3.0  # after a failure Redis is left alone for this time
GOOD_NEWS_S = 1.0  # how often a process tells that its calls succeed


@dataclass(slots=True)
class _Seen:
    """What this process knows of a circuit."""

    failures: int = 0  # its own, in a row
    look_after: float = 0.0
    told_after: float = 0.0
    open_until: float = 0.0  # by its own calls; believed while Redis is away


class Health:
    """The circuits of all brokers. Add `watch` to `brokers.transport.watchers`; ask `wait_s` before a call."""

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._clock = redis, clock
        self._ask_script = redis.register_script(_LUA)
        self._now_ms = 0  # Redis's clock
        self._away_until = 0.0
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._lock = threading.Lock()

    def wait_s(self, broker: str, operation: str = "place") -> float:
        """0 if a call may go out now, be it as the one probe of a half open circuit; else how long to wait.

        Ask right before calling: a probe that is taken and not used keeps the others waiting for `PROBE_S`.
        """
        seen, now = self._of(broker, operation), self._clock()
        if now < seen.look_after:
            return 0.0
        wait_ms = self._redis_says("ask", broker, operation)
        if wait_ms is None:
            return max(0.0, seen.open_until - now)
        if wait_ms == _CLOSED:
            seen.look_after = now + LOOK_S
        return max(0, wait_ms) / 1000

    def is_open(self, broker: str, operation: str = "place") -> bool:
        """Whether calls wait; takes no probe."""
        wait_ms = self._redis_says("look", broker, operation)
        if wait_ms is None:
            return self._of(broker, operation).open_until > self._clock()
        return wait_ms != _CLOSED

    def holds_back(self, broker: str, operation: str = "place") -> bool:
        """Whether a call would have to wait now. False where one may go out as the probe, which this doesn't take."""
        wait_ms = self._redis_says("look", broker, operation)
        if wait_ms is None:
            return self._of(broker, operation).open_until > self._clock()
        return wait_ms > 0

    def watch(self, call: Call, answer: Answer) -> None:
        """Count one call's end."""
        seen, now = self._of(call.broker, call.operation), self._clock()
        if isinstance(answer, Answered) and answer.status < 500:
            if seen.failures or now >= seen.told_after:
                seen.told_after = now + GOOD_NEWS_S
                self._redis_says("success", call.broker, call.operation)
            seen.failures, seen.open_until = 0, 0.0
            return
        seen.failures += 1
        seen.look_after = 0.0
        if seen.failures >= FAILURES_MAX:
            seen.open_until = now + OPEN_S
        if self._redis_says("failure", call.broker, call.operation) == _JUST_OPENED:
            log.warning("circuit opened", extra={"broker": call.broker, "operation": call.operation})

    def _of(self, broker: str, operation: str) -> _Seen:
        with self._lock:
            return self._seen.setdefault((broker, operation), _Seen())

    def _redis_says(self, what: str, broker: str, operation: str) -> int | None:
        if self._clock() < self._away_until:
            return None
        numbers = (FAILURES_MAX, *(int(seconds * 1000) for seconds in (OPEN_S, OPEN_MAX_S, PROBE_S)), self._now_ms)
        try:
            answer: int = self._ask_script(keys=[f"circuit:{broker}:{operation}"], args=[what, *numbers])
        except RedisError as error:
            self._away_until = self._clock() + AWAY_S
            log.warning("circuits go by each process's own calls: %s", type(error).__name__)
            return None
        return answer


_CLOSED, _JUST_OPENED = -1, -2
_LUA = resources.files(__package__).joinpath("lua", "circuit.lua").read_text("utf-8")
