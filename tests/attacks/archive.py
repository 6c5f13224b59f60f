"""Datasets of the archive office, for attacks that need one of their own: what is suspended, revoked or
changed there disturbs no other file of this folder.

    deeds = archive(attacked, "deeds")
    agreement = attacked.city.agree("analyst", deeds.dataset, "planning", approvers=["archivist"])
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.attacks.conftest import ARCHIVE, Attacked
from tests.e2e.city import CONTRACTS
from tests.e2e.conftest import people

OFFICE, ARCHIVIST = "archive-office", "archivist@archive.example"


@dataclass(frozen=True)
class Register:
    """A published dataset: its name, the contract's bytes, the file behind the gateway."""

    dataset: str
    contract: bytes
    source: Path


def contract(name: str, *, version: str = "1.0.0") -> bytes:
    """The register's contract, as the archive office's own."""
    text = (CONTRACTS / "people.odcs.yaml").read_text()
    for old, new in (
        ("name: people\nversion: 1.0.0", f"name: {name}\nversion: {version}"),
        ("0b8f3a52-1f7c-4c55-9b0e-6a7f6d1f2c04", f"contract-of-{name}"),
        ("registry-office", OFFICE),
        ("keeper@registry.example", ARCHIVIST),
    ):
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def archive(attacked: Attacked, name: str, rows: int = 2_000) -> Register:
    """Publish a register of people under that name."""
    source = attacked.people.parent / f"{name}.parquet"
    people(rows).write_parquet(source)
    found = Register(f"{OFFICE}/{name}", contract(name), source)
    attacked.city.publish("archivist", found.contract, source, gateway=ARCHIVE)
    return found
