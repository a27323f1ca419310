"""Groups: what becomes of the lines of one intent that wait for each other. Pure: lines in, a decision out.

A line that is ready but not to be sent yet is *held*. It waits for what its intent's policy says, and, where it names
one, for the leg that it comes after:

- BEST_EFFORT: for nothing but its leg.
- FAIL_FAST: for the line before it to be confirmed at its broker. The first line that isn't taken ends those behind it.
- ALL_OR_NONE: for every line to be held. Then those without a leg are released together, and all lines are on their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from domain.lifecycle import AT_BROKER, TERMINAL, UNSENT, OrderState


class GroupPolicy(StrEnum):
    BEST_EFFORT = "BEST_EFFORT"  # each line on its own
    FAIL_FAST = "FAIL_FAST"  # one line after another, up to the first that isn't taken
    ALL_OR_NONE = "ALL_OR_NONE"  # nothing is sent before every line may be


WHY_MAX = 200  # characters of one line's reason that another one quotes

_TAKEN = AT_BROKER | {OrderState.FILLED}
_ENDED_THERE = frozenset({OrderState.CANCELLED, OrderState.EXPIRED})  # where the broker had it; else it was never sent


@dataclass(frozen=True, slots=True)
class Part:
    """What goes to a broker of a line: the line itself, or one of its slices."""

    state: OrderState
    has_number: bool  # an order id of the broker's
    is_stuck: bool = False

    @property
    def is_confirmed(self) -> bool:
        """Its broker has it, or had it: a receipt with an order id is enough, whatever the exchange says later."""
        return self.has_number and self.state in _TAKEN | _ENDED_THERE

    @property
    def is_refused(self) -> bool:
        """It was rejected by anybody, ended before it was sent, or lies with an operator unsent."""
        if self.is_stuck and self.state in UNSENT:
            return True
        return self.state is OrderState.REJECTED or (self.state in _ENDED_THERE and not self.has_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a group as it stands. `why` says of a line that ended, or is stuck, how that came."""

    number: int  # from 0
    name: str  # its correlationId
    state: OrderState
    parts: tuple[Part, ...]
    send_before: datetime
    after: str | None = None  # the correlationId of its leg: an earlier line
    is_held: bool = False
    is_cancelling: bool = False  # a cancel is asked for
    quantity: int = 0
    filled_quantity: int = 0
    why: str = ""

    @property
    def label(self) -> str:
        """ "line 1 (leg-1)": lines are counted from 1 for people."""
        return f"line {self.number + 1} ({self.name})"

    @property
    def is_confirmed(self) -> bool:
        return bool(self.parts) and all(part.is_confirmed for part in self.parts)

    @property
    def is_refused(self) -> bool:
        return any(part.is_refused for part in self.parts)


@dataclass(slots=True)
class Decision:
    """What follows for the held lines, by their numbers; each of them is in exactly one of these."""

    releases: list[int] = field(default_factory=list)
    rejections: dict[int, str] = field(default_factory=dict)  # with the reason
    cancels: list[int] = field(default_factory=list)  # a cancel was asked for while they were held
    waits: dict[int, str] = field(default_factory=dict)  # what for


def holds(policy: GroupPolicy, number: int, after: str | None) -> bool:
    """Whether a line of such a group is held once it is ready, or may be sent at once."""
    return after is not None or policy is GroupPolicy.ALL_OR_NONE or (policy is GroupPolicy.FAIL_FAST and number > 0)


def decide(policy: GroupPolicy, lines: Sequence[Line], now: datetime, *, released: bool = False) -> Decision:
    """What follows for each held line. `released`: the lines of an ALL_OR_NONE group have been let go before.

    What was decided of a line counts for those behind it at once, so that deciding again changes nothing.
    """
    lines = sorted(lines, key=lambda line: line.number)
    decision = Decision(cancels=[line.number for line in lines if line.is_held and line.is_cancelling])
    if policy is GroupPolicy.ALL_OR_NONE and not released and not _let_go_together(lines, now, decision):
        return decision
    legs = {line.name: line for line in lines}
    stopped: str | None = None  # FAIL_FAST: why nothing more is sent
    before: Line | None = None
    for line in lines:
        if line.is_held and not _is_decided(line, decision):
            follows = before if policy is GroupPolicy.FAIL_FAST else None
            _decide_one(line, legs, follows, stopped if follows else None, now, decision)
        if stopped is None and (failure := _failure(line, decision)) is not None:
            stopped = f"{line.label} {failure}"
        before = line
    return decision


