"""This machine: Python, what the environment names, disk space, the processes of a stack, the web's own word."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

from ops.checkup.finding import Finding, Findings, fail, ok, warn
from ops.surroundings import NAMES, Surroundings

PYTHON_MIN = (3, 11)
DISK_LOW_BYTES = 2 * 1024**3
DISK_GONE_BYTES = 200 * 1024**2
NEEDED = (*(name for name in NAMES if name != "OWNER_DATABASE_URL"), "COORDINATOR_SECRET")


def check_machine(around: Surroundings) -> Findings:
    yield check_python(sys.version_info[:2])
    yield check_variables(around)
    place = around.run_folder or Path.cwd()
    yield check_disk(shutil.disk_usage(place).free, place)
    if around.processes:
        yield check_processes({name: is_alive(pid) for name, pid in around.processes.items()})
    if around.base_url:
        yield check_web(around.base_url)


def check_python(version: tuple[int, ...]) -> Finding:
    told = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if version >= PYTHON_MIN:
        return ok("python", told)
    return fail("python", told, "Python 3.11 or later is needed: make run finds one")


def check_variables(around: Surroundings) -> Finding:
    missing = [name for name in NEEDED if not around.variables.get(name)]
    if not missing:
        return ok("settings", f"all {len(NEEDED)} are known from {around.source}")
    mend = "Set them as the Procfile's processes have them, or start a stack here: coordinator up"
    return fail("settings", f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set", mend)


def check_disk(free_bytes: int, place: Path) -> Finding:
    told = f"{free_bytes / 1024**3:.1f} GiB free at {place}"
    if free_bytes < DISK_GONE_BYTES:
        return fail("disk", told, "Make room now: the database stops writing when the disk is full")
    if free_bytes < DISK_LOW_BYTES:
        return warn("disk", told, "Make room, or move the run folder to a larger disk")
    return ok("disk", told)


def check_processes(alive: dict[str, bool]) -> Finding:
    gone = sorted(name for name, lives in alive.items() if not lives)
    if gone:
        return fail(
            "processes", f"not running: {', '.join(gone)}", "coordinator down, then coordinator up; see .run/logs"
        )
    return ok("processes", f"{len(alive)} run: {', '.join(sorted(alive))}")


def check_web(base_url: str) -> Finding:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base_url}/readyz", timeout=3):
            return ok("web", f"{base_url} is ready")
    except urllib.error.HTTPError as error:
        words = error.read(300).decode(errors="replace").strip()
        return fail(
            "web", f"{base_url} isn't ready: {error.code} {words}", "The other lines say which of its servers is away"
        )
    except (urllib.error.URLError, OSError, ValueError) as error:
        return fail("web", f"{base_url} doesn't answer: {error}", "coordinator status; then see .run/logs/web.log")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
