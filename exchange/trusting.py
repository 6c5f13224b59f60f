"""Changing a trust file: whose root keys count for whoever pins it."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec.structs import replace

from contracts.errors import Reason, SluicegateError
from contracts.trust import TrustedParty, TrustFile, dump_trust, load_trust
from exchange.evidence import read_trust


def add(path: Path, party: str, pinned: TrustedParty) -> None:
    """Pin a party's root in a trust file. Comments in it are lost. Raises ALREADY_EXISTS when another root or kind is
    pinned for the party, TRUST_MISSING, and INVALID_ARGUMENT for what no trust file can hold."""
    trust = read_trust(path)
    known = trust.parties.get(party)
    if known is not None and known != pinned:
        raise SluicegateError(
            Reason.ALREADY_EXISTS,
            f"{path} pins another root for {party}, {known.root.kid}: find out which is right before you remove it",
        )
    _write(path, replace(trust, parties={**trust.parties, party: pinned}))


def remove(path: Path, party: str) -> None:
    """Drop a party from a trust file. Comments in it are lost. Raises NOT_FOUND, TRUST_MISSING."""
    trust = read_trust(path)
    if party not in trust.parties:
        raise SluicegateError(Reason.NOT_FOUND, f"{path} does not name {party[:80]}")
    left = {name: pinned for name, pinned in trust.parties.items() if name != party}
    _write(path, replace(trust, parties=left))


def _write(path: Path, trust: TrustFile) -> None:
    """Put a trust file in the place of another, whole or not at all, readable by the same people."""
    raw = dump_trust(trust)
    load_trust(raw)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fresh.write_bytes(raw)
        fresh.chmod(path.stat().st_mode & 0o777)
        fresh.replace(path)
    except OSError as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"cannot write {path}: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)
