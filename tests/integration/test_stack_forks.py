"""Processes that a fork server becomes: they are looked after as those that were started as programs are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from shared_services import SharedServices

from ops.child import LEASH, Process
from ops.leftovers import read_stat
from ops.probes import wait_until
from ops.processes import module_of, read_procfile
from ops.stack import PROJECT, Stack
from ops.supervisor import FORK_SERVER, ProcessFailed

COSTLY = "print('the import is done', flush=True)"  # it goes to the log of who imports
DIES_IN_THE_FORK_SERVER = """
import __main__
if "forkserver" in __main__.__file__:
    raise SystemExit("it can't be imported")
"""
PROGRAM = """
import os, pathlib, signal, sys
import costly
if "fail" in sys.argv:
    sys.exit("no such thing")
print(__name__, *sys.argv, os.environ["ONLY_HERE"], os.getcwd(), flush=True)
pathlib.Path(os.environ["READY_FILE"]).touch()
while True:
    signal.pause()
"""
Start = Callable[..., Stack]


@pytest.fixture
def given(tmp_path: Path, services: SharedServices) -> dict[str, str]:
    """An environment that names the servers, so that a stack starts none of its own, and where to find the program."""
    (tmp_path / "costly.py").write_text(COSTLY)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "program.py").write_text(PROGRAM)  # found as `python -m` finds it, in the process's folder
    urls = {key.upper(): str(services.state[key]) for key in ("database_url", "redis_url")}
    return dict(os.environ) | urls | {"RABBITMQ_URL": services.queue_url, "PYTHONPATH": str(tmp_path)}


def stack_of(tmp_path: Path, given: dict[str, str], *more: str) -> Stack:
    def processes(stack: Stack) -> list[Process]:
        words, ready = ["program", "one", *more], stack.folder.root / "worker.ready"
        env = stack.environment(ONLY_HERE="yes")
        return [Process("worker", ["python", "-m", *words], env=env, ready_file=ready, folder=tmp_path / "folder", module=words)]

    return Stack(tmp_path / "run", processes, imports=["costly"], environment=given)


@pytest.fixture
def stack(tmp_path: Path, given: dict[str, str]) -> Iterator[Stack]:
    with stack_of(tmp_path, given) as running:
        yield running


def test_a_fork_is_the_program_with_session_folder_log_and_environment_of_its_own(stack: Stack, tmp_path: Path) -> None:
    pids = stack.pids()
    pid = pids["worker"]

    assert parent_of(pid) == pids[FORK_SERVER]
    stat = read_stat(pid)
    assert stat is not None
    assert stat.group == os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/comm").read_text() == "worker\n"
    folder = tmp_path / "folder"
    assert (stack.folder.logs / "worker.log").read_text() == f"__main__ {folder}/program.py one yes {folder}\n"
    assert (stack.folder.logs / f"{FORK_SERVER}.log").read_text() == "the import is done\n"
    assert not any("socket" in os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
    assert signals_of(pid) == signals_of_a_program()


def test_a_fork_hears_a_signal_that_is_sent_at_once(stack: Stack, tmp_path: Path) -> None:
    process = stack.supervisor._children["worker"].process
    for number in range(40):
        name = f"worker-{number}"
        stack.supervisor.start(replace(process, name=name, ready_file=tmp_path / name))
        gone = stack.supervisor._children[name].gone
        stack.kill(name, signal.SIGTERM)

        assert gone.wait(2.0)
        stack.supervisor.stop(name)


def test_a_process_that_no_fork_server_can_be_told_of_is_started_and_no_other_is_touched(stack: Stack) -> None:
    process = stack.supervisor._children["worker"].process
    before = stack.pids()

    stack.supervisor.start(replace(process, name="large", env={**process.env, "LARGE": "x" * 120_000, "MORE": "x" * 20_000}))
    stack.supervisor.wait_ready("large")

    after = stack.pids()
    assert parent_of(after["large"]) == os.getpid()
    assert {name: after[name] for name in before} == before


def test_a_killed_fork_is_forked_again(stack: Stack) -> None:
    before = stack.pids()

    stack.kill("worker")
    stack.wait_ready("worker")

    after = stack.pids()
    assert after["worker"] != before["worker"]
    assert parent_of(after["worker"]) == after[FORK_SERVER] == before[FORK_SERVER]
    assert read_stat(before["worker"]) is None  # the fork server has reaped it
    assert stack.supervisor.restarts("worker") == 1


def test_a_fork_ends_with_its_fork_server_and_both_come_back(stack: Stack) -> None:
    before = stack.pids()

    stack.kill(FORK_SERVER)
    assert wait_until(lambda: stack.supervisor.restarts("worker") == 1, timeout_s=10)
    stack.wait_ready(FORK_SERVER, "worker")

    after = stack.pids()
    assert not {*before.values()} & {*after.values()}
    assert parent_of(after["worker"]) == after[FORK_SERVER]
    assert wait_until(lambda: is_dead(before["worker"]), timeout_s=5)


def test_a_fork_does_not_wait_for_a_fork_server_that_dies_at_its_start(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "costly.py").write_text(DIES_IN_THE_FORK_SERVER)

    stack.kill(FORK_SERVER)
    assert wait_until(lambda: stack.supervisor.restarts("worker") == 1, timeout_s=20)
    stack.wait_ready("worker")

    assert parent_of(stack.pids()["worker"]) == os.getpid()


def test_where_the_fork_server_does_not_answer_the_program_is_started_and_it_is_replaced(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.forking.ANSWER_S", 0.2)
    stack.kill(FORK_SERVER)
    stack.wait_ready(FORK_SERVER, "worker")
    server = stack.pids()[FORK_SERVER]

    os.kill(server, signal.SIGSTOP)
    stack.restart("worker")

    assert parent_of(stack.pids()["worker"]) == os.getpid()
    assert wait_until(lambda: stack.pids().get(FORK_SERVER, server) != server, timeout_s=10)  # it was of no use
    stack.wait_ready(FORK_SERVER)


def test_a_fork_that_fails_at_its_start_tells_its_status_and_its_last_words(tmp_path: Path, given: dict[str, str]) -> None:
    with (
        pytest.raises(ProcessFailed, match=r"(?s)exit status 1.*no such thing"),
        stack_of(tmp_path, given, "fail"),
    ):
        pytest.fail("it came up all the same")


def test_where_no_death_is_told_programs_are_started(
    tmp_path: Path, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.pidfd_open")

    with stack_of(tmp_path, given) as stack:
        assert stack.pids().keys() == {"worker"}
        assert parent_of(stack.pids()["worker"]) == os.getpid()


def test_nothing_is_left_of_a_stack_with_forks(tmp_path: Path, given: dict[str, str]) -> None:
    with stack_of(tmp_path, given) as stack:
        pids = stack.pids()

    assert len(pids) == 2
    assert [pid for pid in pids.values() if read_stat(pid)] == []


def test_a_fork_server_can_become_every_process_of_the_procfile() -> None:
    modules = {name: module_of(command) for name, command in read_procfile(PROJECT / "Procfile").items()}

    assert modules["web"] == ["gunicorn", "-c", "ingress/gunicorn.conf.py", "ingress.app:from_env()"]
    assert modules["dispatch-upstox"] == ["pipeline.worker", "dispatch", "upstox"]
    assert all(modules.values())
    assert module_of("python -m pipeline.worker dispatch $BROKER") == []
    assert module_of("node server.js") == []


def is_dead(pid: int) -> bool:
    """Gone, or waiting for somebody who looks after orphans."""
    stat = read_stat(pid)
    return stat is None or stat.state == "Z"


def signals_of(pid: int | str) -> list[str]:
    """What it ignores, catches and blocks."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in lines if line.startswith(("SigIgn", "SigCgt", "SigBlk"))]


def signals_of_a_program() -> list[str]:
    script = "print(open('/proc/self/status').read())"
    command = [sys.executable, "-I", "-S", LEASH, str(os.getpid()), "15", "-", "--", sys.executable, "-c", script]
    status = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in status.splitlines() if line.startswith(("SigIgn", "SigCgt", "SigBlk"))]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
