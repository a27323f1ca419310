"""Where the servers of this installation are, for an operator's command: from the environment, else from the stack."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.profiles import find_stack_file

NAMES = {
    "DATABASE_URL": "database_url",
    "OWNER_DATABASE_URL": "owner_database_url",
    "RABBITMQ_URL": "queue_url",
    "REDIS_URL": "redis_url",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of the installation; an empty text is something nobody told.

    `variables` are those of the processes: the URLs and COORDINATOR_SECRET. `processes` are the pids of a stack.
    """

    variables: dict[str, str] = field(repr=False)
    base_url: str = ""
    processes: dict[str, int] = field(default_factory=dict)
    run_folder: Path | None = None
    source: str = "the environment"

    @property
    def database_url(self) -> str:
        return self.variables.get("DATABASE_URL", "")

    @property
    def owner_url(self) -> str:
        return self.variables.get("OWNER_DATABASE_URL") or self.database_url

    @property
    def queue_url(self) -> str:
        return self.variables.get("RABBITMQ_URL", "")

    @property
    def redis_url(self) -> str:
        return self.variables.get("REDIS_URL", "")

    def adopt(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Make this process's environment what the installation's own processes have."""
        environment.update(self.variables)


def look_around(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Surroundings:
    """The variables that are set; where DATABASE_URL isn't, those of the stack that runs here or in a folder above."""
    environment = os.environ if environment is None else environment
    named = {name: environment[name] for name in (*NAMES, "COORDINATOR_SECRET") if environment.get(name)}
    stack_file = find_stack_file(folder or Path.cwd())
    if "DATABASE_URL" in named or stack_file is None:
        return Surroundings(named)
    stack = _read(stack_file)
    found = {name: str(stack[key]) for name, key in NAMES.items() if stack.get(key)}
    found |= {f"{name.upper()}_BASE_URL": str(url) for name, url in stack.get("simulators", {}).items()}
    secret = stack_file.with_name("secret")
    if secret.exists():
        found["COORDINATOR_SECRET"] = secret.read_text()
    pids = {name: pid for name, pid in stack.get("processes", {}).items() if isinstance(pid, int)}
    return Surroundings({**found, **named}, str(stack.get("base_url", "")), pids, stack_file.parent, str(stack_file))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
