"""Percentiles by nearest rank: always a value that was measured, never one in between."""

from __future__ import annotations

import math
from collections.abc import Iterable

RANKS = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "p999": 0.999, "max": 1.0}


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """The ranks above, rounded to three decimals, with the count; empty where there is no value."""
    ordered = sorted(values)
    if not ordered:
        return {}
    ranked = {name: round(ordered[math.ceil(rank * len(ordered)) - 1], 3) for name, rank in RANKS.items()}
    return {**ranked, "count": len(ordered)}
