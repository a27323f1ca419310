"""The record's tables as SQLAlchemy Core sees them; the migrations make them, and a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, TIMESTAMP

metadata = MetaData()

_ID = Uuid(as_uuid=False)  # ids are text in all our code
_MOMENT = TIMESTAMP(timezone=True)
_PRICE = Numeric(18, 4)

users = Table(
    "users",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", _MOMENT, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("broker", Text, nullable=False),
    Column("calendar", Text, nullable=False),
    Column("credentials", LargeBinary, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("session", Text, nullable=False),
    Column("mode", Text, nullable=False),  # of processes that know no switches yet
    Column("limit_paise", BigInteger, nullable=False),
    Column("blocked_paise", BigInteger, nullable=False),
    Column("exposure_paise", BigInteger, nullable=False),
    Column("open_orders", Integer, nullable=False),
    Column("second", BigInteger, nullable=False),
    Column("orders_this_second", Integer, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("role", Text, nullable=False),
    Column("requests_per_s", Integer, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
    Column("expires_at", _MOMENT),
    Column("revoked_at", _MOMENT),
)

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    Column("updated_by", Text, nullable=False),
)

intents = Table(
    "intents",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("key_id", _ID, nullable=False),
    Column("kind", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("order_ids", ARRAY(_ID), nullable=False),
    Column("accepted_at", _MOMENT, nullable=False),
    Column("window_until", _MOMENT, nullable=False),
    Column("answer", JSON),
    Column("closing", Boolean, nullable=False),
    Column("released_at", _MOMENT),
    UniqueConstraint("user_id", "idempotency_key"),
)

orders = Table(
    "orders",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("intent_id", _ID, nullable=False),
    Column("parent_id", _ID),
    Column("slices", Integer, nullable=False),
    Column("line", Integer, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("user_id", _ID, nullable=False),
    Column("instrument", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("product", Text, nullable=False),
    Column("order_type", Text, nullable=False),
    Column("validity", Text, nullable=False),
    Column("price", _PRICE),
    Column("trigger_price", _PRICE),
    Column("disclosed_quantity", BigInteger, nullable=False),
    Column("market_protection", Numeric(6, 2)),
    Column("wanted_broker", Text),
    Column("wanted_account", Text),
    Column("strategy", Text),
    Column("tag", Text),
    Column("broker_tag", Text, nullable=False, unique=True),
    Column("broker", Text),
    Column("account_id", Text),
    Column("broker_order_id", Text),
    Column("state", Text, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("filled_quantity", BigInteger, nullable=False),
    Column("average_price", _PRICE),
    Column("reason_code", Text),
    Column("reason", Text),
    Column("blocked_paise", BigInteger, nullable=False),
    Column("exposure_paise", BigInteger, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("accepted_at", _MOMENT, nullable=False),
    Column("send_before", _MOMENT, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    Column("changing", Integer, nullable=False),
    Column("modifies", Integer, nullable=False),
    Column("policy", Text),
    Column("after", Text),
)

commands = Table(
    "commands",
    metadata,
    Column("order_id", _ID, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("due_at", _MOMENT, nullable=False),
    Column("lease_until", _MOMENT),
    Column("live", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("error", Text),
    Column("fence", Integer, nullable=False),
    Column("buried_at", _MOMENT),
    Column("done_at", _MOMENT),
)

changes = Table(
    "changes",
    metadata,
    Column("order_id", _ID, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("intent_id", _ID, nullable=False),
    Column("line", Integer, nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("asked_at", _MOMENT, nullable=False),
    Column("told", Text),
    Column("told_detail", Text),
    Column("proof_from", _MOMENT),
    Column("result", Text),
    Column("reason_code", Text),
    Column("reason", Text),
    Column("settled_at", _MOMENT),
)

group_marks = Table(
    "group_marks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("intent_id", _ID, nullable=False),
    Column("due_at", _MOMENT, nullable=False),
    Column("tries", Integer, nullable=False),
)

book_reads = Table(
    "book_reads",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("began_at", _MOMENT, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("worker", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("order_ids", ARRAY(_ID), nullable=False),
    Column("opened_at", _MOMENT, nullable=False),
)

order_events = Table(
    "order_events",
    metadata,
    Column("order_id", _ID, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("event_type", Text, nullable=False),
    Column("prev_state", Text),
    Column("new_state", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("detail", JSON, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("order_id", _ID, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("call_id", _ID, nullable=False),
    Column("broker", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("request", JSON, nullable=False),
    Column("started_at", _MOMENT, nullable=False),
    Column("lease_until", _MOMENT, nullable=False),
    Column("outcome", Text),
    Column("response", JSON),
    Column("ended_at", _MOMENT),
    Column("kind", Text, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    Column("order_id", _ID, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("source", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("received_at", _MOMENT, nullable=False),
    Column("due_at", _MOMENT, nullable=False),
    Column("applied_at", _MOMENT),
)

trades = Table(
    "trades",
    metadata,
    Column("order_id", _ID, primary_key=True),
    Column("exchange", Text, primary_key=True),
    Column("trade_id", Text, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("broker", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("instrument", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("price", _PRICE, nullable=False),
    Column("at", _MOMENT, nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("at", _MOMENT, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
)

searches = Table(
    "searches",
    metadata,
    Column("order_id", _ID, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("asked_at", _MOMENT, nullable=False),
    Column("proof_from", _MOMENT, nullable=False),
    Column("next_at", _MOMENT, nullable=False),
    Column("looks", Integer, nullable=False),
    Column("clean_reads", Integer, nullable=False),
    Column("clean_at", _MOMENT),
    Column("told_at", _MOMENT),
)

strays = Table(
    "strays",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("broker_order_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("order_id", _ID),
    Column("body", JSON, nullable=False),
    Column("found_at", _MOMENT, nullable=False),
    Column("seen_at", _MOMENT, nullable=False),
    Column("cancel_asked_at", _MOMENT),
    Column("cancel_outcome", Text),
    Column("closed_at", _MOMENT),
    Column("closed_by", Text),
)

watches = Table(
    "watches",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("until", _MOMENT, nullable=False),
)

findings = Table(
    "findings",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("ours", Text),
    Column("theirs", Text),
    Column("found_at", _MOMENT, nullable=False),
    Column("seen_at", _MOMENT, nullable=False),
    Column("gone_at", _MOMENT),
)

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("due_at", _MOMENT, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("run_id", _ID),
    Column("lease_until", _MOMENT),
    Column("began_at", _MOMENT),
    Column("ended_at", _MOMENT),
    Column("looks", BigInteger, nullable=False),
    Column("outcome", Text),
    Column("detail", Text),
    Column("suspected", Integer, nullable=False),
    Column("memory", JSON, nullable=False),
)

user_settings = Table(
    "user_settings",
    metadata,
    Column("user_id", _ID, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    Column("updated_by", Text, nullable=False),
)

parkings = Table(
    "parkings",
    metadata,
    Column("order_id", _ID, primary_key=True),
    Column("state", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("until", _MOMENT),
    Column("operator", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("parked_at", _MOMENT, nullable=False),
)

acts = Table(
    "acts",
    metadata,
    Column("user_id", _ID, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("answer", JSON),
    Column("at", _MOMENT, nullable=False),
)

listeners = Table(
    "listeners",
    metadata,
    Column("name", Text, primary_key=True),
    Column("until", _MOMENT, nullable=False),
)

stream_leases = Table(
    "stream_leases",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", _MOMENT, nullable=False),
)

awaited_trades = Table(
    "awaited_trades",
    metadata,
    Column("order_id", _ID, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("filled", BigInteger, nullable=False),
    Column("since", _MOMENT, nullable=False),
)

switches = Table(
    "switches",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("by_operator", Boolean, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("followed", JSON, nullable=False),
    Column("carried_out_at", _MOMENT),
)

setting_documents = Table(
    "setting_documents",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("version", Integer, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("key_id", _ID, nullable=False),
    Column("kind", Text, nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("sessions", JSON),
    Column("waits_for", _ID),
    Column("due_at", _MOMENT, nullable=False),
    Column("late_by_s", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("detail", Text),
    Column("intent_id", _ID),
    Column("matched", Integer),
    Column("created_at", _MOMENT, nullable=False),
    Column("ended_at", _MOMENT),
)

signal_strategies = Table(
    "signal_strategies",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("form", JSON, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    Column("updated_by", Text, nullable=False),
    UniqueConstraint("user_id", "name"),
)

signal_revocations = Table(
    "signal_revocations",
    metadata,
    Column("strategy_id", _ID, primary_key=True),
    Column("at", _MOMENT, nullable=False),
)

signals = Table(
    "signals",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("strategy_id", _ID, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("status", Text, nullable=False),
    Column("digest", LargeBinary),
    Column("nonce", Text),
    Column("intent_id", _ID),
    Column("wanted", JSON),
    Column("reason_code", Text),
    Column("reason", Text),
)
