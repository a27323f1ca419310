"""What a stack does before its processes start: the schema, the sandbox, and the keys to it."""

from __future__ import annotations

from typing import Any, Protocol

from ops.sandbox import ACCOUNTS, SandboxAccount, seed
from store.migrate import upgrade

KEYS = "keys.json"
FIRST_COMMAND = ".venv/bin/trader order place-multi examples/orders.json --wait"


class _Folder(Protocol):
    def read_json(self, name: str, default: Any) -> Any: ...
    def write_json(self, name: str, value: Any) -> None: ...
    def secret(self, name: str) -> str: ...


class _Stack(Protocol):
    """What of a stack is needed here."""

    @property
    def folder(self) -> _Folder: ...
    @property
    def database_url(self) -> str: ...
    @property
    def owner_database_url(self) -> str: ...


def prepare(stack: _Stack, *, accounts: tuple[SandboxAccount, ...] = ACCOUNTS, requests_per_s: int = 1_000) -> dict[str, Any]:
    """Migrate and seed; gives the sandbox's keys, the same ones at every start of the same run folder."""
    upgrade(stack.owner_database_url)
    known = stack.folder.read_json(KEYS, {})
    keys = seed(
        stack.database_url,
        secret=stack.folder.secret("secret"),
        known_keys=known,
        accounts=accounts,
        requests_per_s=requests_per_s,
    )
    stack.folder.write_json(KEYS, keys)
    return {"keys": keys, "first_command": FIRST_COMMAND}
