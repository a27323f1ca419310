"""How gunicorn serves the door; all of it from the environment: HOST, PORT, WEB_CONCURRENCY, READY_FILE."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

_SHARED_MEMORY = "/dev/shm"  # heartbeats never wait for a disk
_METRICS = "PROMETHEUS_MULTIPROC_DIR"  # where several processes count together

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


_OWN_METRICS = tempfile.mkdtemp(prefix="coordinator-metrics-") if workers > 1 and not os.environ.get(_METRICS) else None
if _OWN_METRICS is not None:
    os.environ[_METRICS] = _OWN_METRICS


def on_starting(server: object) -> None:
    """What the run before has left must not speak for this one."""
    ready = os.environ.get("READY_FILE")
    if ready:
        Path(ready).unlink(missing_ok=True)
    folder = os.environ.get(_METRICS)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for old in Path(folder).glob("*.db"):
            old.unlink()


def child_exit(server: object, worker: Any) -> None:
    if os.environ.get(_METRICS):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: object) -> None:
    if _OWN_METRICS is not None:
        shutil.rmtree(_OWN_METRICS, ignore_errors=True)
