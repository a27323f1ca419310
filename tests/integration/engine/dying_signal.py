"""A web process that delivers one signal and dies at a crash point: what it is to deliver comes as JSON on standard input."""

from __future__ import annotations

import sys

import orjson
from house import House

from domain.guards import Guard
from domain.intents import PlaceRequest, Submission
from domain.signals import digest_of
from pipeline import crash


def main() -> None:
    asked = orjson.loads(sys.stdin.buffer.read())
    crash._WANTED = crash._NAME = asked["point"]
    crash._COUNT = ""
    house = House(asked["url"], asked["url"], asked["user"])
    request = PlaceRequest.model_validate({"orders": [asked["line"]]})
    digest = digest_of(request.orders[0])
    key = f"signal {asked['strategy']} {asked['signal']}"
    guard = Guard(asked["signal"], asked["strategy"], digest, asked["nonce"])
    house.intake().submit(Submission(asked["user"], asked["strategy"], key, digest, request, guard)).result(15)


if __name__ == "__main__":
    main()
