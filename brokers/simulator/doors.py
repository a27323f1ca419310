"""The port of a facade as a door: it can be closed, silent, or behind a certificate that nobody vouches for.

What goes wrong at a door goes wrong before there is a request, so no fault could name it by account or endpoint.
"""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOL_SOCKET, socket

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from brokers.simulator.web import WebServer


class State(StrEnum):
    OPEN = "open"
    CLOSED = "closed"  # connections are refused
    SILENT = "silent"  # connections come about, and nobody reads or answers
    UNTRUSTED = "untrusted"  # TLS, with a certificate that nobody vouches for


class Door:
    """One port, which is the same for as long as the simulator lives."""

    def __init__(self, server: WebServer) -> None:
        self._server = server
        self._held: socket | None = None  # the port, while nobody serves it
        self.state = State.OPEN

    async def open(self, host: str, port: int) -> int:
        """The port: the one given, or for 0 a free one."""
        self._host, self._port = host, await self._server.start(host, port)
        return self._port

    async def turn(self, state: State) -> None:
        """Ends all connections. A request that waited at a silent door is never looked at."""
        await self.shut()
        match state:
            case State.OPEN:
                await self._server.start(self._host, self._port)
            case State.UNTRUSTED:
                await self._server.start(self._host, self._port, tls=_untrusted(self._host))
            case State.CLOSED | State.SILENT:
                self._held = socket(AF_INET6 if ":" in self._host else AF_INET)
                self._held.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
                self._held.bind((self._host, self._port))
                if state is State.SILENT:
                    self._held.listen()
        self.state = state

    async def shut(self) -> None:
        await self._server.stop()
        if self._held is not None:
            self._held.close()
            self._held = None


def _untrusted(host: str) -> ssl.SSLContext:
    """A certificate for the right address and the right day, signed by nobody but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "simulator")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .sign(key, SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # the library takes a file and nothing else
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.write(certificate.public_bytes(Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
