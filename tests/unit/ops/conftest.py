"""The commands run in this process, against a coordinator that is faked, in a folder and a home of their own."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_coordinator
import pytest

from ops import coordinator, trader
from ops.commandline import run

ORDER = {
    "correlationId": "leg-1",
    "instrument": "NSE:INFY",
    "side": "BUY",
    "quantity": 10,
    "product": "CNC",
    "orderType": "LIMIT",
    "price": "1512.50",
    "broker": "UPSTOX",
}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one document on standard output; fails when there is anything beside it."""
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _apart(monkeypatch, tmp_path):
    for name in ("TRADER_URL", "TRADER_KEY", "FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """The pauses of the commands are for people and servers; nothing here needs them."""
    monkeypatch.setattr("ops.watching.QUICK_PAUSE_S", 0.001)
    monkeypatch.setattr("ops.watching.RETRY_PAUSE_S", 0.001)
    monkeypatch.setattr("ops.placing.PAUSES_S", (0.001,) * 5)


@pytest.fixture
def fake(monkeypatch):
    server = fake_coordinator.FakeCoordinator().start()
    monkeypatch.setenv("TRADER_URL", server.url)
    monkeypatch.setenv("TRADER_KEY", fake_coordinator.KEY)
    yield server
    server.stop()


@pytest.fixture
def run_trader(capsys):
    return _runner(trader.commands, capsys)


@pytest.fixture
def run_coordinator(capsys):
    return _runner(coordinator.commands, capsys)


@pytest.fixture
def orders_file():
    """Writes a file of orders: one line for each given change of a good one."""

    def write(*changes: dict[str, Any], name: str = "orders.json") -> str:
        lines = [{**ORDER, "correlationId": f"leg-{number}", **change} for number, change in enumerate(changes, 1)]
        Path(name).write_text(json.dumps({"orders": lines}, indent=2))
        return name

    return write


@pytest.fixture
def terminal(monkeypatch):
    """Standard input and error are a person's; gives what to call with what the person types."""

    class Typed(io.StringIO):
        def isatty(self) -> bool:
            return True

    def types(text: str) -> None:
        monkeypatch.setattr("sys.stdin", Typed(text))
        monkeypatch.setattr("rich.console.Console.is_terminal", True)

    return types


def _runner(commands, capsys):
    def call(*words: str) -> Ran:
        code = run(commands(), list(words))
        told = capsys.readouterr()
        return Ran(int(code), told.out, told.err)

    return call
