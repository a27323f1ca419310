"""Whether the process lives, whether it can serve, which one it is, and what it counts. None of these needs a key."""

from __future__ import annotations

import asyncio
import time

import orjson

from ingress.answers import Live, Ready, Version
from ingress.door import Check, Door
from ingress.operations import Answer, Call, op
from ingress.wire import Reply

CHECK_S = 1.5
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@op("GET", "/livez", tag="Health", roles=None, answers={200: Answer(description="The process lives.", model=Live)})
async def livez(door: Door, call: Call) -> Reply:
    """The process lives and its event loop turns."""
    return Reply(200, b'{"status":"alive"}')


@op(
    "GET",
    "/readyz",
    tag="Health",
    roles=None,
    answers={
        200: Answer(description="Orders are accepted.", model=Ready),
        503: Answer(description="Send requests elsewhere.", model=Ready),
    },
)
async def readyz(door: Door, call: Call) -> Reply:
    """Whether orders are accepted here, with every dependency.

    Orders are accepted without RabbitMQ and without Redis: then the status is `degraded`. A process that is shutting
    down says `draining`.
    """
    checks = door.checks
    seen = await asyncio.gather(*(_look(check) for check in checks.values()))
    views = {
        name: {"ok": ms is not None, "needed": check.needed, "ms": round(ms, 1) if ms is not None else None}
        for (name, check), ms in zip(checks.items(), seen, strict=True)
    }
    if door.is_draining:
        status = "draining"
    elif any(check.needed and not views[name]["ok"] for name, check in checks.items()):
        status = "unavailable"
    else:
        status = "ready" if all(view["ok"] for view in views.values()) else "degraded"
    document = orjson.dumps({"status": status, "checks": views})
    return Reply(200 if status in ("ready", "degraded") else 503, document)


@op("GET", "/version", tag="Health", roles=None, answers={200: Answer(description="This build.", model=Version)})
async def version(door: Door, call: Call) -> Reply:
    """Which build answers."""
    return Reply(
        200, orjson.dumps({"version": door.version.get("version", ""), "revision": door.version.get("revision")})
    )


@op(
    "GET",
    "/metrics",
    tag="Health",
    roles=None,
    answers={200: Answer(description="Prometheus's text format.", content_type="text/plain")},
)
async def metrics(door: Door, call: Call) -> Reply:
    """What the door counts, for Prometheus."""
    door.metrics.waiting(door.waiters.count)
    return Reply(200, door.metrics.page(), content_type=METRICS_TYPE)


async def _look(check: Check) -> float | None:
    """Milliseconds; None: away."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_S):
            await check.look()
    except Exception:  # noqa: BLE001 - whatever it is, the dependency can't be used
        return None
    return (time.perf_counter() - began) * 1000
