"""Imports once what the coordinator's processes import, and becomes each of them by forking: none imports it again.

Run as `python -m ops.forkserver NAME... SOCKET` by ops/forking.py, with what to import, modules and packages with all that
is in them, and the number of an inherited socket. One thread, and nothing that a second process mustn't share,
may be here before a fork: no connection, no random number drawn by a generator that a fork would copy.

A request and its answer are one JSON document each. "fork" is answered with the pid; who asked watches that process
itself. "reap" is answered with the exit status, and only then may the kernel give the number to another process.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ops.leash import PR_SET_PDEATHSIG, restore_signals

PR_SET_NAME = 15
REQUEST_MAX = 128 * 1024  # bytes: an environment and a command
_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: Sequence[str]) -> int:
    *names, number = arguments
    asked = socket.socket(fileno=int(number))
    asked.set_inheritable(False)
    for name in names:
        import_all(name)
    gc.collect()
    gc.freeze()  # pages that no collection touches stay shared
    Path(os.environ["READY_FILE"]).touch()
    while message := asked.recv(REQUEST_MAX):
        request = json.loads(message)
        answer = reap(request["pid"]) if request["do"] == "reap" else fork(request)
        if answer is None:
            asked.close()
            return run(request["module"])
        asked.send(json.dumps(answer).encode())
    return 0


def reap(pid: int) -> dict[str, Any]:
    _, status = os.waitpid(pid, 0)
    return {"status": os.waitstatus_to_exitcode(status)}


def fork(request: dict[str, Any]) -> dict[str, Any] | None:
    """The pid, once it leads a group of its own to which signals can be sent; None in the fork itself."""
    here, there = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:  # no memory, or too many processes: that is this one's trouble, and no other's
        os.close(here)
        os.close(there)
        return {"error": str(error)}
    if pid == 0:
        os.close(here)
        become(request, parent)
        os.close(there)
        return None
    os.close(there)
    os.read(here, 1)  # nothing is written: it ends when the fork closes its side
    os.close(here)
    return {"pid": pid}


def import_all(name: str) -> None:
    """Import a module, or a package with all its modules but its programs."""
    module = importlib.import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if not found.name.endswith(".__main__"):
            import_all(found.name)


def become(request: dict[str, Any], parent: int) -> None:
    """What the leash does for a program: a session of its own that ends with its parent; then folder and environment.

    Its log comes first, so that all that goes wrong is told there.
    """
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.setsid()
    restore_signals()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # these two as the interpreter has them after its start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _libc.prctl(PR_SET_PDEATHSIG, int(request["stop_signal"]), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the fork server is gone already")
    _libc.prctl(PR_SET_NAME, request["name"].encode()[:15], 0, 0, 0)
    os.chdir(request["folder"])
    sys.path[0] = os.getcwd()
    os.environ.clear()
    os.environ.update(request["env"])


def run(words: Sequence[str]) -> int:
    """Be `python -m WORDS`: the module is run as the program, also where its import has been done before."""
    name = words[0]
    sys.argv = list(words)
    sys.modules.pop(name, None)
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
