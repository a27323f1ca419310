"""The small parts that a first start depends on: package index, package sources, ports, Procfile, leftovers."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from ops.leftovers import Identity, end_leftovers
from ops.package_index import Index, IndexProblem, configured_index
from ops.ports import Ports, first_outgoing
from ops.processes import read_procfile
from ops.runfolder import RunFolder
from ops.services.debian import copy_sources, prune
from ops.stack import PROJECT

WHEEL = b"the wheel's bytes"
INDEX_SETTINGS = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE", "PIP_CERT")


class Mirror(http.server.BaseHTTPRequestHandler):
    """A package index that wants a password and keeps its files elsewhere."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        listing = {"files": [{"filename": "uv-1.whl", "url": "../../files/uv-1.whl"}]}
        body = json.dumps(listing).encode() if self.path == "/simple/uv/" else WHEEL
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def mirror() -> Iterator[str]:
    Mirror.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://me:secret@127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def test_a_file_is_fetched_from_the_mirror_with_its_password(mirror: str) -> None:
    wheel = Index(mirror, None).fetch("uv", "uv-1.whl")

    assert hashlib.sha256(wheel).digest() == hashlib.sha256(WHEEL).digest()
    assert Mirror.asked == [("/simple/uv/", "Basic bWU6c2VjcmV0"), ("/files/uv-1.whl", "Basic bWU6c2VjcmV0")]


def test_a_missing_file_and_a_missing_index_are_told_without_the_password(mirror: str) -> None:
    with pytest.raises(IndexProblem, match=r"^127.0.0.1 has no uv-2.whl$"):
        Index(mirror, None).fetch("uv", "uv-2.whl")
    with pytest.raises(IndexProblem, match=r"^127.0.0.1 can't be reached"):
        Index("http://me:secret@127.0.0.1:1/simple", None).fetch("uv", "uv-1.whl")


def test_the_index_comes_from_the_environment_then_from_pips_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in INDEX_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text("[global]\nindex-url = https://from-pip.example/simple\n")

    assert configured_index().url == "https://from-pip.example/simple"

    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text('[[index]]\nurl = "https://from-uv.example/simple"\ndefault = true\n')
    assert configured_index().url == "https://from-uv.example/simple"

    monkeypatch.setenv("PIP_INDEX_URL", "https://from-environment.example/simple")
    assert configured_index().for_uv()["UV_DEFAULT_INDEX"] == "https://from-environment.example/simple"


def test_only_the_systems_own_package_sources_are_asked(tmp_path: Path) -> None:
    apt, mine = tmp_path / "apt", tmp_path / "mine"
    (apt / "sources.list.d").mkdir(parents=True)
    mine.mkdir()
    (apt / "sources.list").write_text("deb http://mirror/debian bookworm main\ndeb http://vendor/apt vendor-bookworm main\n")
    (apt / "sources.list.d" / "other.sources").write_text("Types: deb\nURIs: http://vendor\nSuites: nodistro\n")
    own = "Types: deb\nURIs: http://mirror/security\nSuites: bookworm-security"
    (apt / "sources.list.d" / "own.sources").write_text(f"{own}\n\nTypes: deb\nURIs: http://x\nSuites: bookworm-backports\n")

    copy_sources(apt, mine, "bookworm")

    copied = {path.name: path.read_text().strip() for path in mine.iterdir()}
    assert copied == {"sources.list": "deb http://mirror/debian bookworm main", "own.sources": own}


def test_only_what_rabbitmq_itself_needs_is_kept_of_its_plugins(tmp_path: Path) -> None:
    needs = {"rabbit": "[kernel, ra]", "ra": "[stdlib]", "rabbitmq_management": "[rabbit, cowboy]", "cowboy": "[]"}
    for name, applications in needs.items():
        description = tmp_path / f"{name}-1.0" / "ebin" / f"{name}.app"
        description.parent.mkdir(parents=True)
        description.write_text(f"{{application, {name}, [{{applications, {applications}}}]}}.")

    prune(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["ra-1.0", "rabbit-1.0"]


def test_a_wanted_port_is_taken_when_free_and_no_port_is_one_for_outgoing_connections(tmp_path: Path) -> None:
    ports = Ports(RunFolder(tmp_path))
    free = ports.choose({"first": None})["first"]
    ports.release()
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = int(server.getsockname()[1])
        chosen = ports.choose({"web": free, "queue": taken, "cache": None})

    assert chosen["web"] == free
    assert chosen["queue"] != taken
    assert len(set(chosen.values())) == 3
    assert all(port < first_outgoing() for port in chosen.values())
    ports.release()


def test_two_copies_that_start_together_never_choose_the_same_port(tmp_path: Path) -> None:
    first, second = Ports(RunFolder(tmp_path / "first")), Ports(RunFolder(tmp_path / "second"))
    wanted = first.choose({"web": None})["web"]  # nothing listens there yet

    assert second.choose({"web": wanted})["web"] != wanted
    first.release()
    assert first.choose({"web": None})["web"] == wanted
    first.release()
    second.release()


def test_every_line_of_the_procfile_names_a_process() -> None:
    commands = read_procfile(PROJECT / "Procfile")

    assert list(commands) == ["web", "intake", "dispatch-upstox", "dispatch-zerodha", "outcome", "listen", "clock"]
    assert commands["outcome"] == "python -m pipeline.worker outcome"


def test_a_pid_used_again_by_somebody_else_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        now = Identity.of("stranger", stranger.pid)
        assert now is not None
        before = Identity(now.name, now.pid, now.started - 1, now.boot)
        other_boot = Identity(now.name, now.pid, now.started, "another boot")

        assert end_leftovers([before, other_boot]) == 0
        assert now.is_alive()
        assert end_leftovers([now]) == 1
    assert stranger.returncode is not None
