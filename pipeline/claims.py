"""Claims on record: who holds which commands. A claim that is open over unlocked rows means that its worker died."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Sequence
from functools import cache

import psycopg

from domain.commands import Command
from domain.errors import StoreAway
from pipeline.crash import crash
from pipeline.desk import Desk
from store import commands

log = logging.getLogger(__name__)


@cache
def worker_name(pid: int) -> str:
    """This process's name in its claims. By pid, since a forked process is another one."""
    return f"{socket.gethostname()}-{pid}-{uuid.uuid4().hex[:8]}"


def open_claim(desk: Desk, stage: str, claimed: Sequence[Command]) -> int | None:
    """Committed on a connection of its own, while the caller's transaction holds the rows; closed with that one."""
    if desk.claim_store is None:
        return None
    crash("claims.before_open")
    with desk.claim_store.unit() as unit:
        return commands.open_claim(unit, worker_name(os.getpid()), stage, [command.order_id for command in claimed])


def forget_claim(desk: Desk, claim_id: int | None) -> None:
    """This worker lives: what it gave up killed nobody. Where that can't be said, the sweep sees one death."""
    if claim_id is None or desk.claim_store is None:
        return
    try:
        crash("claims.before_forget")
        with desk.claim_store.unit() as unit:
            commands.close_claim(unit, claim_id)
    except (StoreAway, psycopg.Error) as error:  # the sweep may hold the row; the caller has an error of its own to tell
        log.warning("claim %d stays open: %s", claim_id, error)
