"""Lines that wait for each other, through every misfortune: each seed's run keeps what its groups were promised."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

import pytest

import pipeline.groups
from domain.groups import Decision, Line

from .installing import run
from .invariants import Broken
from .plan import plan_of_groups
from .telling import failure
from .world import World

SEEDS = 120


@pytest.mark.usefixtures("simulated")
def test_seeds_of_groups_keep_every_promise() -> None:
    for seed in range(SEEDS):
        world = World(plan_of_groups(seed))
        try:
            run(world)
        except BaseException as error:  # noqa: BLE001 - told with its story
            pytest.fail(failure(world, error))


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("broken", ["a leg is filled first", "one after another", "all or none"])
def test_a_decision_that_lets_lines_go_too_early_is_found(broken: str) -> None:
    def decide(_policy: object, lines: Sequence[Line], *_: object, **__: object) -> Decision:
        return Decision(releases=[line.number for line in lines if line.is_held][:1])

    assert broken in found(decide)


def found(decide: object) -> set[str]:
    """What the first seeds' runs break where groups are decided on like this."""
    names = set()
    with patch.object(pipeline.groups, "decide", decide):
        for seed in range(40):
            try:
                run(World(plan_of_groups(seed)))
            except Broken as error:
                names.add(error.name)
    return names
