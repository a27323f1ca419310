"""Telling of a failure: the seed, the promise by its name, the last that happened, and how to see all of it."""

from __future__ import annotations

import traceback

from .invariants import Broken
from .world import World

LAST = 60


def story(world: World, last: int | None = None) -> str:
    """What happened, a line each: seconds since the beginning, the process, the fact."""
    entries = world.trace if last is None else world.trace[-last:]
    return "\n".join(
        f"{at:9.3f}  {process:<20} {' '.join(str(word) for word in words)}" for at, process, words in entries
    )


def failure(world: World, error: BaseException) -> str:
    seed = world.plan.seed
    if isinstance(error, Broken):
        what = f"seed {seed} breaks: {error.name}\n  {error.told}"
    else:
        what = f"seed {seed} ended in a defect\n{''.join(traceback.format_exception(error))}"
    again = f"python -m tests.simulation{' --groups' if world.plan.groups else ''} --seed {seed} --trace"
    return f"{what}\n\nthe last of it:\n{story(world, LAST)}\n\nall of it: {again}"
