"""How gunicorn serves the door; all of it from the environment: HOST, PORT, WEB_CONCURRENCY, READY_FILE."""

import os
from pathlib import Path
from typing import Any

_SHARED_MEMORY = "/dev/shm"  # heartbeats never wait for a disk

wsgi_app = "ingress.app:from_env()"
worker_class = "ingress.worker.Worker"
workers = int(os.environ.get("WEB_CONCURRENCY") or max(1, (os.cpu_count() or 1) // 2))
bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
backlog = 2048
keepalive = 75
timeout = 30
graceful_timeout = 10
control_socket_disable = True
asgi_loop = "uvloop"
http_parser = "fast"
accesslog = None
limit_request_fields = 64
worker_tmp_dir = _SHARED_MEMORY if os.path.isdir(_SHARED_MEMORY) else None
proc_name = "coordinator-web"

os.environ["WEB_CONCURRENCY"] = str(workers)  # the rate limits' local share counts the processes


def on_starting(server: object) -> None:
    """A file left by the run before must not say that this one serves."""
    ready = os.environ.get("READY_FILE")
    if ready:
        Path(ready).unlink(missing_ok=True)
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for old in Path(folder).glob("*.db"):
            old.unlink()


def child_exit(server: object, worker: Any) -> None:
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
