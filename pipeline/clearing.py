"""Clearing: a placement that may be sent goes on to its broker's dispatch, cut into slices where it is too large."""

from __future__ import annotations

from typing import Any

from domain.commands import Command
from domain.instruments import Instrument
from domain.orders import Order
from pipeline.batch import Batch
from pipeline.chain import dispatch_stage
from pipeline.slices import cut


def send_on(
    command: Command, order: Order, instrument: Instrument, installation: str, batch: Batch
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The order's command is at dispatch, or at its end where its slices are; gives what an event has to change and tell."""
    stage = dispatch_stage(order.broker or "")
    batch.wakes.add(stage)
    if order.quantity <= instrument.freeze_quantity:
        command.go_to(stage, batch.at)
        return {}, {}
    parts = cut(order, instrument, installation, batch.at)
    for part, event in parts:
        batch.add(part, event)
    command.finish("notify", batch.at)
    changes = {"slices": len(parts), "blocked_paise": 0, "exposure_paise": 0}
    return changes, {"slices": [part.id for part, _ in parts]}
