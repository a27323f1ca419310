"""One thing that was looked at: ok, a warning, or a failure with its mend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    level: Level
    told: str
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Findings = Iterator[Finding]


def ok(name: str, told: str) -> Finding:
    return Finding(name, Level.OK, told)


def warn(name: str, told: str, mend: str) -> Finding:
    return Finding(name, Level.WARN, told, mend)


def fail(name: str, told: str, mend: str) -> Finding:
    return Finding(name, Level.FAIL, told, mend)


def is_well(findings: Sequence[Finding]) -> bool:
    """Nothing failed; warnings are allowed."""
    return all(finding.level is not Level.FAIL for finding in findings)


def words_of(error: BaseException) -> str:
    """The first line of an error, or its kind when it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
