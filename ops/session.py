"""What every `trader` command has at hand: its target, the client, the screen; and how its failures are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ops.answers import Lost, NotReached, Problem
from ops.exits import Ended, Exit, Failed
from ops.profiles import Target, find_target
from ops.screen import Screen

if TYPE_CHECKING:
    from ops.client import Client


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Options:
    """What every command takes."""

    json: Annotated[bool, Parameter(negative=())] = False
    """JSON on standard output (one document; one a line for a stream), all else on standard error."""

    profile: str | None = None
    """The coordinator to talk to, by its name in profiles.toml."""


DEFAULTS = Options()

MENDS = {
    "NOT_AUTHENTICATED": "Check the key: TRADER_KEY, `trader profile list`, or start the stack again.",
    "NOT_ALLOWED": "Use a key whose role allows this.",
    "IDEMPOTENCY_KEY_REUSED": "This key belongs to another request. Leave --idempotency-key out to make a new one.",
    "STALE_VERSION": "It was changed in the meantime. Look at it, then decide: trader order show ID",
    "SOFT_CANCEL_DISABLED": "Ask for it with --mode hard.",
    "OVERLOADED": "Nothing was stored. Try again in a moment, with the same key if you like.",
    "RATE_LIMITED": "Nothing was stored. Try again in a moment, with the same key if you like.",
    "STORE_UNAVAILABLE": "The coordinator's database is away; operators: coordinator doctor",
}


@dataclass(slots=True)
class Session:
    target: Target
    client: Client
    screen: Screen
    place_of: Callable[[str], str] = str  # a fault's pointer in the user's words


@contextmanager
def session(options: Options) -> Iterator[Session]:
    """Everything a command needs; a failure within is told on the screen and ends the process with its exit code."""
    from ops.client import Client  # brings the HTTP library, which `--help` needn't wait for

    screen = Screen(json=options.json)
    here: Session | None = None
    try:
        target = find_target(options.profile)
        here = Session(target, Client(target.base_url, target.key), screen)
        yield here
    except Failed as failed:
        screen.failure(failed)
        raise Ended(failed.exit_code) from None
    except Problem as problem:
        _tell_problem(screen, problem, here.place_of if here else str)
        raise Ended(Exit.ERROR) from None
    except (NotReached, Lost) as error:
        mend = "Does it run there? Here: coordinator status, or make run. Elsewhere: check TRADER_URL or the profile."
        told = f"{error}; nothing was sent" if isinstance(error, NotReached) else str(error)
        screen.failure(Failed(Exit.UNREACHABLE, told, mend=mend, code="UNREACHABLE"))
        raise Ended(Exit.UNREACHABLE) from None
    finally:
        if here is not None:
            here.client.close()


def _tell_problem(screen: Screen, problem: Problem, place_of: Callable[[str], str]) -> None:
    lines = []
    for fault in problem.faults:
        place = place_of(str(fault.get("pointer") or "/"))
        lines.append(f"{place}: {fault.get('detail')} [{fault.get('code')}]")
    message = "nothing was done, the request is at fault:" if lines else problem.detail
    request_id = problem.document.get("requestId")
    if request_id:
        message += f" (request {request_id})" if not lines else ""
    mend = MENDS.get(problem.code, "")
    if problem.document.get("intentId"):
        mend = f"trader intent show {problem.document['intentId']}"
    screen.failure(
        Failed(Exit.ERROR, message, mend=mend, code=problem.code), lines=tuple(lines), document=problem.document
    )
