"""What a stack does before its processes start: the schema, the sandbox, and the keys to it."""

from __future__ import annotations

from typing import Any

from ops.sandbox import ACCOUNTS, SandboxAccount, seed
from ops.stack import Stack
from store.migrate import upgrade

KEYS = "keys.json"
FIRST_COMMAND = ".venv/bin/trader order place-multi examples/orders.json --wait"


def prepare(stack: Stack, *, accounts: tuple[SandboxAccount, ...] = ACCOUNTS, requests_per_s: int = 1_000) -> dict[str, Any]:
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
