"""Turning a switch over HTTP: it waits for no other turn's aftermath, and for nobody's reads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from domain.ids import new_id
from ingress.app import SWITCHERS
from ingress.endpoint import _note_read
from ingress.operations import Call
from ingress.operators import Operators
from ingress.switches import list_switches, turn_switch
from ingress.wire import Reply, Request
from pipeline import aftermath, reads, switches
from pipeline.beside import Beside
from store.users import Role

CALLER = SimpleNamespace(id=new_id(), user_id=new_id(), name="ada", role=Role.TRADER)
WITHIN_S = 5.0


class Slow:
    """What follows a switch, or a note of a read: it goes on until the test is over."""

    def __init__(self) -> None:
        self.over, self.begun = threading.Event(), 0

    def __call__(self, *_: Any) -> None:
        self.begun += 1
        assert self.over.wait(30)


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.over.set()


@pytest.fixture
def door(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(switches, "turn", lambda *_: {"version": 1})
    monkeypatch.setattr(aftermath, "carry_out", slow)
    monkeypatch.setattr(reads, "note", slow)
    following = Beside("aftermath", slow)
    switchers, noters = Operators(None, threads=SWITCHERS), Operators(None, threads=2)  # type: ignore[arg-type]
    yield SimpleNamespace(switchers=switchers, noters=noters, follow=following.ask)
    slow.over.set()
    for operators in (switchers, noters):
        operators.close()
    following.close()


def a_call() -> Call:
    body = json.dumps({"mode": "HALTED", "reason": "it runs away"}).encode()
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "PUT",
        "path": "/v2/switches/USER/me",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"idempotency-key", new_id().encode())],
    }

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body is there already")

    request = Request(scope, receive, first_event={"type": "http.request", "body": body})
    return Call(request, CALLER, {"scope": "USER", "subject": "me"}, {})  # type: ignore[arg-type]


def test_a_turn_waits_for_no_aftermath_however_many_came_before(door: Any, slow: Slow) -> None:
    async def turn_all() -> list[Reply]:
        async with asyncio.timeout(WITHIN_S):
            return [await turn_switch.handle(door, a_call()) for _ in range(2 * SWITCHERS)]

    assert [reply.status for reply in asyncio.run(turn_all())] == [200] * 2 * SWITCHERS
    assert slow.begun <= 1, "the next run does what all the others want"


def test_a_turn_waits_for_no_reads_that_are_written_down(door: Any) -> None:
    async def turn_beside_reads() -> int:
        noting = [asyncio.create_task(_note_read(door, list_switches, a_call())) for _ in range(2 * SWITCHERS)]
        await asyncio.sleep(0)
        async with asyncio.timeout(WITHIN_S):
            reply = await turn_switch.handle(door, a_call())
        for one in noting:
            one.cancel()
        return reply.status

    assert asyncio.run(turn_beside_reads()) == 200
