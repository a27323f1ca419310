"""The door in trouble: bad bytes, dependencies away, an end in the middle of things."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from door_server import PLACE, Server, a_key, a_request, let_everything_in, make_key, serving
from shared_services import SharedServices

from store.users import Role

sys.path.append(str(Path(__file__).parent / "engine"))
from proxies import Proxy

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def door(tmp_path_factory, database_url: str, queue_url: str, services: SharedServices) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("door")
    let_everything_in(database_url)
    with serving(folder, database_url=database_url, queue_url=queue_url, redis_url=services.redis_url) as server:
        yield server


@pytest.fixture(scope="module")
def key(door: Server) -> str:
    return make_key(door.database_url, "ada", Role.TRADER)


@pytest.fixture
def nothing_stored(owner_database_url: str) -> Iterator[None]:
    with psycopg.connect(owner_database_url, autocommit=True) as record:
        count = "select (select count(*) from intents) + (select count(*) from orders)"
        before = record.execute(count).fetchone()
        yield
        time.sleep(0.05)
        assert record.execute(count).fetchone() == before


def head(key: str, *more: str) -> bytes:
    lines = [
        f"POST {PLACE} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Idempotency-Key: {a_key()['Idempotency-Key']}",
        *more,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def read_answer(wire: socket.socket) -> tuple[int, dict]:
    """Status and document of the one answer; whatever follows is left."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = wire.recv(65536)
        assert piece, data
        data += piece
    top, _, body = data.partition(b"\r\n\r\n")
    length = int(next(line for line in top.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1])
    while len(body) < length:
        body += wire.recv(65536)
    return int(top.split()[1]), json.loads(body)


@pytest.mark.usefixtures("nothing_stored")
def test_ten_megabytes_are_refused_and_the_client_hears_it(door, key):
    with door.raw() as wire:
        wire.sendall(head(key, "Content-Length: 10485760"))
        with contextlib.suppress(ConnectionError):
            for _ in range(160):
                wire.sendall(b"[" * 65536)
        status, problem = read_answer(wire)
    assert (status, problem["code"]) == (413, "BODY_TOO_LARGE")


@pytest.mark.usefixtures("nothing_stored")
def test_ten_megabytes_in_chunks_are_refused_while_they_come(door, key):
    with door.raw() as wire:
        wire.sendall(head(key, "Transfer-Encoding: chunked"))
        with contextlib.suppress(ConnectionError):
            for _ in range(160):
                wire.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            wire.sendall(b"0\r\n\r\n")
        status, problem = read_answer(wire)
    assert (status, problem["code"]) == (413, "BODY_TOO_LARGE")


def test_a_body_in_small_chunks_is_read(door, key):
    body = json.dumps(a_request()).encode()
    with door.raw() as wire:
        wire.sendall(head(key, "Transfer-Encoding: chunked"))
        for at in range(0, len(body), 50):
            piece = body[at : at + 50]
            wire.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        wire.sendall(b"0\r\n\r\n")
        assert read_answer(wire)[0] == 202


@pytest.mark.usefixtures("nothing_stored")
@pytest.mark.parametrize("chunked", [True, False])
def test_a_whole_document_in_a_cut_message_places_nothing(door, key, chunked):
    body = json.dumps(a_request()).encode()
    with door.raw() as wire:
        if chunked:
            wire.sendall(head(key, "Transfer-Encoding: chunked") + f"{len(body):x}\r\n".encode() + body + b"\r\n")
        else:
            wire.sendall(head(key, f"Content-Length: {len(body) + 1}") + body)
        time.sleep(0.2)


@pytest.mark.usefixtures("nothing_stored")
@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v2/orders/multi HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2/orders/multi HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v2/orders/multi HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /v2/orders/multi HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
    ],
    ids=["word", "version", "length", "lengths", "coding", "chunk", "path", "field", "name"],
)
def test_what_is_no_http_is_told_as_a_problem(door, sent):
    with door.raw() as wire:
        wire.sendall(sent)
        status, problem = read_answer(wire)
    assert 400 <= status < 500 or status in (501, 505)
    assert (problem["status"], problem["code"]) == (status, "BAD_REQUEST")


@pytest.mark.parametrize("path", ["/v2/orders", "/livez", "/nowhere"])
def test_a_web_socket_where_there_is_none_is_refused(door, path):
    with door.raw() as wire:
        wire.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert wire.recv(1000).startswith(b"HTTP/1.1 403 ")


def test_a_connection_is_used_again_after_a_refusal(door, key):
    with door.client(key) as client:
        for body in (b"{", b"[]", b'{"orders": []}'):
            refused = client.post(PLACE, content=body, headers={**a_key(), "Content-Type": "application/json"})
            assert refused.status_code in (400, 422)
        assert client.post(PLACE, json=a_request(), headers=a_key()).status_code == 202


def test_a_crowd_that_comes_at_once_finds_room_while_the_process_is_busy(tmp_path, database_url, queue_url, services):
    urls = {"database_url": database_url, "queue_url": queue_url, "redis_url": services.redis_url}
    with serving(tmp_path, **urls) as door, ExitStack() as stack:
        (worker,) = workers_of(door)
        os.kill(worker, signal.SIGSTOP)
        try:
            crowd = [stack.enter_context(door.raw(timeout_s=5)) for _ in range(400)]
            for wire in crowd:
                wire.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        finally:
            os.kill(worker, signal.SIGCONT)
        assert {read_answer(wire)[0] for wire in crowd} == {200}


