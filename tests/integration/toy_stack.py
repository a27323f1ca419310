"""A small stack to start, kill and stop: `python toy_stack.py up|down ROOT`. One forked web server, one stubborn worker."""

from __future__ import annotations

import sys
from pathlib import Path

from ops.child import Process
from ops.commands import down, up
from ops.console import Say
from ops.probes import http_ok
from ops.stack import Stack

# Ignores SIGTERM and takes off its leash: only SIGKILL, sent by somebody who remembers it, ends it.
STUBBORN = """
import ctypes, os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
pathlib.Path(os.environ["READY_FILE"]).touch()
while True:
    time.sleep(3600)
"""


def web(stack: Stack) -> Process:
    module = ["http.server", str(stack.ports["web"]), "--bind", "127.0.0.1"]
    folder = stack.folder.root / "public"
    folder.mkdir(exist_ok=True)
    ready = http_ok(stack.base_url)
    return Process("web", ["python", "-m", *module], env=stack.environment(), ready=ready, folder=folder, module=module)


def worker(stack: Stack) -> Process:
    ready = stack.folder.root / "worker.ready"
    command = ["python", "-c", STUBBORN]
    return Process("worker", command, env=stack.environment(), ready_file=ready, stop_grace_s=0.5)


def toy_stack(root: Path, *, say: Say) -> Stack:
    facts = {"keys": {"trader": "a-key"}, "first_command": "trader order list"}
    processes = lambda stack: [web(stack), worker(stack)]  # noqa: E731
    ports: dict[str, int | None] = {"web": 8000}
    return Stack(root, processes, ports=ports, prepare=lambda stack: facts, imports=["http.server"], say=say, fast=True)


if __name__ == "__main__":
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "down":
        sys.exit(down(root=folder))
    sys.exit(up(root=folder, make_stack=toy_stack, detached="--detach" in sys.argv))
