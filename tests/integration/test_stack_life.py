"""A whole stack as a person runs it: started, stopped, killed, started again. Full runs, so its tests are long."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pika
import psycopg
import pytest
import redis
from shared_services import SharedServices

from ops.leftovers import Identity
from ops.probes import http_ok, wait_until
from ops.runfolder import RunFolder
from ops.stack import Stack

TOY = Path(__file__).with_name("toy_stack.py")
USUAL_PORTS = (5432, 5672, 6379, 8000)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = RunFolder(tmp_path / "private" / ".run")
    folder.root.parent.mkdir(mode=0o700)
    yield folder.root
    toy("down", folder.root)
    folder.remove()


def test_a_background_run_beside_taken_ports_ends_within_ten_seconds_of_sigint(root: Path) -> None:
    with ExitStack() as taken:
        for port in USUAL_PORTS:
            take(port, taken)
        # A shell without job control starts what is followed by & with SIGINT ignored.
        shell = f'"{sys.executable}" "{TOY}" up "{root}" > "{root.parent}/output" 2>&1 & echo $!'
        supervisor = int(subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout)
        state = wait_for_state(root)
        identities = recorded(root)
        assert http_ok(state["base_url"])()
        assert not any(f":{port}" in json.dumps(state) for port in USUAL_PORTS)

        asked_at = time.monotonic()
        os.kill(supervisor, signal.SIGINT)
        assert wait_until(lambda: mentioning(root) == [], timeout_s=10)

    assert time.monotonic() - asked_at < 10
    assert len(identities) == 7  # PostgreSQL, Valkey, RabbitMQ, epmd, fork server, web, worker
    assert [identity.name for identity in identities if identity.is_alive()] == []
    output = (root.parent / "output").read_text()
    assert "a-key" in output
    assert "trader order list" in output


def test_after_kill_9_of_the_supervisor_everything_ends_and_the_next_start_finds_it_all_again(root: Path) -> None:
    assert toy("up", root, "--detach") == 0
    first, children = wait_for_state(root), recorded(root)
    leave_something(first)
    supervisor = RunFolder(root).holder()
    assert supervisor is not None

    os.kill(supervisor.pid, signal.SIGKILL)

    stubborn = next(child for child in children if child.name == "worker")
    assert wait_until(lambda: [child for child in children if child.is_alive()] == [stubborn], timeout_s=10)
    assert toy("up", root, "--detach") == 0
    assert not stubborn.is_alive()
    second = wait_for_state(root)
    assert second["base_url"] == first["base_url"]
    assert_it_is_there(second)
    assert toy("up", root, "--detach") == 0  # says that it runs already
    assert toy("down", root) == 0
    assert wait_until(lambda: mentioning(root) == [], timeout_s=2)


def test_a_server_that_is_killed_comes_back_and_one_that_is_stopped_stays_away(
    root: Path, services: SharedServices
) -> None:
    given = dict(os.environ) | {"RABBITMQ_URL": services.queue_url}  # the slowest one; the other tests start it
    with Stack(root, fast=True, environment=given) as stack:
        before = stack.pids()

        stack.kill_service("postgres")
        stack.stop_service("valkey")
        stack.wait_ready("postgres")

        assert list(stack.pids()) == ["postgres"]
        with psycopg.connect(stack.database_url) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("app",)
        stack.start_service("valkey")
        with redis.Redis.from_url(stack.redis_url) as client:
            assert client.ping()
        assert stack.pids().keys() == before.keys()
        assert not set(stack.pids().values()) & set(before.values())


def toy(command: str, root: Path, *more: str) -> int:
    return subprocess.run([sys.executable, TOY, command, root, *more], check=False, timeout=60).returncode


def take(port: int, taken: ExitStack) -> None:
    try:
        taken.enter_context(socket.create_server(("127.0.0.1", port)))
    except OSError:
        return  # somebody has it already: as good


def wait_for_state(root: Path) -> dict[str, Any]:
    assert wait_until((root / "stack.json").exists, timeout_s=60), "the stack didn't come up"
    state: dict[str, Any] = json.loads((root / "stack.json").read_text())
    return state


def recorded(root: Path) -> list[Identity]:
    return [Identity.from_json(record) for record in RunFolder(root).read_json("processes.json")]


def mentioning(root: Path) -> list[str]:
    """The command lines of live processes that name the run folder or what lies outside of it."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            line = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(root) in line or str(RunFolder(root).outside) in line:
            found.append(line)
    return found


def leave_something(state: dict[str, Any]) -> None:
    with psycopg.connect(state["owner_database_url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
    with redis.Redis.from_url(state["redis_url"]) as client:
        client.set("kept", "yes")
        client.bgrewriteaof()
        assert wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], timeout_s=5)
    connection_to_queue = pika.BlockingConnection(pika.URLParameters(state["queue_url"]))
    channel = connection_to_queue.channel()
    channel.confirm_delivery()
    channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
    channel.basic_publish("", "kept", b"kept", pika.BasicProperties(delivery_mode=2))
    connection_to_queue.close()


def assert_it_is_there(state: dict[str, Any]) -> None:
    with psycopg.connect(state["owner_database_url"]) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (42,)
    with redis.Redis.from_url(state["redis_url"]) as client:
        assert client.get("kept") == b"yes"
    connection_to_queue = pika.BlockingConnection(pika.URLParameters(state["queue_url"]))
    assert connection_to_queue.channel().basic_get("kept", auto_ack=True)[2] == b"kept"
    connection_to_queue.close()
