from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from brokers.health import FAILURES_MAX, LOOK_S, OPEN_MAX_S, OPEN_S, PROBE_S, Health
from brokers.transport import Answer, Answered, Call, Lost, NeverSent

PLACE = Call("kite", "place")
GOOD = Answered(200, {}, "{}", {}, 0.1)
BAD = NeverSent("refused")


class Clock:
    """The time of every process and of Redis at once."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Processes:
    """Some processes that share one Redis."""

    def __init__(self, redis: Redis) -> None:
        self.clock, self.redis, self.all = Clock(), redis, []

    def one(self) -> Health:
        health = Health(self.redis, self.clock)
        self.all.append(health)
        self.pass_s(0)
        return health

    def pass_s(self, seconds: float) -> None:
        self.clock.now += seconds
        for health in self.all:
            health._now_ms = round(self.clock.now * 1000)


@pytest.fixture
def processes(redis: Redis) -> Processes:
    return Processes(redis)


def fail(health: Health, times: int = FAILURES_MAX, answer: Answer = BAD) -> None:
    for _ in range(times):
        health.watch(PLACE, answer)


@pytest.mark.parametrize("answer", [NeverSent("x"), Lost("x"), Answered(503, None, "", {}, 0.1)])
def test_failures_in_a_row_open_it_for_every_process(processes: Processes, answer: Answer):
    one, other = processes.one(), processes.one()
    fail(one, FAILURES_MAX - 1, answer)
    assert one.wait_s("kite") == 0
    assert not other.is_open("kite")

    fail(other, 1, answer)
    processes.pass_s(LOOK_S)

    assert one.wait_s("kite") == other.wait_s("kite") == OPEN_S - LOOK_S
    assert other.is_open("kite")
    assert not other.is_open("kite", "cancel")
    assert not other.is_open("upstox")


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429])
def test_any_answer_but_a_5xx_is_a_sign_of_life(processes: Processes, status: int):
    health = processes.one()
    for _ in range(3):
        fail(health, FAILURES_MAX - 1)
        health.watch(PLACE, Answered(status, None, "", {}, 0.1))

    assert not health.is_open("kite")


def test_after_the_while_one_process_probes_and_the_others_wait(processes: Processes):
    one, other = processes.one(), processes.one()
    fail(one)
    processes.pass_s(OPEN_S)

    assert one.is_open("kite")  # looking takes no probe
    assert not one.holds_back("kite")
    assert one.wait_s("kite") == 0
    assert other.holds_back("kite")
    assert other.wait_s("kite") == PROBE_S

    one.watch(PLACE, GOOD)

    assert other.wait_s("kite") == 0
    assert not other.is_open("kite")


def test_a_prober_that_died_is_followed_by_another(processes: Processes):
    one, other = processes.one(), processes.one()
    fail(one)
    processes.pass_s(OPEN_S)
    assert one.wait_s("kite") == 0
    processes.pass_s(PROBE_S)

    assert other.wait_s("kite") == 0


def test_each_failed_probe_doubles_the_while_up_to_a_minute(processes: Processes):
    health = processes.one()
    fail(health)
    waits = []
    for _ in range(7):
        waits.append(health.wait_s("kite"))
        processes.pass_s(waits[-1])
        assert health.wait_s("kite") == 0
        fail(health, 1)

    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, OPEN_MAX_S, OPEN_MAX_S]


def test_a_closed_circuit_is_believed_for_a_moment(processes: Processes):
    one, other = processes.one(), processes.one()
    assert one.wait_s("kite") == 0
    fail(other)

    assert one.wait_s("kite") == 0
    processes.pass_s(LOOK_S)
    assert one.wait_s("kite") > 0


@pytest.fixture
def alone() -> Callable[[], tuple[Health, Clock]]:
    def make() -> tuple[Health, Clock]:
        clock = Clock()
        return Health(Redis(unix_socket_path="/nonexistent/valkey", retry=Retry(NoBackoff(), 0)), clock), clock

    return make


def test_without_redis_a_process_goes_by_its_own_calls(alone: Callable[[], tuple[Health, Clock]]):
    health, clock = alone()
    fail(health, FAILURES_MAX - 1)
    assert health.wait_s("kite") == 0
    fail(health, 1)
    assert health.wait_s("kite") == OPEN_S
    assert health.is_open("kite")
    clock.now += OPEN_S
    assert health.wait_s("kite") == 0
    health.watch(PLACE, GOOD)
    assert not health.is_open("kite")


def test_the_state_ends_by_itself(processes: Processes):
    health = processes.one()
    fail(health)

    (key,) = processes.redis.keys()
    assert key == b"circuit:kite:place"
    assert 0 < processes.redis.ttl(key) <= OPEN_MAX_S * 5