def _let_go_together(lines: Sequence[Line], now: datetime, decision: Decision) -> bool:
    """Release the lines of an ALL_OR_NONE group that have no leg, if every line is there; whether that was done."""
    held = [line for line in lines if line.is_held and not _is_decided(line, decision)]
    failed = next((line for line in lines if _failure(line, decision) is not None), None)
    missing = next((line for line in lines if not line.is_held), None)
    if failed is None and missing is None and not any(line.send_before <= now for line in held):
        decision.releases += [line.number for line in held if line.after is None]
        return True
    why = f"{failed.label} {_failure(failed, decision)}" if failed is not None else None
    for line in held:
        late = missing or line
        if why is not None:
            decision.rejections[line.number] = why
        elif line.send_before <= now:
            decision.rejections[line.number] = f"{late.label} was not ready by {_limit(line)}"
        else:
            decision.waits[line.number] = f"waits for {late.label} to be ready: all lines are sent together, or none"
    return False


def _decide_one(
    line: Line, legs: Mapping[str, Line], follows: Line | None, stopped: str | None, now: datetime, decision: Decision
) -> None:
    """`follows` is the line that has to be confirmed first, `stopped` why nothing behind it is sent any more."""
    leg = legs.get(line.after) if line.after is not None else None
    ended = _end_of(leg, decision) if leg is not None else None
    if stopped is not None:
        decision.rejections[line.number] = stopped
    elif leg is not None and ended is not None:
        decision.rejections[line.number] = f"LEG_NOT_FILLED: {leg.label}{_filled(leg)} {ended}"
    elif leg is not None and leg.state is not OrderState.FILLED:
        _wait(line, leg, "filled", now, decision)
    elif follows is not None and not follows.is_confirmed:
        _wait(line, follows, "confirmed at its broker", now, decision)
    elif line.send_before <= now:
        decision.rejections[line.number] = f"{line.label} was not sent by {_limit(line)}"
    else:
        decision.releases.append(line.number)


def _wait(line: Line, other: Line, what: str, now: datetime, decision: Decision) -> None:
    """It waits for the other line to be so; once its time is over it is rejected."""
    if line.send_before <= now:
        code = "LEG_NOT_FILLED: " if what == "filled" else ""
        decision.rejections[line.number] = f"{code}{other.label}{_filled(other)} was not {what} by {_limit(line)}"
        return
    is_unknown = any(part.state is OrderState.UNKNOWN for part in other.parts)
    doubt = ": nobody can say yet whether its broker took it" if is_unknown else ""
    decision.waits[line.number] = f"waits for {other.label} to be {what}{doubt}"


def _end_of(leg: Line, decision: Decision) -> str | None:
    """In words, where the leg has ended and isn't filled."""
    if leg.state is OrderState.FILLED:
        return None
    if leg.state in TERMINAL:
        return f"was {leg.state}{_because(leg.why)}"
    return _failure(leg, decision)


def _failure(line: Line, decision: Decision) -> str | None:
    """In words, where the line wasn't taken, and won't be; None otherwise."""
    if line.number in decision.cancels:
        return "was CANCELLED: cancelled before it was sent"
    if line.number in decision.rejections:
        return f"was REJECTED{_because(decision.rejections[line.number])}"
    if not line.is_refused:
        return None
    if any(part.is_stuck and part.state in UNSENT for part in line.parts):
        return f"is stuck{_because(line.why)}"
    return f"was {line.state if line.state in TERMINAL else 'refused in part'}{_because(line.why)}"


def _is_decided(line: Line, decision: Decision) -> bool:
    return line.number in decision.cancels or line.number in decision.releases


def _because(why: str) -> str:
    return f": {why[:WHY_MAX]}{'…' if len(why) > WHY_MAX else ''}" if why else ""


def _filled(leg: Line) -> str:
    return f", {leg.filled_quantity} of {leg.quantity} filled," if leg.filled_quantity else ""


def _limit(line: Line) -> str:
    return f"{line.send_before.isoformat(timespec='seconds')}, the limit"


def find_after_faults(names: Sequence[tuple[str, str | None]]) -> Iterator[tuple[int, str, str]]:
    """(line, code, words) for each `after` that leads nowhere; `names` are the lines' (correlationId, after), in order."""
    numbers = {name: number for number, (name, _) in enumerate(names)}
    for number, (name, after) in enumerate(names):
        if after is None:
            continue
        leg = numbers.get(after)
        if leg is None:
            yield number, "NO_SUCH_LINE", f"no line of this request has the correlationId {after}"
        elif after == name:
            yield number, "ITSELF", "a line can't come after itself"
        elif leg > number and _leads_back(name, after, dict(names)):
            yield number, "CYCLE", f"line {leg} comes after this one, directly or by others"
        elif leg > number:
            yield number, "LATER_LINE", f"line {leg} has this correlationId: a line comes after an earlier one"


def _leads_back(name: str, after: str, legs: Mapping[str, str | None]) -> bool:
    seen: set[str] = set()
    at: str | None = after
    while at is not None and at not in seen:
        if at == name:
            return True
        seen.add(at)
        at = legs.get(at)
    return False
