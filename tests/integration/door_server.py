"""A web process as the Procfile starts it, for the tests: its address, keys for it, and raw connections to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from domain.ids import new_id
from store import settings
from store.unit import Store
from store.users import Role, create_key, create_user

SECRET = "s" * 64
PROJECT = Path(__file__).resolve().parents[2]
PLACE = "/v2/orders/multi"


@dataclass
class Server:
    """A running web process."""

    port: int
    process: subprocess.Popen[bytes]
    database_url: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str | None) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)

    def raw(self, *, timeout_s: float = 20) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def stop(self) -> float:
        """End it as a supervisor would; how long it took."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(15)
        return time.monotonic() - began


@contextmanager
def serving(folder: Path, *, database_url: str, queue_url: str, redis_url: str, **environment: str) -> Iterator[Server]:
    port = free_port()
    ready = folder / f"ready-{port}"
    named = {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": queue_url,
        "REDIS_URL": redis_url,
        "COORDINATOR_SECRET": SECRET,
        "PORT": str(port),
        "READY_FILE": str(ready),
        "WEB_CONCURRENCY": "1",
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "ingress/gunicorn.conf.py", "ingress.app:from_env()"]
    log = folder / f"web-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=os.environ | named | environment, stdout=output, stderr=output
        )
        try:
            deadline = time.monotonic() + 60
            while not ready.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield Server(port, process, database_url)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(12)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


def let_everything_in(database_url: str) -> None:
    """No stage works here, so that what is accepted stays due; admission must not shut the door for it."""
    store = Store(database_url, name="test", size=1)
    try:
        with store.unit() as unit:
            settings.change(unit, "admission_age_s", 86_400.0, by="test")
    finally:
        store.close()


def make_key(database_url: str, user: str, role: Role, *, requests_per_s: int = 10_000) -> str:
    store = Store(database_url, name="test", size=1)
    try:
        with store.unit() as unit:
            user_id = create_user(unit, user)
            return create_key(
                unit,
                user_id=user_id,
                name=f"{user} {role}",
                role=role,
                pepper=SECRET.encode(),
                requests_per_s=requests_per_s,
            )
    finally:
        store.close()


def a_request(*lines: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"orders": list(lines or (a_line(),)), **members}


def a_line(**fields: Any) -> dict[str, Any]:
    known = {
        "correlationId": "leg-1",
        "instrument": "NSE:INFY",
        "side": "BUY",
        "quantity": 10,
        "product": "CNC",
        "orderType": "LIMIT",
        "price": "1512.50",
    }
    return known | fields


def a_key() -> dict[str, str]:
    return {"Idempotency-Key": f"test-{new_id()}"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
