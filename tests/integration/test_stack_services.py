"""The three servers: they answer, they are as we want them, and only on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pika
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from shared_services import SharedServices

from ops.leftovers import read_stat
from ops.runfolder import RunFolder
from ops.services import Services
from ops.services.rabbitmq import INSTALLED
from ops.supervisor import ProcessFailed


def test_the_app_role_may_not_make_tables_and_the_owner_may(database_url: str, owner_database_url: str) -> None:
    with psycopg.connect(owner_database_url) as owner:
        owner.execute("CREATE TABLE made_by_owner (number int)")
    with psycopg.connect(database_url) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("CREATE TABLE made_by_app (number int)")


def test_a_wrong_password_opens_no_database(database_url: str) -> None:
    user, _, place = database_url.rpartition("@")
    wrong = f"{user.rpartition(':')[0]}:wrong@{place}"

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_a_quorum_queue_takes_a_confirmed_message(queue_url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(queue_url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("stack.test", durable=True, arguments={"x-queue-type": "quorum"})

    channel.basic_publish("", "stack.test", b"hello", mandatory=True)
    _, _, body = channel.basic_get("stack.test", auto_ack=True)

    assert body == b"hello"
    channel.queue_delete("stack.test")
    connection.close()


def test_valkey_wants_its_password(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
    stranger = redis.Redis(port=client.connection_pool.connection_kwargs["port"], retry=Retry(NoBackoff(), 0))
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_nothing_listens_beyond_this_machine(services: SharedServices) -> None:
    groups = set(services.state["processes"].values())
    listening = listening_sockets()

    found = [address for pid in all_pids() for address in sockets_of(pid, listening) if group_of(pid) in groups]

    assert len(found) >= 5  # PostgreSQL, Valkey, RabbitMQ, epmd and Erlang's own
    assert set(found) <= {"0100007F", "00000000000000000000000001000000"}  # 127.0.0.1 and ::1, as /proc writes them


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give its rights away")
def test_root_gives_the_database_to_somebody_who_can_reach_it(services: SharedServices) -> None:
    postgres = Path(f"/proc/{services.state['processes']['postgres']}")

    assert postgres.stat().st_uid != 0
    assert str(postgres.joinpath("exe").readlink()).startswith("/var/tmp/")


@pytest.mark.skipif(bool(shutil.which("erl")), reason="RabbitMQ's Erlang is installed here")
def test_without_an_installed_rabbitmq_the_downloaded_one_runs(services: SharedServices) -> None:
    program = Path(f"/proc/{services.state['processes']['rabbitmq']}/exe").readlink()

    assert "order-coordinator" in str(program)
    assert not any(Path("/").glob(INSTALLED))


def test_without_any_rabbitmq_the_error_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))  # neither erl nor apt-get
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = {"DATABASE_URL": "postgresql://elsewhere/db", "REDIS_URL": "redis://elsewhere"}

    with pytest.raises(ProcessFailed, match="set RABBITMQ_URL"), Services(tmp_path / "run", environment=given):
        pytest.fail("it started all the same")


def test_given_urls_are_used_as_they_are(tmp_path: Path) -> None:
    given = {"DATABASE_URL": "postgresql://db/x", "REDIS_URL": "redis://cache", "RABBITMQ_URL": "amqp://queue"}

    with Services(tmp_path / "run", environment=given) as services:
        assert services.urls.environment() == given
        assert services.supervisor.pids() == {}


def test_secrets_are_for_their_owner_alone(services: SharedServices) -> None:
    root = Path(__file__).resolve().parents[2] / ".run-test"
    files = [path for path in root.iterdir() if path.suffix in (".secret", ".json")]

    assert root.stat().st_mode & 0o077 == 0
    assert len(files) >= 6
    assert [path for path in files if path.stat().st_mode & 0o077] == []
    assert RunFolder(root).is_locked()


def listening_sockets() -> dict[str, str]:
    """The local address of every listening TCP socket, by inode."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found[fields[9]] = fields[1].partition(":")[0]
    return found


def sockets_of(pid: int, listening: dict[str, str]) -> list[str]:
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []
    return [listening[link[8:-1]] for link in links if link.startswith("socket:[") and link[8:-1] in listening]


def all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def group_of(pid: int) -> int | None:
    stat = read_stat(pid)
    return stat.group if stat else None
