"""An environment of their own for the brokers' official SDKs, which drag in Twisted and more; made once and kept.

It lies in the user's cache folder, named by a hash of the pinned versions and of the interpreter.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE / "sdk-requirements.txt"
_MAKE_S, _RUN_S = 300, 60


def sdk_python() -> Path:
    """The interpreter of that environment, made now if it isn't there.

    Where it can't be made the test fails in CI; elsewhere it is skipped in capital letters.
    """
    try:
        return _find_or_make()
    except (OSError, subprocess.SubprocessError) as error:
        why = f"THE OFFICIAL SDKS WERE NOT RUN: their environment could not be made: {error}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(why)
        pytest.skip(why)


def run_driver(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run one of `sdk_drivers/` in that environment; what it was given and what it found are JSON."""
    done = subprocess.run(
        [sdk_python(), "-I", _HERE / "sdk_drivers" / f"{name}.py", json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    assert done.returncode == 0, f"{name} driver failed:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _find_or_make() -> Path:
    digest = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "order-coordinator"
    home = cache / f"sdk-{digest}"
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Two test processes may make it at the same time: each makes its own, the first to rename wins.
        making = Path(tempfile.mkdtemp(prefix="sdk-making-", dir=cache))
        try:
            _make(making)
            if not home.exists():
                making.rename(home)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return home / "bin" / "python"


def _make(home: Path) -> None:
    python = str(home / "bin" / "python")
    if uv := shutil.which("uv"):
        steps = [
            [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(home)],
            [uv, "pip", "install", "--quiet", "--python", python, "-r", str(_REQUIREMENTS)],
        ]
    else:
        steps = [
            [sys.executable, "-m", "venv", str(home)],
            [python, "-m", "pip", "install", "--quiet", "-r", str(_REQUIREMENTS)],
        ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, timeout=_MAKE_S, check=False)
        if done.returncode != 0:
            raise OSError(f"{' '.join(step[:3])}: {done.stderr.strip()[-500:]}")
