"""`python -m brokers.simulator`: the simulator as a process.

Environment: SIMULATOR_UPSTOX_PORT, SIMULATOR_ZERODHA_PORT, SIMULATOR_CONTROL_PORT (0 or unset: any free port),
SIMULATOR_HOST, SIMULATOR_SEED, SIMULATOR_STATE (a file that keeps the books over a restart) and READY_FILE (touched
when it serves) and SIMULATOR_POSTBACKS (a URL: each account's postbacks go there, under its broker's name). Prints one JSON line with its ports when it is ready; ends cleanly on SIGTERM and SIGINT.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from brokers.simulator.server import Plan, Simulator


def plan_from_env(env: Mapping[str, str]) -> Plan:
    state = env.get("SIMULATOR_STATE")
    ports = {name: int(env.get(f"SIMULATOR_{name.upper()}_PORT") or 0) for name in ("upstox", "zerodha", "control")}
    return Plan(
        seed=env.get("SIMULATOR_SEED", "1"),
        host=env.get("SIMULATOR_HOST", "127.0.0.1"),
        ports=ports,
        state=Path(state) if state else None,
        # Ids must differ from those of an earlier run on the same day whose memory is lost.
        first_number=int(time.time()) % 86_400 * 10_000,
    )


async def serve(plan: Plan, ready_file: str | None, postbacks: str | None = None) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    simulator = Simulator(plan)
    if postbacks:
        for account in simulator.exchange.accounts:
            account.postback_url = f"{postbacks}/{account.facade}"
    ports = await simulator.start()
    if ready_file:
        Path(ready_file).touch()
    print(json.dumps({"ports": ports, "pid": os.getpid()}), flush=True)
    await stopping.wait()
    await simulator.stop()


if __name__ == "__main__":
    asyncio.run(serve(plan_from_env(os.environ), os.environ.get("READY_FILE"), os.environ.get("SIMULATOR_POSTBACKS")))
