"""Orders of many accounts at two brokers, cancelled as one job: the short form of `python -m tests.chaos.cancel_job`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ops.runfolder import RunFolder
from ops.supervisor import ProcessFailed
from tests.chaos.cancel_job import Result, run

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("live")]


def job(root: Path, *, orders: int, accounts: int) -> Result:
    """The run folder with its logs stays, where something was found."""
    folder = RunFolder(root / ".run")
    try:
        result = run(
            folder.root, orders=orders, accounts=accounts, seed="short", told=print, fast=True, keep=True, within_s=120.0
        )
    except ProcessFailed as error:
        folder.remove()
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the servers can't be started here: {error}")
    if result.is_sound:
        folder.remove()
    return result


def test_a_cancel_job_over_two_brokers_misses_none_and_stays_in_every_budget_though_a_worker_dies(tmp_path: Path) -> None:
    result = job(tmp_path, orders=300, accounts=20)

    assert result.violations == []
    assert result.killed
    assert (result.answered_429, sum(result.results.values()) >= 297) == (0, True)
    assert set(result.results) <= {"CANCELLED", "FILLED"}
