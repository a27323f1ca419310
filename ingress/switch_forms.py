"""What is sent and answered at `/v2/switches`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.switches import Mode, Scope
from ingress.deadletter_forms import Because


class TurnSwitch(Because):
    """What may be sent from now on, and why."""

    mode: Mode
    """ACTIVE: everything. REDUCING: what makes a position smaller. HALTED: nothing. Cancels pass in every mode."""

    cancel_open: Annotated[bool, Field(strict=True)] = False
    """Cancel the open orders as well."""

    flatten: Annotated[bool, Field(strict=True)] = False
    """Cancel the open orders, then close MIS and NRML positions at market."""


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", use_attribute_docstrings=True)


class FollowingIntent(_Answer):
    intent_id: UUID | None
    matched: int | None = None
    """Of a cancel: the orders with work under way; null where it was done and its key's window is over."""

    orders: int | None = None
    """Of a flatten: the orders that close positions."""

    left: list[dict[str, object]] | None = None
    """Of a flatten: what stays of positions, and why."""


class Followed(_Answer):
    unsent: list[FollowingIntent]
    """Cancels of what was not sent yet."""

    open: list[FollowingIntent]
    """Cancels of what is at a broker."""

    flatten: list[FollowingIntent]
    """Orders that close positions."""


class SwitchView(_Answer):
    scope: Scope
    subject: str
    """`all`, a user's id, an account's id, or `<user id>:<strategy>`."""

    mode: Mode
    version: int
    reason: str
    by: str
    by_operator: bool
    """Only an operator or admin may loosen it."""

    at: datetime
    cancel_open: bool
    flatten: bool
    followed: Followed
    """The intents that its last change has led to; they are asked for as any others."""

    carried_out_at: datetime | None
    """Since when all that its last change wants is done; null while something of it is under way."""


class SwitchList(_Answer):
    switches: list[SwitchView]
