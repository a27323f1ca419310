"""The simulation finds the faults it is there for: each is built in, and must be caught within a few dozen seeds."""

from __future__ import annotations

from itertools import count, islice

import pytest

from . import mutations
from .installing import run
from .invariants import Broken
from .mutations import Mutation
from .plan import plan
from .world import World

SEEDS = 150


@pytest.mark.parametrize(
    ("mutation", "mood", "broken"),
    [
        (mutations.calls_again_on_redelivery, "bad", "nothing is sent twice"),
        (mutations.compares_no_fence, "stopped", "nothing is sent twice"),
        (mutations.sends_after_its_lease, "stopped", "nothing is sent twice"),
        (mutations.trusts_the_book_too_soon, "bad", "proven absent is absent"),
        (mutations.doubles_by_trusting_the_book_too_soon, "bad", "nothing is sent twice"),
        (mutations.appends_events_outside_the_transaction, "bad", "events and row move together"),
        (mutations.keeps_events_of_what_was_rolled_back, "bad", "folding the events gives the row"),
        (mutations.never_sweeps, "bad", "every order ends"),
        (mutations.grants_whatever_is_asked, "calm", "no broker sees too much"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.usefixtures("simulated")
def test_a_fault_that_is_built_in_is_found(mutation: Mutation, mood: str, broken: str) -> None:
    assert broken in found(mutation, mood, broken)


def found(mutation: Mutation, mood: str, wanted: str) -> set[str]:
    """The promises that seeds of a mood break, up to the one that is looked for."""
    names: set[str] = set()
    plans = (made for made in map(plan, count()) if made.mood == mood)
    for made in islice(plans, SEEDS):
        with mutation(made):
            try:
                run(World(made))
            except Broken as error:
                names.add(error.name)
            except Exception as error:  # noqa: BLE001 - a fault may break the code around it, too
                names.add(type(error).__name__)
        if wanted in names:
            break
    return names
