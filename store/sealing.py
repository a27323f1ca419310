"""Secrets at rest: AES-256-GCM, bound to the row they belong to."""

from __future__ import annotations

import hashlib
import json
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE_LENGTH = 12


def seal(secret: str, *, place: str, values: dict[str, str]) -> bytes:
    """Encrypt values under the installation's secret; `place` names table, row and column, and must match to open."""
    nonce = os.urandom(_NONCE_LENGTH)
    sealed = AESGCM(_key(secret)).encrypt(nonce, json.dumps(values).encode(), place.encode())
    return _VERSION + nonce + sealed


def unseal(secret: str, *, place: str, sealed: bytes) -> dict[str, str]:
    """Raises cryptography's InvalidTag where the secret or the place is another one."""
    nonce, body = sealed[1 : 1 + _NONCE_LENGTH], sealed[1 + _NONCE_LENGTH :]
    opened: dict[str, str] = json.loads(AESGCM(_key(secret)).decrypt(nonce, body, place.encode()))
    return opened


def _key(secret: str) -> bytes:
    return hashlib.sha256(b"order-coordinator/credentials/1\x00" + secret.encode()).digest()
