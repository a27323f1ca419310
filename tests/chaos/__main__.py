"""`python -m tests.chaos`: kills everything that may die, for a while, and says whether anything was lost or doubled."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ops.interrupts import Interrupted, handling_interrupts
from ops.supervisor import ProcessFailed
from tests.chaos import plan, report
from tests.chaos.bed import ROOT, Bed
from tests.chaos.campaign import Result, run
from tests.chaos.cluster import Cluster
from tests.chaos.points import points as every_point

KILLS, TIMES, EVERY_S, PER_S = 200, 20, 1.5, 1.5


def main(arguments: list[str]) -> int:
    asked = parser().parse_args(arguments)
    seed = asked.seed or secrets.token_hex(4)

    def say(line: str) -> None:
        print(line, file=sys.stderr if asked.json else sys.stdout, flush=True)

    say(f"seed {seed}")
    points = plan.reachable() if asked.points == "all" else [name for name in asked.points.split(",") if name not in ("", "none")]
    unknown = set(points) - {point.name for point in every_point()}
    if unknown:
        print(f"no crash point: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    root = asked.root.resolve()
    try:
        with handling_interrupts(), Cluster(root.with_name(f"{root.name}-queue"), nodes=asked.nodes, say=say) as cluster:
            result = fight(asked, seed, root, points, cluster, say)
    except Interrupted:
        say("interrupted")
        return 130
    except ProcessFailed as error:
        print(f"could not start: {error}", file=sys.stderr)
        return 1
    for line in report.lines(result):
        say(line)
    if asked.json:
        print(json.dumps(report.document(result), indent=2))
    return 0 if result.is_sound else 1


def fight(
    asked: argparse.Namespace,
    seed: str,
    root: Path,
    points: Sequence[str],
    cluster: Cluster,
    say: Callable[[str], None],
) -> Result:
    """The campaign, on a stack of its own; its folder stays where something was found."""
    with Bed(root, seed=seed, keep=asked.keep, queue_urls=cluster.urls or None, sabotage=asked.sabotage) as bed:
        bed.mildness = asked.mildness
        drawn = plan.draw(
            seed,
            processes=bed.names(),
            servers=(*bed.servers, *cluster.targets),
            kills=asked.kills,
            every_s=asked.every,
            crash_points=points,
            times=asked.times,
        )
        ends_at = time.monotonic() + asked.minutes * 60 if asked.minutes else None
        say(f"{len(drawn)} faults on {bed.stack.base_url}; logs in {bed.stack.folder.logs}")
        result = run(bed, drawn, seed=seed, per_s=asked.rate, told=say, ends_at=ends_at, cluster=cluster)
        if not result.is_sound:
            bed.keep()
        return result


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    made.add_argument("--kills", type=int, default=KILLS, help=f"how many kills -9 ({KILLS})")
    made.add_argument("--seed", help="replays the plan, the load and the broker's faults of an earlier run")
    made.add_argument("--minutes", type=float, help="begin no further fault after so many minutes")
    made.add_argument("--points", default="all", help="crash points: all that load gets to, none, or names with commas")
    made.add_argument("--times", type=int, default=TIMES, help=f"how often each crash point is died at ({TIMES})")
    made.add_argument("--every", type=float, default=EVERY_S, help=f"seconds between two faults, on average ({EVERY_S:g})")
    made.add_argument("--rate", type=float, default=PER_S, help=f"intents a second beside the bursts ({PER_S:g})")
    made.add_argument("--mildness", type=float, default=1.0, help="factor on the broker's chances to misbehave (1)")
    made.add_argument("--nodes", type=int, default=1, choices=(1, 3), help="RabbitMQ's nodes; of three the leader is killed")
    made.add_argument("--sabotage", metavar="BUG", help="run with a deliberate bug (tests/chaos/sabotaged.py): it must fail")
    made.add_argument("--root", type=Path, default=ROOT, help=f"the run folder ({ROOT.name})")
    made.add_argument("--keep", action="store_true", help="leave the run folder, with its logs, where it is")
    made.add_argument("--json", action="store_true", help="a JSON document on standard output, the rest on standard error")
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
