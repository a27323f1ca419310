"""The generator against a small server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ops.bench.load import run
from ops.bench.plan import Plan, Tally
from ops.bench.requests import answer_length, request_parts

ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\ncontent-length: 55\r\n\r\n" + b'{"intentId": "01890000-0000-7000-8000-000000000001"    }'
)
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}"
BUSY_FOR_EVER = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"
BIDS = (("NSE:INFY", "1121.00"), ("NSE:TCS", "2302.00"))

Answer = Callable[[asyncio.Transport, bytes], None]


def at_once(answer: bytes) -> Answer:
    return lambda transport, _: transport.write(answer)


def load(answer: Answer, **plan: Any) -> Tally:
    """Run a plan against a server that gives every whole request to `answer`."""

    taken: list[asyncio.Transport] = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            taken.append(transport)  # type: ignore[arg-type]

        def data_received(self, data: bytes) -> None:
            answer(self.transport, data)  # type: ignore[arg-type]

    async def both() -> Tally:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await run(
                Plan(host="127.0.0.1", port=port, api_key="k", accounts=("a", "b"), instruments=BIDS, **plan)
            )
        finally:
            server.close()
            for transport in taken:
                transport.abort()

    return asyncio.run(both())


def test_an_open_loop_sends_what_the_schedule_says():
    tally = load(at_once(ACCEPTED), rate=400, seconds=0.5)

    assert (tally.sent, tally.statuses, tally.unanswered) == (200, {"202": 200}, 0)


def test_a_stall_of_the_server_shows_in_every_request_that_was_due_meanwhile():
    answered = 0

    def stall_once(transport: asyncio.Transport, _: bytes) -> None:
        nonlocal answered
        answered += 1
        if answered == 1:
            asyncio.get_running_loop().call_later(0.2, transport.write, ACCEPTED)
        else:
            transport.write(ACCEPTED)

    tally = load(stall_once, rate=200, seconds=0.3, connections=1)

    assert tally.accepted == 60
    assert tally.latency_ms["p50"] > 50  # due during the stall, though sent after it and answered at once


def test_every_request_has_a_key_of_its_own():
    keys = []

    def note(transport: asyncio.Transport, request: bytes) -> None:
        keys.append(request.partition(b"Idempotency-Key: ")[2].partition(b"\r\n")[0])
        transport.write(ACCEPTED)

    load(note, rate=300, seconds=0.1)

    assert len(set(keys)) == len(keys) == 30
    assert all(16 <= len(key) <= 255 for key in keys)


def test_a_closed_loop_keeps_its_window_under_way():
    under_way, most = 0, 0

    def slowly(transport: asyncio.Transport, _: bytes) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)

        def give() -> None:
            nonlocal under_way
            under_way -= 1
            transport.write(ACCEPTED)

        asyncio.get_running_loop().call_later(0.01, give)

    tally = load(slowly, window=5, seconds=0.2)

    assert most == 5
    assert tally.accepted == tally.sent > 20


@pytest.mark.parametrize(("answer", "without"), [(BUSY, 0), (BUSY_FOR_EVER, 20)])
def test_a_refusal_without_retry_after_is_counted(answer: bytes, without: int):
    tally = load(at_once(answer), rate=200, seconds=0.1)

    assert tally.statuses == {"503": 20}
    assert tally.without_retry_after == without
    assert tally.accepted_measured == 0


def test_answers_are_put_together_from_pieces():
    def in_pieces(transport: asyncio.Transport, _: bytes) -> None:
        transport.write(ACCEPTED[:10])
        asyncio.get_running_loop().call_later(0.002, transport.write, ACCEPTED[10:60])
        asyncio.get_running_loop().call_later(0.004, transport.write, ACCEPTED[60:])

    tally = load(in_pieces, rate=100, seconds=0.1)

    assert tally.statuses == {"202": 10}


def test_a_lost_connection_is_counted_and_made_again():
    requests = 0

    def drop_the_first(transport: asyncio.Transport, _: bytes) -> None:
        nonlocal requests
        requests += 1
        if requests == 1:
            transport.abort()
        else:
            transport.write(ACCEPTED)

    tally = load(drop_the_first, rate=100, seconds=0.2, connections=1)

    assert (tally.disconnects, tally.unanswered, tally.accepted) == (1, 1, 19)


def test_what_is_accepted_is_written_down(tmp_path):
    load(at_once(ACCEPTED), rate=100, seconds=0.1, intent_ids=str(tmp_path / "ids"))

    assert (tmp_path / "ids").read_bytes() == b"01890000-0000-7000-8000-000000000001" * 10


def test_a_body_has_as_many_lines_as_asked_and_each_account_its_own():
    plan = Plan(host="h", port=1, api_key="k", accounts=("a", "b"), instruments=BIDS, lines=20)

    bodies = [after for _, after in request_parts(plan)]

    assert [body.count(b"correlationId") for body in bodies] == [20, 20]
    assert bodies[0].count(b'"instrument":"NSE:INFY"') == bodies[0].count(b'"price":"1121.00"') == 10
    assert bodies[0].count(b'"account":"a"') == bodies[1].count(b'"account":"b"') == 20


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 202 Accepted\r\nContent-Type: x\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_an_answer_ends_where_its_head_says(answer: bytes):
    assert answer_length(answer) == len(answer)
    assert answer_length(answer + b"HTTP/1.1") == len(answer)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n",
        b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
def test_half_an_answer_has_no_end_yet(data: bytes):
    assert answer_length(data) is None