def test_while_the_database_is_away_the_answer_is_quick_and_says_so(
    tmp_path, database_url, queue_url, services, key, owner_database_url
):
    with contextlib.closing(Proxy(database_url)) as proxy, ExitStack() as stack:
        urls = {"database_url": proxy.url, "queue_url": queue_url, "redis_url": services.redis_url}
        client = stack.enter_context(stack.enter_context(serving(tmp_path, **urls)).client(key))
        assert client.post(PLACE, json=a_request(), headers=a_key()).status_code == 202
        proxy.cut()
        lost = a_key()
        times = []
        for _ in range(30):
            began = time.monotonic()
            answer = client.post(PLACE, json=a_request(), headers=lost)
            times.append(time.monotonic() - began)
            assert (answer.status_code, answer.json()["code"]) == (503, "STORE_UNAVAILABLE")
            assert int(answer.headers["Retry-After"]) >= 1
            read = client.get("/v2/orders")
            assert (read.status_code, read.json()["code"]) == (503, "STORE_UNAVAILABLE")
        assert max(times) < 3.5
        assert sorted(times)[15] < 0.1
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert client.get("/livez").status_code == 200
        proxy.mend()
        end = time.monotonic() + 5
        while client.post(PLACE, json=a_request(), headers=lost).status_code != 202:
            assert time.monotonic() < end
            time.sleep(0.1)
        while client.get("/v2/orders").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_without_redis_and_the_queue_orders_are_accepted_and_waiters_served(
    tmp_path, database_url, owner_database_url, key
):
    with (
        serving(tmp_path, database_url=database_url, queue_url="amqp://127.0.0.1:1/", redis_url=NOWHERE) as door,
        door.client(key) as client,
        psycopg.connect(owner_database_url, autocommit=True) as record,
    ):
        placed = client.post(PLACE, json=a_request(), headers=a_key())
        assert placed.status_code == 202
        assert client.get("/readyz").json()["status"] == "degraded"
        settle = threading.Timer(
            0.3, record.execute, ("update orders set state = 'OPEN' where intent_id = %s", (placed.json()["intentId"],))
        )
        settle.start()
        began = time.monotonic()
        assert client.get(f"{placed.headers['Location']}?wait=20").json()["status"] == "DONE"
        assert time.monotonic() - began < 5
        settle.join()


def test_while_the_queue_is_away_the_age_of_what_waits_shuts_no_door(tmp_path, own_database, services):
    database_url = services.database_url("app", own_database)
    with psycopg.connect(services.database_url("owner", own_database), autocommit=True) as record, ExitStack() as stack:
        record.execute("insert into settings (name, value, updated_by) values ('admission_age_s', '0.05', 'test')")
        key = make_key(database_url, "ada", Role.TRADER)
        urls = {"database_url": database_url, "queue_url": "amqp://127.0.0.1:1/", "redis_url": services.redis_url}
        client = stack.enter_context(stack.enter_context(serving(tmp_path, **urls)).client(key))
        end = time.monotonic() + 10
        while client.post(PLACE, json=a_request(), headers=a_key()).status_code != 202:  # until it has seen so
            assert time.monotonic() < end
        last = time.monotonic() + 1.0  # five looks of the admission, each of which finds old work
        while time.monotonic() < last:
            assert client.post(PLACE, json=a_request(), headers=a_key()).status_code == 202


def test_an_end_answers_those_who_wait_and_is_quick(tmp_path, database_url, queue_url, services, key):
    with serving(tmp_path, database_url=database_url, queue_url=queue_url, redis_url=services.redis_url) as door:
        answers = []
        with door.client(key) as client, door.client(key) as idle:
            assert idle.get("/livez").status_code == 200  # its connection stays open
            placed = client.post(PLACE, json=a_request(), headers=a_key())
            waiting = threading.Thread(
                target=lambda: answers.append(client.get(f"{placed.headers['Location']}?wait=60"))
            )
            waiting.start()
            time.sleep(0.5)
            took = door.stop()
            waiting.join(5)
            assert took < 8
            assert door.process.returncode == 0
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "RUNNING")]


def test_a_half_sent_request_does_not_hold_up_the_end(tmp_path, database_url, queue_url, services, key):
    with (
        serving(tmp_path, database_url=database_url, queue_url=queue_url, redis_url=services.redis_url) as door,
        door.raw() as wire,
    ):
        wire.sendall(head(key, "Content-Length: 1000") + b"{")
        time.sleep(0.3)
        assert door.stop() < 8.5


def test_two_processes_count_together_and_replay_each_others_answers(tmp_path, database_url, queue_url, services, key):
    urls = {"database_url": database_url, "queue_url": queue_url, "redis_url": services.redis_url}
    with serving(tmp_path, **urls, WEB_CONCURRENCY="2") as door:
        request, once = a_request(), a_key()
        answers = []
        for _ in range(20):
            with door.client(key) as client:  # a connection each, so that both processes get some
                answers.append(client.post(PLACE, json=request, headers=once))
        with door.client(None) as client:
            page = client.get("/metrics").text
        counted = [line for line in page.splitlines() if line.startswith("coordinator_http_seconds_count")]
        assert sum(float(line.split()[-1]) for line in counted if "place_multi" in line) == 20
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["intentId"] for answer in answers}) == 1
        assert door.stop() < 8


def test_an_end_finds_a_worker_that_has_just_begun(tmp_path, database_url, queue_url, services, key):
    urls = {"database_url": database_url, "queue_url": queue_url, "redis_url": services.redis_url}
    with serving(tmp_path, **urls, WEB_CONCURRENCY="2") as door:
        before = workers_of(door)
        os.kill(min(before), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while not (begun := workers_of(door) - before):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)  # in the midst of its imports, which take longer

        assert door.stop() < 8
        assert not any(Path(f"/proc/{worker}").exists() for worker in begun)


def workers_of(door: Server) -> set[int]:
    return set(map(int, Path(f"/proc/{door.process.pid}/task/{door.process.pid}/children").read_text().split()))
