"""`python -m tests.simulation`: many seeds, or one with its story."""

from __future__ import annotations

import argparse
import sys
import time

from .installing import installed, run
from .plan import plan, plan_of_groups
from .telling import failure, story
from .world import World

FAILURES_MAX = 10


def main(arguments: list[str]) -> int:
    wanted = _read(arguments)
    first, count = (wanted.seed, 1) if wanted.seed is not None else (wanted.begin, wanted.seeds)
    failed: list[int] = []
    began = told = time.monotonic()
    with installed():
        for seed in range(first, first + count):
            world = World((plan_of_groups if wanted.groups else plan)(seed))
            try:
                run(world)
            except KeyboardInterrupt:
                return 130
            except BaseException as error:  # noqa: BLE001 - each seed's failure is told, whatever it is
                failed.append(seed)
                print(failure(world, error), "\n", file=sys.stderr)
            if wanted.trace:
                print(story(world))
            now = time.monotonic()
            if now - told > 5:
                told, done = now, seed - first + 1
                print(f"{done} of {count} seeds, {len(failed)} failed, {(now - began) / done * 1000:.0f} ms each", flush=True)
            if len(failed) >= FAILURES_MAX:
                break
    done, seconds = seed - first + 1, time.monotonic() - began
    print(f"{done} seeds from {first} in {seconds:.1f} s: {len(failed)} failed", *failed)
    return 1 if failed else 0


def _read(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--from", type=int, default=0, dest="begin", metavar="N", help="the first one (0)")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--groups", action="store_true", help="of intents whose lines wait for each other")
    parser.add_argument("--trace", action="store_true", help="print all that happened")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
