"""The package index this machine is set up for, read the way uv and pip are told about it."""

from __future__ import annotations

import base64
import configparser
import json
import netrc
import os
import ssl
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PUBLIC_INDEX = "https://pypi.org/simple"
JSON_INDEX = "application/vnd.pypi.simple.v1+json"


class IndexProblem(Exception):
    """The package index can't be reached, or doesn't have what is needed."""


@dataclass(frozen=True)
class Index:
    """One package index: its simple API's address, and the file with the certificates to trust, if one is set."""

    url: str
    certificates: str | None

    @property
    def name(self) -> str:
        """For messages: the host, never the password that may stand in the address."""
        return urllib.parse.urlsplit(self.url).hostname or self.url

    def for_uv(self) -> dict[str, str]:
        """What uv has to be told; it doesn't read pip's settings by itself."""
        env = {"UV_DEFAULT_INDEX": self.url, "UV_PYTHON_DOWNLOADS": "never"}
        if self.certificates:
            env["SSL_CERT_FILE"] = self.certificates
        return env

    def fetch(self, project: str, filename: str) -> bytes:
        """One file of a project.

        Raises:
            IndexProblem: it isn't there, or the index can't be reached.
        """
        page_url = f"{self.url.rstrip('/')}/{project}/"
        try:
            files = json.loads(self._get(page_url, accept=JSON_INDEX))["files"]
        except (KeyError, ValueError) as error:
            raise IndexProblem(f"{self.name} doesn't speak the JSON simple API") from error
        for file in files:
            if file["filename"] == filename:
                return self._get(urllib.parse.urljoin(page_url, file["url"]))
        raise IndexProblem(f"{self.name} has no {filename}")

    def _get(self, url: str, accept: str = "*/*") -> bytes:
        parts = urllib.parse.urlsplit(url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        request = urllib.request.Request(bare, headers={"Accept": accept, "User-Agent": "order-coordinator"})
        account = self._account(parts)
        if account:
            request.add_header("Authorization", "Basic " + base64.b64encode(":".join(account).encode()).decode())
        try:
            context = ssl.create_default_context(cafile=self.certificates)
            with urllib.request.urlopen(request, timeout=60, context=context) as answer:
                body: bytes = answer.read()
                return body
        except (urllib.error.URLError, OSError) as error:
            raise IndexProblem(f"{self.name} can't be reached: {error}") from error

    def _account(self, parts: urllib.parse.SplitResult) -> tuple[str, str] | None:
        own = urllib.parse.urlsplit(self.url)
        if parts.hostname != own.hostname:  # files may lie elsewhere: no password for strangers
            return None
        if own.username:
            return urllib.parse.unquote(own.username), urllib.parse.unquote(own.password or "")
        try:
            found = netrc.netrc().authenticators(parts.hostname or "")
        except (OSError, netrc.NetrcParseError):
            return None
        return (found[0], found[2] or "") if found else None


def configured_index() -> Index:
    """From the environment, then uv's settings, then pip's; the public index when nothing is said."""
    pip = dict(pip_settings())
    told = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    from_environment = next((os.environ[name] for name in told if os.environ.get(name)), None)
    url = from_environment or uv_setting() or pip.get("index-url") or PUBLIC_INDEX
    certificates = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT") or pip.get("cert")
    return Index(url, certificates if certificates and Path(certificates).exists() else None)


def config_folders() -> list[Path]:
    """The system's first, the user's last."""
    return [Path("/etc"), Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))]


def pip_settings() -> Iterator[tuple[str, str]]:
    """pip's [global] settings; a later file overrules an earlier one."""
    system, user = config_folders()
    paths = [system / "xdg/pip/pip.conf", system / "pip.conf", Path.home() / ".pip/pip.conf", user / "pip/pip.conf"]
    if os.environ.get("PIP_CONFIG_FILE"):
        paths.append(Path(os.environ["PIP_CONFIG_FILE"]))
    for path in paths:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path)
        except (OSError, configparser.Error):
            continue
        if parser.has_section("global"):
            yield from parser.items("global")


def uv_setting() -> str | None:
    """The default index in uv's own settings."""
    found: str | None = None
    for folder in config_folders():
        try:
            settings: dict[str, Any] = tomllib.loads((folder / "uv/uv.toml").read_text())
        except (OSError, ValueError):
            continue
        default = [entry["url"] for entry in settings.get("index", ()) if entry.get("default") and "url" in entry]
        found = next(iter(default), settings.get("index-url") or found)
    return found
