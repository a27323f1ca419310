"""The simulator's doors: what goes wrong before there is a request, and that no order comes of it."""

from __future__ import annotations

import pytest
from outcome_trial import OPEN, Trial
from outcome_words import SHORT_S, Book, End, Way, end_of

from brokers.simulator.server import SimulatorServer


def test_a_request_that_waited_at_a_silent_door_is_never_looked_at():
    with SimulatorServer() as simulator:
        trial = Trial("upstox", simulator)
        lost, found = trial.lines(2)
        trial.place([lost], Way(book=Book.NOTHING, door="silent", timeout_s=SHORT_S))
        simulator.control("PUT", "/doors/upstox", {"state": "open"})
        (outcome,) = trial.place([found], OPEN)

        assert end_of(outcome) is End.ACCEPTED
        assert trial.requests("place") == 1
        assert [trial.book(line) for line in (lost, found)] == [Book.NOTHING, Book.ORDER]


def test_one_door_is_not_the_other_and_a_reset_opens_it_at_its_old_address():
    with SimulatorServer() as simulator:
        simulator.control("PUT", "/doors/upstox", {"state": "closed"})
        upstox, zerodha = Trial("upstox", simulator), Trial("zerodha", simulator)

        assert simulator.control("GET", "/doors") == {"upstox": "closed", "zerodha": "open"}
        assert [end_of(*trial.place(trial.lines(), OPEN)) for trial in (upstox, zerodha)] == [
            End.NOT_SENT,
            End.ACCEPTED,
        ]
        simulator.control("POST", "/reset")
        assert end_of(*upstox.place(upstox.lines(), OPEN)) is End.ACCEPTED


@pytest.mark.parametrize(("name", "state"), [("upstox", "ajar"), ("upstox", None), ("control", "closed")])
def test_a_door_or_a_state_that_is_not_there_is_refused(name: str, state: str | None):
    with SimulatorServer() as simulator:
        with pytest.raises(ValueError, match=r"ajar|None|control"):
            simulator.control("PUT", f"/doors/{name}", {"state": state})
        assert set(simulator.control("GET", "/doors").values()) == {"open"}
