"""What the supervisor owes its processes, tried on small ones, with servers that run already."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_services import SharedServices

from ops.child import Process
from ops.leftovers import read_stat
from ops.probes import wait_until
from ops.runfolder import FolderProblem
from ops.stack import Stack
from ops.supervisor import ProcessFailed

SLEEPER = 'touch "$READY_FILE"; sleep 1000 & wait'  # two processes in one group


@pytest.fixture
def given(services: SharedServices) -> dict[str, str]:
    """An environment that names the servers, so that a stack starts none of its own."""
    urls = {key.upper(): str(services.state[key]) for key in ("database_url", "redis_url")}
    return dict(os.environ) | urls | {"RABBITMQ_URL": services.queue_url}


@pytest.fixture
def stack(tmp_path: Path, given: dict[str, str]) -> Iterator[Stack]:
    with Stack(tmp_path / "run", lambda stack: [sleeper(stack)], ports={"web": None}, environment=given) as running:
        yield running


def sleeper(stack: Stack, name: str = "sleeper", script: str = SLEEPER, **more: float) -> Process:
    ready = stack.folder.root / f"{name}.ready"
    return Process(name, ["sh", "-c", script], env=stack.environment(), ready_file=ready, **more)  # type: ignore[arg-type]


def test_a_killed_process_is_started_again_and_told_in_the_state_file(stack: Stack) -> None:
    before = stack.pids()["sleeper"]

    stack.kill("sleeper")
    stack.wait_ready("sleeper")

    after = stack.pids()["sleeper"]
    assert after != before
    assert stack.supervisor.restarts("sleeper") == 1
    assert wait_until(lambda: stack.folder.read_json("stack.json")["processes"] == {"sleeper": after}, timeout_s=5)


def test_no_child_of_a_dead_process_outlives_it(stack: Stack) -> None:
    leader = stack.pids()["sleeper"]
    assert wait_until(lambda: len(group(leader)) == 2, timeout_s=5)

    os.kill(leader, signal.SIGKILL)

    assert wait_until(lambda: group(leader) == [], timeout_s=5)


def test_a_restart_is_a_stop_and_a_start(stack: Stack) -> None:
    before = stack.pids()["sleeper"]

    stack.restart("sleeper")

    assert read_stat(before) is None
    assert stack.pids()["sleeper"] != before
    assert stack.supervisor.restarts("sleeper") == 0


def test_a_process_that_does_not_stop_is_killed_when_its_grace_is_over(tmp_path: Path, given: dict[str, str]) -> None:
    deaf = "trap '' TERM; " + SLEEPER + "; wait; wait"

    with Stack(tmp_path, lambda stack: [sleeper(stack, script=deaf, stop_grace_s=0.3)], environment=given) as stack:
        leader = stack.pids()["sleeper"]

    assert group(leader) == []


def test_a_process_that_dies_at_its_start_fails_the_stack_with_its_last_words(
    tmp_path: Path, given: dict[str, str]
) -> None:
    broken = "echo the port is taken; exit 3"

    with (
        pytest.raises(ProcessFailed, match=r"(?s)exit status 3.*the port is taken"),
        Stack(tmp_path, lambda stack: [sleeper(stack, script=broken), sleeper(stack, "other")], environment=given),
    ):
        pytest.fail("it came up all the same")


def test_what_prepare_returns_is_in_the_state_file_and_processes_come_after_it(
    tmp_path: Path, given: dict[str, str]
) -> None:
    def prepare(stack: Stack) -> dict[str, object]:
        assert stack.pids() == {}
        return {"keys": {"trader": stack.database_url}}

    with Stack(tmp_path, lambda stack: [sleeper(stack)], prepare=prepare, environment=given) as stack:
        state = stack.folder.read_json("stack.json")

    assert state["keys"] == {"trader": given["DATABASE_URL"]}
    assert state["queue_url"] == given["RABBITMQ_URL"]
    assert not (tmp_path / "stack.json").exists()


def test_two_stacks_never_share_a_run_folder(stack: Stack) -> None:
    with pytest.raises(FolderProblem, match="running"), Stack(stack.folder.root):
        pytest.fail("it came up all the same")


def test_the_web_port_stays_the_same_as_long_as_it_is_free(tmp_path: Path, given: dict[str, str]) -> None:
    def port_of_next_run() -> int:
        with Stack(tmp_path, ports={"web": None}, environment=given) as stack:
            return stack.ports["web"]

    first = port_of_next_run()
    second = port_of_next_run()
    with socket.create_server(("127.0.0.1", first)):
        third = port_of_next_run()

    assert second == first
    assert third != first


def test_the_secret_is_kept(tmp_path: Path, given: dict[str, str]) -> None:
    secrets = []
    for _ in range(2):
        with Stack(tmp_path, environment=given) as stack:
            secrets.append(stack.environment()["COORDINATOR_SECRET"])

    assert secrets[0] == secrets[1]
    assert len(bytes.fromhex(secrets[0])) == 32


def group(leader: int) -> list[int]:
    stats = [read_stat(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()]
    return [stat.pid for stat in stats if stat and stat.group == leader and stat.state != "Z"]
