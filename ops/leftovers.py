"""Knows processes by pid and start time, so that a number used again is never mistaken for ours."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Identity:
    """A process, for as long as the machine is up: its number, and when it started in clock ticks since boot."""

    name: str
    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, name: str, pid: int) -> Identity | None:
        """The running process of that number; None when there is none."""
        stat = read_stat(pid)
        return cls(name, pid, stat.started, BOOT_ID.read_text().strip()) if stat else None

    @classmethod
    def from_json(cls, record: Any) -> Identity:
        return cls(str(record["name"]), int(record["pid"]), int(record["started"]), str(record["boot"]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def is_alive(self) -> bool:
        stat = read_stat(self.pid)
        same = stat is not None and stat.started == self.started and stat.state != "Z"
        return same and BOOT_ID.read_text().strip() == self.boot


@dataclass(frozen=True)
class Stat:
    pid: int
    state: str
    group: int
    started: int


def read_stat(pid: int) -> Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return Stat(pid, fields[0], int(fields[2]), int(fields[19]))


def find_leftovers(records: Iterable[Identity]) -> Iterator[Stat]:
    """Every live process of a recorded one's group, the leader included, even when the leader itself is dead.

    The kernel gives no new process the number of a group that still has members, so the members of a group who
    started after its recorded leader are that leader's children.
    """
    boot = BOOT_ID.read_text().strip()
    leaders = {record.pid: record for record in records if record.boot == boot}
    for entry in os.listdir("/proc"):
        stat = read_stat(int(entry)) if entry.isdigit() else None
        if stat is None or stat.state == "Z" or stat.group not in leaders:
            continue
        leader_now = read_stat(stat.group)
        started = leaders[stat.group].started
        if stat.started >= started and (leader_now is None or leader_now.started == started):
            yield stat


def end_leftovers(records: Iterable[Identity], *, patience_s: float = 3) -> int:
    """End what is left of a killed run: asked first, then killed. Returns how many processes there were."""
    records = list(records)
    found = list(find_leftovers(records))
    for wanted, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        end = time.monotonic() + wait_s
        for stat in find_leftovers(records):
            send(stat.pid, wanted)
        while time.monotonic() < end and any(find_leftovers(records)):
            time.sleep(0.05)
    return len(found)


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone by now."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def send_group(group: int, number: int) -> None:
    """Send a signal to all of a process group, if anything of it is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
