"""Upstox's front: routes, tokens, the webhook and the portfolio stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from secrets import token_hex

import orjson

from brokers.simulator.accounts import Account
from brokers.simulator.book import Row, SimOrder
from brokers.simulator.exchange import Exchange
from brokers.simulator.faults import Fault
from brokers.simulator.postbacks import Postbacks
from brokers.simulator.service import Call, Route
from brokers.simulator.settings import Limits
from brokers.simulator.stream import Ear, stream
from brokers.simulator.upstox.answers import (
    DEAD_TOKEN,
    RATE_LIMITED,
    UNKNOWN_PATH,
    Problem,
    Refused,
    failure,
    success,
)
from brokers.simulator.upstox.market import Market
from brokers.simulator.upstox.orders import NAME, Orders
from brokers.simulator.upstox.portfolio import Portfolio
from brokers.simulator.upstox.reads import Reads, book_row_at
from brokers.simulator.web import Answer, Request, Upgrade, json_answer

_BEARER = "bearer "
_STREAM = "/v2/feed/portfolio-stream-feed"


class Upstox:
    name = NAME

    def __init__(self, exchange: Exchange, postbacks: Postbacks) -> None:
        self._exchange, self._postbacks = exchange, postbacks
        self._codes: dict[str, tuple[str, str]] = {}  # of a stream, used once: the user id, and what to tell of
        self.routes: Sequence[Route] = self._make_routes()

    def _make_routes(self) -> list[Route]:
        exchange = self._exchange
        orders, reads = Orders(exchange), Reads(exchange)
        portfolio, market = Portfolio(exchange), Market(exchange)

        def writing(
            method: str, path: str, endpoint: str, do: Callable[[Call], Answer], *, places: bool = False
        ) -> Route:
            many = orders.calls_of_multi if endpoint == "multi" else _one
            return Route(method, path, endpoint, _told(do), "orders", calls=many, places=places)

        def reading(path: str, endpoint: str, do: Callable[[Call], Answer], method: str = "GET") -> Route:
            return Route(method, path, endpoint, _told(do))

        def public(method: str, path: str, endpoint: str, do: Callable[[Call], Answer]) -> Route:
            return Route(method, path, endpoint, _told(do), "", needs_token=False)

        return [
            writing("POST", "/v3/order/place", "place", orders.place_v3, places=True),
            writing("POST", "/v2/order/place", "place", orders.place_v2, places=True),
            writing("POST", "/v2/order/multi/place", "multi", orders.place_multi, places=True),
            writing("PUT", "/v3/order/modify", "modify", orders.modify_v3),
            writing("PUT", "/v2/order/modify", "modify", orders.modify_v2),
            writing("DELETE", "/v3/order/cancel", "cancel", orders.cancel_v3),
            writing("DELETE", "/v2/order/cancel", "cancel", orders.cancel_v2),
            writing("DELETE", "/v2/order/multi/cancel", "cancel_multi", orders.cancel_multi),
            writing("POST", "/v2/order/positions/exit", "exit", orders.exit_positions, places=True),
            reading("/v2/order/retrieve-all", "book", reads.book),
            reading("/v2/order/details", "order", reads.details),
            reading("/v2/order/history", "history", reads.history),
            reading("/v2/order/trades/get-trades-for-day", "trades", reads.trades),
            reading("/v2/order/trades", "order_trades", reads.order_trades),
            reading("/v2/charges/historical-trades", "trade_history", reads.historical_trades),
            reading("/v2/user/get-funds-and-margin", "funds", portfolio.funds_v2),
            reading("/v3/user/get-funds-and-margin", "funds", portfolio.funds_v3),
            reading("/v2/user/profile", "profile", self._profile),
            reading("/v2/portfolio/short-term-positions", "positions", portfolio.positions),
            reading("/v3/portfolio/mtf-positions", "positions", portfolio.mtf_positions),
            reading("/v2/portfolio/long-term-holdings", "holdings", portfolio.holdings),
            reading("/v2/charges/brokerage", "charges", market.brokerage),
            reading("/v2/charges/margin", "margin", market.margin, "POST"),
            reading("/v3/market-quote/ltp", "quote", market.last_prices_v3),
            reading("/v2/market-quote/ltp", "quote", market.last_prices_v2),
            reading("/v2/logout", "logout", self._logout, "DELETE"),
            reading(f"{_STREAM}/authorize", "stream_authorize", self._authorize_stream),
            Route("GET", _STREAM, "stream", self._open_stream, "", needs_token=False),
            public("POST", "/v2/login/authorization/token", "token", self._log_in),
            public("GET", "/market-quote/instruments/exchange/{name}.json.gz", "instruments", market.instruments_file),
        ]

    def account_of(self, request: Request) -> Account | None:
        words = request.headers.get("authorization", "")
        if not words.lower().startswith(_BEARER):
            return None
        return self._exchange.accounts.by_token(NAME, words[len(_BEARER) :].strip())

    def unknown_path(self) -> Answer:
        return failure([UNKNOWN_PATH])

    def dead_token(self) -> Answer:
        return failure([DEAD_TOKEN])

    def rate_limited(self) -> Answer:
        return failure([RATE_LIMITED])

    def ip_not_registered(self) -> Answer:
        return failure(
            [Problem("UDAPI1154", "Request from 203.0.113.9 is not allowed: static IP is 203.0.113.8", status=403)]
        )

    def refused(self, fault: Fault) -> Answer:
        code = fault.code or "UDAPI100036"
        return failure([Problem(code, fault.message or "Invalid Input", status=400)])

    def timed_out(self) -> Answer:
        return failure([Problem("UDAPI100500", "The request timed out; check the order book", status=400)])

    def without_id(self) -> Answer:
        return success({}, latency_ms=1)

    def limits(self) -> Limits:
        return self._exchange.settings.upstox

    def push(self, order: SimOrder, row: Row) -> bytes | None:
        return orjson.dumps(_update(order, row), default=float)

    def stream(self, order: SimOrder, row: Row) -> str | None:
        return orjson.dumps(_update(order, row), default=float).decode()

    def _log_in(self, call: Call) -> Answer:
        """Trades a code (any will do) for the account's token, which lives again."""
        form = call.request.form
        account = self._exchange.accounts.by_key(NAME, form.get("client_id", ""))
        if account is None or form.get("client_secret") != account.api_secret:
            raise Refused(Problem("UDAPI100069", "Check your 'client_id' and 'client_secret'", status=401))
        if not form.get("code"):
            raise Refused(Problem("UDAPI1022", "The code is required", "code"))
        if form.get("grant_type") != "authorization_code":
            raise Refused(Problem("UDAPI1023", "The grant type is required", "grant_type"))
        account.token_alive = True
        tokens = {"access_token": account.access_token, "extended_token": None}
        return json_answer(_profile_of(account) | tokens)

    def _logout(self, call: Call) -> Answer:
        call.owner.token_alive = False
        return success(True)

    def _profile(self, call: Call) -> Answer:
        return success(_profile_of(call.owner))

    def _authorize_stream(self, call: Call) -> Answer:
        address = self._stream_address(call.request, call.owner)
        return success({"authorized_redirect_uri": address, "authorizedRedirectUri": address})

    def _open_stream(self, call: Call) -> Answer | Upgrade:
        """With a code, which is good once; with a token alone, a redirect to an address with a code."""
        code = call.request.first("code")
        if code is not None:
            user_id, about = self._codes.pop(code, (None, ""))
            if user_id is None or "websocket" not in call.request.headers.get("upgrade", "").lower():
                return self.dead_token()
            join = partial(self._postbacks.streams.join, user_id) if "order" in about.split(",") else _nothing_to_hear
            return Upgrade(partial(stream, join=join))
        if call.account is None or not call.account.token_alive:
            return self.dead_token()
        return Answer(status=302, headers=(("Location", self._stream_address(call.request, call.account)),))

    def _stream_address(self, request: Request, account: Account) -> str:
        code = token_hex(16)
        self._codes[code] = (account.user_id, request.first("update_types") or "order")
        return f"ws://{request.headers.get('host', 'localhost')}{_STREAM}?requestId={token_hex(4)}&code={code}"


def _told(do: Callable[[Call], Answer]) -> Callable[[Call], Answer]:
    """What is refused becomes an answer in Upstox's words."""

    def tell(call: Call) -> Answer:
        try:
            return do(call)
        except Refused as refused:
            return failure(refused.problems)

    return tell


def _nothing_to_hear(ear: Ear) -> Callable[[], None]:
    """For a stream of positions, holdings or GTT orders: there is none here."""
    return lambda: None


def _one(request: Request) -> int:
    return 1


def _update(order: SimOrder, row: Row) -> dict[str, object]:
    changed = book_row_at(order, row)
    return changed | {
        "update_type": "order",
        "user_id": order.account,
        "instrument_key": changed["instrument_token"],
    }


def _profile_of(account: Account) -> dict[str, object]:
    return {
        "email": f"{account.user_id.lower()}@example.org",
        "exchanges": ["NSE", "NFO", "BSE", "CDS", "BFO"],
        "products": ["I", "D", "MTF"],
        "broker": "UPSTOX",
        "user_id": account.user_id,
        "user_name": account.name,
        "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
        "user_type": "individual",
        "poa": False,
        "is_active": True,
    }
