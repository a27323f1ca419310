"""What processes cost: CPU and private memory, from /proc, a process with all it started counted as one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PRIVATE = re.compile(r"^RssAnon:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Reading:
    """Seconds of CPU since each started, its ended children included; megabytes of memory that it shares with nobody."""

    cpu_s: dict[str, float]
    private_mb: dict[str, float]

    def since(self, before: Reading) -> dict[str, float]:
        """CPU seconds between two readings; what was started in between counts from its start."""
        return {name: round(spent - before.cpu_s.get(name, 0.0), 3) for name, spent in self.cpu_s.items()}


def read(roots: Mapping[str, int | Iterable[int]], proc: Path = Path("/proc")) -> Reading:
    """A reading of each named process tree, or of several trees under one name; one that is gone reads as nothing."""
    parents, spent = {}, {}
    for folder in proc.iterdir():
        if folder.name.isdigit() and (fields := _stat(folder)) is not None:
            parents[int(folder.name)] = int(fields[1])
            # own user and system time, then that of children which ended and were waited for
            spent[int(folder.name)] = sum(map(int, fields[11:15])) / TICKS_PER_S
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    trees = {}
    for name, found in roots.items():
        pids = [found] if isinstance(found, int) else found
        trees[name] = [each for pid in pids if pid in spent for each in _tree(pid, children)]
    return Reading(
        {name: sum(spent[pid] for pid in tree) for name, tree in trees.items()},
        {name: round(sum(_private_mb(proc / str(pid)) for pid in tree), 1) for name, tree in trees.items()},
    )


def _stat(folder: Path) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on: the name before it may hold anything, brackets too."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _tree(root: int, children: Mapping[int, list[int]]) -> list[int]:
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, ()))
    return tree


def _private_mb(folder: Path) -> float:
    try:
        found = PRIVATE.search((folder / "status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
