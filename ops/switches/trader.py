"""`trader switch`: one's own orders halted, restricted and resumed, over REST."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from domain.ids import new_id
from ops.answers import Json, Lost
from ops.exits import Exit
from ops.session import DEFAULTS, Options, session
from ops.switches import look

Scope = Literal["user", "account", "strategy", "all"]
Flag = Annotated[bool, Parameter(negative=())]
TRIES = 3  # with one key: it is done once


def switch_show(*, options: Options = DEFAULTS) -> Exit:
    """The switches that count for your orders: their modes, who turned them and why, and what followed."""
    with session(options) as here:
        return look.show(here.screen, here.client.switches()["switches"])


def switch_halt(
    scope: Scope = "user",
    subject: str | None = None,
    /,
    *,
    reason: str,
    cancel_open: Flag = False,
    flatten: Flag = False,
    options: Options = DEFAULTS,
) -> Exit:
    """Send nothing more; what was not sent yet is ended within a second. Cancels still pass.

    Args:
        scope: what it is for: all of yours (user), one account, or one strategy; all is for operators.
        subject: the account's or strategy's name; not needed for user and all.
        reason: why; it is recorded in the audit log, and your rejected orders carry it.
        cancel_open: cancel the open orders as well.
        flatten: cancel the open orders, then close MIS and NRML positions at market.
    """
    return _turn("HALTED", scope, subject, reason, options, cancel_open=cancel_open, flatten=flatten)


def switch_reduce(
    scope: Scope = "user",
    subject: str | None = None,
    /,
    *,
    reason: str,
    cancel_open: Flag = False,
    flatten: Flag = False,
    options: Options = DEFAULTS,
) -> Exit:
    """Send only orders that make a position smaller, never more than the position. Cancels still pass.

    Args:
        scope: what it is for: all of yours (user), one account, or one strategy; all is for operators.
        subject: the account's or strategy's name; not needed for user and all.
        reason: why; it is recorded in the audit log, and your rejected orders carry it.
        cancel_open: cancel the open orders as well.
        flatten: cancel the open orders, then close MIS and NRML positions at market.
    """
    return _turn("REDUCING", scope, subject, reason, options, cancel_open=cancel_open, flatten=flatten)


def switch_resume(
    scope: Scope = "user", subject: str | None = None, /, *, reason: str, options: Options = DEFAULTS
) -> Exit:
    """Send everything again. What an operator has halted, an operator resumes.

    Args:
        scope: what it is for: all of yours (user), one account, or one strategy; all is for operators.
        subject: the account's or strategy's name; not needed for user and all.
        reason: why; it is recorded in the audit log.
    """
    return _turn("ACTIVE", scope, subject, reason, options)


def _turn(
    mode: str,
    scope: str,
    subject: str | None,
    reason: str,
    options: Options,
    *,
    cancel_open: bool = False,
    flatten: bool = False,
) -> Exit:
    with session(options) as here:
        whom = look.subject_of(scope, subject)
        asked: Json = {
            "mode": mode,
            "reason": look.reason_given(reason),
            "cancelOpen": cancel_open,
            "flatten": flatten,
        }
        key = f"switch-{new_id()}"
        for left in reversed(range(TRIES)):
            try:
                return look.tell(here.screen, here.client.turn_switch(scope, whom, asked, key))
            except Lost as error:
                if not left:
                    raise
                here.screen.note(f"{error}; it is asked again")
        raise AssertionError("the last try returns or raises")
