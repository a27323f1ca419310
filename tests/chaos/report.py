"""What a campaign came to, for a person and for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.chaos.bed import PROVEN_S
from tests.chaos.campaign import Result
from tests.chaos.invariants import CHECKS, NOT_CHECKED
from tests.chaos.plan import Kind
from tests.chaos.recovery import Recovery, quantile, share_within

CONFIRMED_WITHIN_S = 30.0
PROVEN_WITHIN_S = PROVEN_S + 10.0
TOLD_MAX = 20


def lines(result: Result) -> Iterator[str]:
    """A table that a person can read."""
    yield ""
    yield f"seed {result.seed}: {result.kills} kills and {len(result.done) - result.kills} other faults in {result.seconds:.0f} s"
    yield ""
    yield f"  {'':<24}{'kills':>7}{'pauses':>8}{'stops':>7}{'points':>8}{'back after, s':>22}"
    for target in sorted({done.fault.target for done in result.done}):
        own = [done for done in result.done if done.fault.target == target]
        kinds = Counter(done.fault.kind for done in own)
        back = [done.back_s for done in own if done.back_s is not None]
        span = f"p50 {quantile(back, 0.5):.1f}  max {max(back):.1f}" if back else ""
        yield (
            f"  {target:<24}{kinds[Kind.KILL]:>7}{kinds[Kind.PAUSE]:>8}{kinds[Kind.STOP]:>7}{kinds[Kind.POINT]:>8}{span:>22}"
        )
    yield ""
    for name, value in result.figures.items():
        yield f"  {name:<32}{value:>10}"
    yield f"  {'states':<32}  {', '.join(f'{count} {state}' for state, count in sorted(result.states.items()))}"
    yield ""
    yield from _recovery_lines(result.recoveries)
    if result.points:
        yield f"  crash points passed: {len(result.points)}, {sum(result.points.values())} deaths"
    if result.not_reached:
        yield f"  not reached: {', '.join(f'{name} ({count})' for name, count in sorted(result.not_reached.items()))}"
    yield ""
    broken = Counter(violation.invariant for violation in result.violations)
    for name in (*CHECKS, "coordinator verify"):
        yield f"  {name:<28}{'holds' if not broken[name] else f'BROKEN {broken[name]} times'}"
    for name, why in NOT_CHECKED.items():
        yield f"  {name:<28}not checked: {why}"
    for violation in result.violations[:TOLD_MAX]:
        yield f"    {violation}"
    if len(result.violations) > TOLD_MAX:
        yield f"    and {len(result.violations) - TOLD_MAX} more"
    yield ""
    yield f"replay: python -m tests.chaos --seed {result.seed}   (with the same options)"


def _recovery_lines(found: list[Recovery]) -> Iterator[str]:
    yield f"  {'seconds from a fault to confirmed':<44}{'orders':>7}{'p50':>7}{'p99':>7}{'max':>7}{'in time':>9}"
    for name, limit_s, chosen in groups(found):
        seconds = [recovery.seconds for recovery in chosen if recovery.seconds is not None]
        if chosen:
            share = share_within([recovery.seconds if recovery.seconds is not None else 1e9 for recovery in chosen], limit_s)
            yield (
                f"  {name:<44}{len(chosen):>7}{quantile(seconds, 0.5):>7.1f}{quantile(seconds, 0.99):>7.1f}"
                f"{max(seconds, default=0.0):>7.1f}{share:>9.1%}"
            )


def groups(found: list[Recovery]) -> list[tuple[str, float, list[Recovery]]]:
    """By what had become of the order when the fault struck, with the time it is given."""
    single = [recovery for recovery in found if recovery.single]
    return [
        (f"taken, one fault (within {CONFIRMED_WITHIN_S:.0f} s)", CONFIRMED_WITHIN_S, _of(single, taken=True)),
        (f"unsent, one fault (within {PROVEN_WITHIN_S:.0f} s)", PROVEN_WITHIN_S, _of(single, taken=False)),
        ("taken, whatever came meanwhile", CONFIRMED_WITHIN_S, _of(found, taken=True)),
        ("unsent, whatever came meanwhile", PROVEN_WITHIN_S, _of(found, taken=False)),
    ]


def _of(found: list[Recovery], *, taken: bool) -> list[Recovery]:
    return [recovery for recovery in found if recovery.taken is taken]


def document(result: Result) -> dict[str, Any]:
    """The same for a program."""
    return {
        "seed": result.seed,
        "seconds": round(result.seconds, 1),
        "kills": result.kills,
        "faults": dict(Counter(f"{done.fault.kind} {done.fault.target}" for done in result.done)),
        "points": dict(result.points),
        "notReached": dict(result.not_reached),
        "figures": result.figures,
        "states": dict(result.states),
        "recovery": {
            name: {
                "orders": len(chosen),
                "p50": quantile(_known(chosen), 0.5),
                "p99": quantile(_known(chosen), 0.99),
                "max": max(_known(chosen), default=0.0),
                "inTime": share_within([r.seconds if r.seconds is not None else 1e9 for r in chosen], limit_s),
            }
            for name, limit_s, chosen in groups(result.recoveries)
        },
        "violations": [str(violation) for violation in result.violations],
    }


def _known(chosen: list[Recovery]) -> list[float]:
    return [recovery.seconds for recovery in chosen if recovery.seconds is not None]
