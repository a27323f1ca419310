"""One whole stack for all live acceptance tests: real servers, real processes, simulated brokers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import System

from ops.processes import coordinator_stack
from ops.runfolder import RunFolder
from ops.supervisor import ProcessFailed

SERVERS = ("DATABASE_URL", "OWNER_DATABASE_URL", "RABBITMQ_URL", "REDIS_URL")


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Brokers that fill at once and in one trade; a lease that ends within seconds."""
    root: Path = tmp_path_factory.mktemp("live") / ".run"
    environment = {name: value for name, value in os.environ.items() if name not in SERVERS}
    try:
        with coordinator_stack(root, fast=True, environment=environment) as stack:
            system = System(stack)
            system.control("PUT", "/settings", {"partial_percent": 0})
            system.control("PUT", "/prices/NSE:INFY", {"price": "1121.00"})
            system.control("PUT", "/prices/NSE:SBIN", {"price": "1048.70"})
            system.use_settings(place_timeout_s=4.0, lease_margin_s=2.0)
            yield system
            system.close()
    except ProcessFailed as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the servers can't be started here: {error}")
    finally:
        RunFolder(root).remove()


@pytest.fixture
def system(live: System) -> Iterator[System]:
    """The stack with nothing broken, before and after."""
    live.control("DELETE", "/faults")
    yield live
    live.control("DELETE", "/faults")
