"""The limiter of the simulation is a model: whatever is asked, in whatever order, the Lua scripts say the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from redis import Redis

from brokers.limits import SECOND_US, Granted, LocalBudget, RateBudget, rooms_of
from domain.capabilities import Window

from .installing import run
from .plan import plan
from .world import NotedBudget, World

sys.path.append(str(Path(__file__).parents[1] / "unit" / "brokers"))
from own_valkey import own_valkey

BEGINNING_US = 1_795_500_000 * SECOND_US
MIDNIGHT_US = 1_795_545_000 * SECOND_US  # in India, between two days
SEEDS = 12

windows = st.lists(
    st.builds(Window, seconds=st.sampled_from([1, 2, 60, 1800, 86_400]), count=st.integers(1, 60)),
    min_size=1,
    max_size=4,
    unique_by=lambda window: window.seconds,
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with own_valkey(tmp_path_factory.mktemp("valkey")) as path, Redis(unix_socket_path=path) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Both:
    """What the model and the scripts granted."""

    model: Granted
    script: Granted


class Limiter(RuleBasedStateMachine):
    """The model beside two processes' budgets on one Valkey; all are told the time, which also goes back."""

    redis: Redis

    @initialize(
        windows=windows,
        guard_us=st.sampled_from([0, 100_000, 400_000]),
        begin_us=st.sampled_from([BEGINNING_US, MIDNIGHT_US - 2 * SECOND_US]),
    )
    def begin(self, windows: list[Window], guard_us: int, begin_us: int) -> None:
        self.redis.flushall()
        self.now_us = begin_us
        self.model = LocalBudget(rooms_of(windows), guard_us, clock_us=lambda: self.now_us)
        self.budgets = [RateBudget(self.redis, "test", windows, guard_us=guard_us) for _ in range(2)]
        self.granted: list[Both] = []

    @rule(
        later_us=st.one_of(
            st.integers(0, 400_000),
            st.integers(0, 90 * SECOND_US),
            st.sampled_from([1, SECOND_US - 1, SECOND_US, SECOND_US + 1, 60 * SECOND_US, -1, -SECOND_US, -70 * SECOND_US]),
        )
    )
    def time_passes(self, later_us: int) -> None:
        self.now_us += later_us

    @rule(
        account=st.sampled_from(["a", "b"]), wanted=st.integers(1, 30), urgent=st.booleans(), process=st.integers(0, 1)
    )
    def take(self, account: str, wanted: int, urgent: bool, process: int) -> None:
        budget = self.budgets[process]
        budget._now_us = self.now_us
        both = Both(
            self.model.take(account, wanted, urgent=urgent), budget.take(account, wanted, urgent=urgent)
        )
        assert replace(both.script, local=True, forgotten=False) == both.model
        self.granted.append(both)

    @precondition(lambda self: self.granted)
    @rule(which=st.integers(0, 1000), count=st.integers(1, 30), process=st.integers(0, 1))
    def give_back(self, which: int, count: int, process: int) -> None:
        """Of any grant, however old, and perhaps once more: neither may count below nothing."""
        both = self.granted[which % len(self.granted)]
        count = min(count, both.model.count)
        if count:
            self.model.give_back(both.model, count)
            self.budgets[process].give_back(both.script, count)


def test_the_scripts_grant_what_the_model_grants(redis: Redis) -> None:
    Limiter.redis = redis
    run_state_machine_as_test(
        Limiter,
        settings=settings(
            max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.usefixtures("simulated")
def test_the_scripts_grant_what_simulated_runs_were_granted(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """What whole runs asked of the model, asked of the scripts at the same times."""
    asked: list[tuple[NotedBudget, int, str, int, bool, Granted]] = []
    original = NotedBudget.take

    def take(self: NotedBudget, account_id: str, wanted: int, *, urgent: bool = False) -> Granted:
        granted = original(self, account_id, wanted, urgent=urgent)
        asked.append((self, self._clock_us(), account_id, wanted, urgent, granted))
        return granted

    monkeypatch.setattr(NotedBudget, "take", take)
    monkeypatch.setattr(NotedBudget, "give_back", lambda *_: None)  # the order of these isn't kept here
    many = 0
    for seed in range(SEEDS):
        redis.flushall()
        many += len(asked)
        asked.clear()
        world = World(plan(seed))
        run(world)
        names = {id(budget): name for name, budget in world.budgets.items()}
        for budget, now_us, account_id, wanted, urgent, granted in asked:
            broker, kind = names[id(budget)]
            windows = world.brokers[broker].capabilities
            script = RateBudget(redis, broker, windows.order_windows if kind == "order" else windows.read_windows, kind)
            script._now_us = now_us
            told = script.take(account_id, wanted, urgent=urgent)
            assert replace(told, local=True, forgotten=False) == granted
    assert many > 10 * SEEDS
