"""RabbitMQ: reachable, every queue there with its type, somebody consuming it, and no dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.checkup.finding import Finding, Findings, fail, ok, warn, words_of

PILE = 1_000  # wake-ups are coalesced: more than this many ready messages means nobody drains them


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """One queue as seen: None where it is missing; `fits` is whether it has the type and arguments it should have."""

    ready: int
    consumers: int
    fits: bool
    dead: int


def check_queue(url: str, brokers: Sequence[str]) -> Findings:
    import pika
    import pika.exceptions

    from pipeline.chain import all_stages, reconcile_stage, reports_stage
    from pipeline.rabbit import parameters

    try:
        connection = pika.BlockingConnection(pika.ConnectionParameters(**parameters(url.split(",")[0])))
    except (pika.exceptions.AMQPError, OSError, ValueError) as error:
        mend = "Start it, or mend RABBITMQ_URL. Orders are accepted meanwhile, and go on when it is back"
        yield fail("queue", f"RabbitMQ can't be reached: {words_of(error)}", mend)
        return
    with connection:
        server = connection._impl.server_properties or {}
        yield ok("queue", f"{_word(server, 'product')} {_word(server, 'version')} answers")
        stages = (*all_stages(tuple(brokers)), *(of(broker) for broker in brokers for of in (reports_stage, reconcile_stage)))
        seen = {stage: look_at(connection, url, stage) for stage in stages}
        yield check_queues(seen)
        yield check_consumers(seen)
        yield check_letters(seen)


def look_at(connection: Any, url: str, stage: str) -> QueueFacts | None:
    """A stage's queue without changing anything: it is declared again only where it is there."""
    from dramatiq.common import xq_name

    from pipeline.chain import queue_of

    queue = queue_of(stage)
    found = _passive(connection, queue)
    if found is None:
        return None
    dead = _passive(connection, xq_name(queue))
    return QueueFacts(found[0], found[1], _fits(connection, url, queue), dead[0] if dead else 0)


def check_queues(seen: Mapping[str, QueueFacts | None]) -> Finding:
    missing = sorted(stage for stage, facts in seen.items() if facts is None)
    wrong = sorted(stage for stage, facts in seen.items() if facts is not None and not facts.fits)
    if wrong:
        mend = "Drain and delete them, and restart their workers: a queue's type is fixed when it is made"
        return fail("queues", f"not the quorum queue they should be: {', '.join(wrong)}", mend)
    if missing:
        return fail("queues", f"missing: {', '.join(missing)}", "Start their workers, which make them: coordinator up")
    return ok("queues", f"{len(seen)} quorum queues with their limits")


def check_consumers(seen: Mapping[str, QueueFacts | None]) -> Finding:
    there = {stage: facts for stage, facts in seen.items() if facts is not None}
    alone = sorted(stage for stage, facts in there.items() if facts.consumers == 0)
    if alone or not there:
        told = f"nobody consumes {', '.join(alone)}" if alone else "nobody consumes anything"
        return fail("consumers", told, "Start the Procfile's processes for these stages: coordinator status")
    piled = sorted(f"{stage} {facts.ready}" for stage, facts in there.items() if facts.ready > PILE)
    if piled:
        return warn("consumers", f"messages pile up: {', '.join(piled)}", "Their workers hang: see their logs")
    fewest, most = min(facts.consumers for facts in there.values()), max(facts.consumers for facts in there.values())
    return ok("consumers", f"{fewest} to {most} for each queue" if fewest < most else f"{fewest} for each queue")


def check_letters(seen: Mapping[str, QueueFacts | None]) -> Finding:
    dead = {stage: facts.dead for stage, facts in seen.items() if facts is not None and facts.dead}
    if not dead:
        return ok("dead letters", "none")
    told = ", ".join(f"{count} of {stage}" for stage, count in dead.items())
    return warn("dead letters", told, "coordinator dlq list, then requeue or discard each")


def _passive(connection: Any, queue: str) -> tuple[int, int] | None:
    import pika.exceptions

    channel = connection.channel()
    try:
        frame = channel.queue_declare(queue=queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return None
    channel.close()
    return frame.method.message_count, frame.method.consumer_count


def _fits(connection: Any, url: str, queue: str) -> bool:
    """Whether a declaration with the arguments it should have is accepted: RabbitMQ refuses any other."""
    import pika.exceptions

    from pipeline.rabbit import DELIVERY_LIMIT, connect

    arguments = {**connect(url)._build_queue_arguments(queue), "x-delivery-limit": DELIVERY_LIMIT}
    channel = connection.channel()
    try:
        channel.queue_declare(queue=queue, durable=True, arguments=arguments)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    channel.close()
    return True


def _word(properties: Mapping[str, Any], name: str) -> str:
    value = properties.get(name, "")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
