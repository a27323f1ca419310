"""A whole stack under fire: the short form of `make chaos`, and with `-m long` one with three RabbitMQ nodes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ops.runfolder import RunFolder
from ops.supervisor import ProcessFailed
from tests.chaos import report
from tests.chaos.bed import Bed
from tests.chaos.campaign import Result, run
from tests.chaos.cluster import LEADER, Cluster
from tests.chaos.plan import Fault, Kind, draw, places_of, reachable

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("live")]

SEED = "short"
SHORT = (
    Fault(Kind.POINT, "dispatch-upstox", gap_s=0.5, after_s=0.0, point="broker.after_send"),
    Fault(Kind.KILL, "dispatch-zerodha", gap_s=0.5, after_s=0.3),
    Fault(Kind.KILL, "postgres", gap_s=0.5, after_s=0.3),
    Fault(Kind.POINT, "outcome", gap_s=0.5, after_s=0.0, point="reports.apply.before_commit"),
    Fault(Kind.KILL, "web", gap_s=0.5, after_s=0.1),
)


def fight(root: Path, plan: Sequence[Fault], cluster: Cluster | None = None) -> Result:
    """The run folder with its logs stays, where something was found."""
    urls = cluster.urls or None if cluster is not None else None
    folder = RunFolder(root / ".run")
    try:
        with Bed(folder.root, seed=SEED, fast=True, queue_urls=urls, keep=True) as bed:
            result = run(bed, plan, seed=SEED, per_s=1.5, told=print, cluster=cluster)
    except ProcessFailed as error:
        folder.remove()
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the servers can't be started here: {error}")
    if result.is_sound:
        folder.remove()
    return result


def test_a_stack_that_is_killed_all_over_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    result = fight(tmp_path, SHORT)

    told = "\n".join(report.lines(result))
    assert result.is_sound, told
    assert result.kills == sum(fault.kind is Kind.KILL for fault in SHORT)
    assert result.figures["orders"] >= 4 * len(SHORT), told


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_leader_of_three_nodes_is_killed_under_load(tmp_path: Path) -> None:
    with Cluster(tmp_path / ".queue", nodes=3, say=print) as cluster:
        plan = [Fault(Kind.KILL, target, gap_s=2.0, after_s=0.2) for target in (LEADER, "postgres", LEADER)]
        result = fight(tmp_path, plan, cluster)

    assert result.is_sound, "\n".join(report.lines(result))
    assert result.kills == 3


def test_a_seed_gives_the_same_plan() -> None:
    def drawn(seed: str) -> list[Fault]:
        return draw(
            seed, processes=("web", "intake"), servers=("postgres",), kills=20, every_s=1.0, crash_points=reachable()[:5]
        )

    assert drawn("a") == drawn("a")
    assert drawn("a") != drawn("b")
    assert sum(fault.kind is Kind.KILL for fault in drawn("a")) == 20


def test_every_crash_point_has_a_process_that_gets_there() -> None:
    processes = ("web", "intake", "outcome", "clock", "listen", "dispatch-upstox", "dispatch-zerodha")

    assert {point for point in reachable() if places_of(point, processes) == processes} == set()
