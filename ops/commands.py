"""What a person can do with the stack: up, down, status, clean, and the services alone."""

from __future__ import annotations

import argparse
import functools
import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ops.background import Report, detach
from ops.console import Console, Say
from ops.interrupts import Interrupted, handling_interrupts
from ops.leftovers import Identity, end_leftovers, send
from ops.probes import wait_until
from ops.runfolder import FolderProblem, RunFolder
from ops.stack import PROJECT, STATE, Stack
from ops.supervisor import RECORD, ProcessFailed

RUN = PROJECT / ".run"
OTHERS = (PROJECT / ".run-dev", PROJECT / ".run-test", PROJECT / ".run-bench", PROJECT / ".run-chaos", PROJECT / ".run-chaos-queue")
STOP_WITHIN_S = 15.0

MakeStack = Callable[..., Stack]


def up(*, detached: bool = False, root: Path = RUN, make_stack: MakeStack | None = None) -> int:
    """Start the stack and stay until told to stop; detached, return when all is ready. 0 when it runs already.

    `make_stack(root, say=...)` gives the stack; the coordinator's own unless told otherwise. What its prepare step returned is told at the end: `keys` and
    `first_command`, if they are there.
    """
    folder = RunFolder(root)
    try:
        folder.make()
    except (FolderProblem, OSError) as error:
        return could_not_start(str(error))
    if folder.is_locked():
        print(f"already running: {folder.read_json(STATE, {}).get('base_url', 'it is still starting')}")
        return 0

    def run(report: Report) -> int:
        return run_until_told(lambda: (make_stack or coordinator_stack())(root, say=Console()), report)

    if not detached:
        return run(lambda reason: None)
    reason = detach(run, folder.logs / "supervisor.log")
    if reason:
        return could_not_start(reason)
    tell(folder.read_json(STATE, {}), folder)
    return 0


def coordinator_stack() -> MakeStack:
    """Imported only here: it brings the whole coordinator along, and `down` and `clean` work without an environment."""
    from ops.processes import coordinator_stack

    return coordinator_stack


def run_until_told(make: Callable[[], Stack], report: Report) -> int:
    with handling_interrupts() as interrupts:
        try:
            with make() as stack:
                tell(stack.folder.read_json(STATE, {}), stack.folder)
                report("")
                interrupts.wait()
                print("stopping ...", flush=True)
        except Interrupted:
            report("it was told to stop")
        except (ProcessFailed, FolderProblem, OSError) as error:
            report(str(error))
            return could_not_start(str(error))
    return 0


def could_not_start(reason: str) -> int:
    print(f"could not start: {reason}", file=sys.stderr, flush=True)
    return 1


def tell(state: Mapping[str, Any], folder: RunFolder) -> None:
    """The address, a trader's key, and a first command to try."""
    lines = {
        "Address": state.get("base_url"),
        "Database": None if "base_url" in state else state.get("database_url"),
        "Queue": None if "base_url" in state else state.get("queue_url"),
        "Redis": None if "base_url" in state else state.get("redis_url"),
        "A trader's key": state.get("keys", {}).get("trader"),
        "Try": state.get("first_command"),
        "Logs": folder.logs,
        "Stop": "Ctrl-C, or `make stop`",
    }
    print("\n" + "".join(f"  {name + ':':<16}{value}\n" for name, value in lines.items() if value), flush=True)


def down(*, root: Path = RUN) -> int:
    """Stop the stack of that run folder, whoever started it, and wait till all of it is gone."""
    folder = RunFolder(root)
    records = [Identity.from_json(record) for record in folder.read_json(RECORD, [])]
    if not folder.is_locked():
        ended = end_leftovers(records)
        print(f"was not running; ended {ended} processes left by a killed run" if ended else "is not running")
        return 0
    holder = folder.holder()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if holder and holder.is_alive():
            send(holder.pid, number)
        if wait_until(lambda: not folder.is_locked(), timeout_s=STOP_WITHIN_S):
            end_leftovers(records)
            print("stopped")
            return 0
    print(f"could not be stopped: {folder.root / 'lock'} is still held", file=sys.stderr)
    return 1


def status(*, as_json: bool = False, root: Path = RUN) -> int:
    """Say whether it runs, where, and as which processes. 0 when it is up, 1 when it isn't."""
    folder = RunFolder(root)
    state = folder.read_json(STATE, {}) if folder.is_locked() else {}
    answer = "up" if state else "starting" if folder.is_locked() else "down"
    if as_json:
        print(json.dumps({"status": answer} | state, indent=2))
    else:
        print(f"{answer}  {state.get('base_url', '')}".rstrip())
        for name, pid in state.get("processes", {}).items():
            print(f"  {name:<18} pid {pid}")
    return 0 if state else 1


def clean() -> int:
    """Stop whatever runs in this clone, then remove all its state, what root keeps outside of it included."""
    for root in (RUN, *OTHERS):
        folder = RunFolder(root)
        if folder.is_locked() and down(root=root) != 0:
            return 1
        end_leftovers(Identity.from_json(record) for record in folder.read_json(RECORD, []))
        folder.remove()
    return 0


def services_alone(root: Path, *, say: Say, fast: bool) -> Stack:
    """No process, and some virtual hosts to choose from."""
    return Stack(root, vhosts=("/", "gw0", "gw1", "gw2", "gw3"), say=say, fast=fast)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.stack", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "services", "clean"])
    parser.add_argument("--root", type=Path, help="the run folder (.run; .run-dev for services)")
    parser.add_argument("--detach", action="store_true", help="up, services: return when all is ready")
    parser.add_argument("--fast", action="store_true", help="services: force nothing onto the disk")
    parser.add_argument("--json", action="store_true", help="status: one JSON document")
    chosen = parser.parse_args()
    match chosen.command:
        case "up":
            return up(detached=chosen.detach, root=chosen.root or RUN)
        case "down":
            return down(root=chosen.root or RUN)
        case "status":
            return status(as_json=chosen.json, root=chosen.root or RUN)
        case "services":
            alone = functools.partial(services_alone, fast=chosen.fast)
            return up(detached=chosen.detach, root=chosen.root or OTHERS[0], make_stack=alone)
        case _:
            return clean()


if __name__ == "__main__":
    sys.exit(main())
