"""Upstox's error codes, call by call, and what each proves of the request it answers.

Codes are reused with other meanings in other calls, so each call has its table. What isn't here is not documented for
the call, and proves nothing. A 5xx proves nothing whatever its code.
"""

from __future__ import annotations

from collections.abc import Mapping

from brokers.dialects.meanings import Documented, Meaning

BUSY, LOGGED_OUT, NOTHING, REFUSED = Meaning.BUSY, Meaning.LOGGED_OUT, Meaning.NOTHING, Meaning.REFUSED

ErrorTable = Mapping[str, Documented]

_ANY_CALL = {
    "UDAPI10005": Documented(BUSY, "over the rate limit"),
    "UDAPI100099": Documented(BUSY, "over the token's own rate limit"),
    "UDAPI100050": Documented(LOGGED_OUT, "invalid token"),
    "UDAPI100016": Documented(LOGGED_OUT, "invalid credentials"),
    "UDAPI100067": Documented(LOGGED_OUT, "a read-only token"),
    "UDAPI10000": Documented(REFUSED, "the request isn't known"),
    "UDAPI100060": Documented(REFUSED, "the path isn't known"),
    "UDAPI100073": Documented(REFUSED, "the app is inactive"),
    "UDAPI100015": Documented(REFUSED, "API version missing"),
    "UDAPI100036": Documented(REFUSED, "invalid input"),
    "UDAPI100038": Documented(REFUSED, "invalid input"),
    "UDAPI100074": Documented(REFUSED, "between midnight and 05:30"),
    "UDAPI100049": Documented(REFUSED, "the account must use another product"),
    "UDAPI1154": Documented(REFUSED, "the address isn't the registered one"),
    "UDAPI1156": Documented(REFUSED, "X-Algo-Name missing or not known"),
    "UDAPI100500": Documented(NOTHING, "an unexpected failure of the server"),
}
_TERMS = {
    "UDAPI1004": Documented(REFUSED, "order_type missing"),
    "UDAPI1056": Documented(REFUSED, "order_type invalid"),
    "UDAPI1007": Documented(REFUSED, "validity missing"),
    "UDAPI1055": Documented(REFUSED, "validity invalid"),
    "UDAPI1052": Documented(REFUSED, "quantity zero"),
    "UDAPI1158": Documented(REFUSED, "market orders are blocked"),
    "UDAPI1159": Documented(REFUSED, "market_protection over 25 %"),
    "UDAPI1161": Documented(REFUSED, "MCX is disabled"),
}
PLACE_ERRORS: ErrorTable = {
    **_ANY_CALL,
    **_TERMS,
    "UDAPI1026": Documented(REFUSED, "instrument key missing"),
    "UDAPI100011": Documented(REFUSED, "instrument key invalid"),
    "UDAPI1054": Documented(REFUSED, "product invalid"),
    "UDAPI1057": Documented(REFUSED, "transaction_type invalid"),
    "UDAPI100039": Documented(REFUSED, "after-market flag wrong"),
    "UDAPI1118": Documented(REFUSED, "too many slices or lines"),
    "UDAPI1119": Documented(REFUSED, "tag too long"),
    "UDAPI1104": Documented(NOTHING, "not a multiple of the lot: documented for margins, not for orders"),
}
MULTI_PLACE_ERRORS: ErrorTable = {
    **PLACE_ERRORS,
    "UDAPI1114": Documented(REFUSED, "no lines"),
    "UDAPI1115": Documented(REFUSED, "correlation_id missing"),
    "UDAPI1117": Documented(REFUSED, "correlation_id twice"),
    "UDAPI1116": Documented(NOTHING, "named nowhere; correlation_id too long, by its neighbours"),
}
MODIFY_ERRORS: ErrorTable = {
    **_ANY_CALL,
    **_TERMS,
    "UDAPI1003": Documented(REFUSED, "order id missing"),
    "UDAPI100010": Documented(REFUSED, "order id not known"),
    "UDAPI100041": Documented(REFUSED, "the order is over"),
}
CANCEL_ERRORS: ErrorTable = {
    **_ANY_CALL,
    "UDAPI1023": Documented(REFUSED, "order id missing"),
    "UDAPI1010": Documented(REFUSED, "order id of a wrong form"),
    "UDAPI100010": Documented(REFUSED, "order id not known"),
    "UDAPI100040": Documented(REFUSED, "the order is over"),
}
READ_ERRORS: ErrorTable = {**_ANY_CALL, "UDAPI100072": Documented(REFUSED, "funds between midnight and 05:30")}
