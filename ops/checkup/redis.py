"""Redis or Valkey: reachable, and not evicting what it is given."""

from __future__ import annotations

import time

from ops.checkup.finding import Findings, fail, ok, warn, words_of


def check_redis(url: str) -> Findings:
    from redis import Redis, RedisError

    client = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        started = time.perf_counter()
        client.ping()
        took_ms = (time.perf_counter() - started) * 1000
        facts = client.info()
        name = "Valkey" if "valkey_version" in facts else "Redis"
        version = facts.get("valkey_version") or facts.get("redis_version")
        yield ok("redis", f"{name} {version} answers in {took_ms:.1f} ms")
        if facts.get("evicted_keys"):
            told = f"{facts['evicted_keys']} keys were evicted"
            yield warn("redis", told, "Give it more memory, or set maxmemory-policy noeviction: rate limits live there")
    except (RedisError, OSError, ValueError) as error:
        yield fail("redis", f"it can't be asked: {words_of(error)}", "Start it, or mend REDIS_URL")
    finally:
        client.close()
