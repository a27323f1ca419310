"""How one request of a broker's API is served: found, recognised, hit by faults, limited, done, told."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from brokers.simulator.accounts import Account
from brokers.simulator.clock import Clock
from brokers.simulator.exchange import Exchange
from brokers.simulator.faults import BEFORE, Fault, Faults, Kind, Plan
from brokers.simulator.limits import Windows
from brokers.simulator.postbacks import Postbacks, Teller
from brokers.simulator.settings import Limits
from brokers.simulator.web import Answer, Delivery, Request, Upgrade

_HTML = (
    b"<html><head><title>Error</title></head><body><center><h1>The page could not be shown</h1></center></body></html>"
)
_HUGE = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in."""

    request: Request
    path: Mapping[str, str]  # what the route's template found in the path
    account: Account | None  # None where the route needs no token
    plan: Plan

    @property
    def owner(self) -> Account:
        assert self.account is not None, "the route needs a token, so there is an account"
        return self.account


def one_call(request: Request) -> int:
    return 1


@dataclass(frozen=True)
class Route:
    method: str
    template: str  # "/orders/{variety}/{order_id}"
    endpoint: str  # its name in faults and counts
    handle: Callable[[Call], Answer | Upgrade]
    bucket: str = "reads"  # of its rate limit: "orders", "reads", "quotes", or "" for none
    needs_token: bool = True
    calls: Callable[[Request], int] = one_call  # how many calls it counts as
    places: bool = False
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.template)
        object.__setattr__(self, "pattern", re.compile(pattern + r"\Z"))


class Facade(Teller, Protocol):
    """One broker's dialect."""

    routes: Sequence[Route]

    def account_of(self, request: Request) -> Account | None:
        """Whose token the request carries, be it alive or dead."""
        ...

    def unknown_path(self) -> Answer: ...
    def dead_token(self) -> Answer: ...
    def rate_limited(self) -> Answer: ...
    def ip_not_registered(self) -> Answer: ...
    def refused(self, fault: Fault) -> Answer: ...
    def timed_out(self) -> Answer: ...
    def without_id(self) -> Answer: ...
    def limits(self) -> Limits: ...


class Service:
    """Serves one facade. Between the faults before and the faults after it, nothing is awaited."""

    def __init__(
        self, facade: Facade, exchange: Exchange, clock: Clock, faults: Faults, windows: Windows, postbacks: Postbacks
    ) -> None:
        self.facade, self._exchange, self._clock = facade, exchange, clock
        self._faults, self._windows, self._postbacks = faults, windows, postbacks
        self.counts: Counter[tuple[str, str, str]] = Counter()  # account, endpoint, status (or what became of it)

    async def __call__(self, request: Request) -> Answer | Upgrade:
        found = self._find(request)
        if found is None:
            self.counts["", "unknown", "404"] += 1
            return self.facade.unknown_path()
        route, path = found
        account = self.facade.account_of(request)
        plan = self._faults.plan(self.facade.name, route.endpoint, account.user_id if account else None)
        wait_s = self._exchange.settings.answer_delay_ms / 1000 + plan.seconds(Kind.LATENCY_BEFORE)
        if wait_s:
            await asyncio.sleep(wait_s)
        call = Call(request, path, account, plan)
        answer = self._spoilt_before(plan) or self._serve(route, call)
        if Kind.LATENCY_AFTER in plan:
            await asyncio.sleep(plan.seconds(Kind.LATENCY_AFTER))
        if isinstance(answer, Answer):
            answer = self._spoilt_after(answer, plan)
            told = str(answer.status) if answer.delivery in (Delivery.WHOLE, Delivery.DRIP) else answer.delivery.name
        else:
            told = "upgrade"
        self.counts[account.user_id if account else "", route.endpoint, told.lower()] += 1
        return answer

    def open_streams(self) -> dict[str, int]:
        """How many order streams each account has open."""
        return self._postbacks.streams.count(self.facade.name)

    def cut_streams(self, user_id: str | None) -> int:
        """Reset the streams of one account, or of all; gives how many."""
        return self._postbacks.streams.cut(self.facade.name, user_id)

    def _find(self, request: Request) -> tuple[Route, Mapping[str, str]] | None:
        for route in self.facade.routes:
            if route.method == request.method and (match := route.pattern.match(request.path)):
                return route, match.groupdict()
        return None

    def _serve(self, route: Route, call: Call) -> Answer | Upgrade:
        account = call.account
        if route.needs_token and (account is None or not account.token_alive):
            return self.facade.dead_token()
        if account is not None and not self._within_limits(route, account, call.request):
            return self.facade.rate_limited()
        self._exchange.advance(self._clock.now())
        answer = route.handle(call)
        self._exchange.journal.flush()
        self._postbacks.wake()
        return answer

    def _within_limits(self, route: Route, account: Account, request: Request) -> bool:
        if not route.bucket or not self._exchange.settings.rate_limits:
            return True
        limits = self.facade.limits()
        if route.places and not self._windows.take(account.user_id, "placements", limits.placements):
            return False
        allowed = {"orders": limits.orders, "reads": limits.reads, "quotes": limits.quotes}[route.bucket]
        return self._windows.take(account.user_id, route.bucket, allowed, route.calls(request))

    def _spoilt_before(self, plan: Plan) -> Answer | None:
        """What is answered without the request having been looked at."""
        fault = next((fault for fault in plan if fault.kind in BEFORE), None)
        if fault is None:
            return None
        match fault.kind:
            case Kind.DROP_BEFORE:
                return Answer(delivery=Delivery.DROP)
            case Kind.RESET_BEFORE:
                return Answer(delivery=Delivery.RESET)
            case Kind.RATE_LIMITED:
                answer = self.facade.rate_limited()
                extra = () if fault.retry_after is None else (("Retry-After", str(fault.retry_after)),)
                return replace(answer, headers=answer.headers + extra)
            case Kind.TOKEN_DEAD:
                return self.facade.dead_token()
            case Kind.IP_NOT_REGISTERED:
                return self.facade.ip_not_registered()
            case Kind.REFUSED:
                return self.facade.refused(fault)
        return _error(fault)

    def _spoilt_after(self, answer: Answer, plan: Plan) -> Answer:
        for fault in plan:
            match fault.kind:
                case Kind.ERROR_AFTER:
                    answer = _error(fault)
                case Kind.HTML:
                    answer = Answer(body=_HTML, content_type="text/html")
                case Kind.NO_ID:
                    answer = self.facade.without_id()
                case Kind.TIMED_OUT:
                    answer = self.facade.timed_out()
                case Kind.HUGE:
                    answer = replace(answer, body=answer.body + b" " * _HUGE)
        for fault in plan:
            match fault.kind:
                case Kind.TRUNCATED:
                    answer = replace(answer, body=answer.body[: len(answer.body) // 2])
                case Kind.DROP_AFTER:
                    answer = replace(answer, delivery=Delivery.DROP)
                case Kind.RESET_AFTER:
                    answer = replace(answer, delivery=Delivery.RESET)
                case Kind.CUT:
                    answer = replace(answer, delivery=Delivery.CUT)
                case Kind.DRIP:
                    answer = replace(answer, delivery=Delivery.DRIP, drip_s=fault.seconds)
        return answer


def _error(fault: Fault) -> Answer:
    if fault.body is None:
        return Answer(status=fault.status, body=_HTML, content_type="text/html")
    kind = "application/json" if fault.body.lstrip().startswith(("{", "[")) else "text/plain"
    return Answer(status=fault.status, body=fault.body.encode(), content_type=kind)
