"""What is installed is what is locked, by hash, and may be used: every licence is a permissive one, or
an exception that is named here with its reason."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import sbom
from tools.sbom import CONCLUDED, licence

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"

PERMISSIVE = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "PSF-2.0", "Zlib"),
}
EXCEPTIONS = {
    "hypothesis": ("MPL-2.0", "runs the tests; not part of the product"),
    "pathspec": ("Mozilla Public License 2.0 (MPL 2.0)", "needed by the type checker; not part of the product"),
    "polars-hash": ("", CONCLUDED["polars-hash"][1]),
    "psycopg": ("LGPL-3.0-only", "an option, installed by who uses PostgreSQL; used unchanged, as a library"),
    "psycopg-binary": ("LGPL-3.0-only", "as psycopg"),
}
OURS = {"sluicegate", "pip"}  # pip comes with the environment

_ENTRY = re.compile(r"^([A-Za-z0-9].*?) *\\?\n((?: {4}.*\n?)*)", re.MULTILINE)


def locked(lock: Path = LOCK) -> dict[Requirement, list[str]]:
    """Every entry of a lock, with its hashes."""
    return {
        Requirement(entry): re.findall(r"--hash=(\S+)", hashes) for entry, hashes in _ENTRY.findall(lock.read_text())
    }


def wanted() -> dict[str, str]:
    """Name -> version of what the lock installs on this machine."""
    return {
        canonicalize_name(entry.name): str(entry.specifier).removeprefix("==")
        for entry in locked()
        if entry.marker is None or entry.marker.evaluate()
    }


def installed() -> dict[str, Distribution]:
    """Everything that is installed here but the product itself."""
    found = {canonicalize_name(each.metadata["Name"]): each for each in distributions()}
    return {name: each for name, each in found.items() if name not in OURS}


def permissive(expression: str) -> bool:
    """Whether some way to read the expression has permissive licences only."""
    ways = expression.split(" OR ")
    return any(all(part in PERMISSIVE for part in way.split(" AND ")) for way in ways)


@pytest.mark.parametrize(("lock", "least"), [(LOCK, 50), (sbom.LOCK, 20)], ids=["product", "bill of materials"])
def test_everything_locked_has_hashes_and_one_version(lock: Path, least: int) -> None:
    entries = locked(lock)
    assert len(entries) > least
    for entry, hashes in entries.items():
        assert re.fullmatch(r"==[\w.!+]+", str(entry.specifier)), entry
        assert hashes, entry
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), entry


def test_what_is_installed_is_what_is_locked() -> None:
    assert {name: found.version for name, found in installed().items()} == wanted()


def test_the_lock_covers_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    has = wanted()
    for text in asked:
        requirement = Requirement(text)
        assert requirement.specifier.contains(has[canonicalize_name(requirement.name)]), text


@pytest.mark.parametrize("name", sorted(wanted()))
def test_its_licence_is_permissive(name: str) -> None:
    said = licence(installed()[name])
    if name in EXCEPTIONS:
        assert said == EXCEPTIONS[name][0], f"{name} changed its licence: {said}"
    else:
        assert permissive(said), f"{name}: {said or 'no licence'}"


def test_the_bill_of_materials_leaves_no_licence_out() -> None:
    """Also of what the generator finds no licence for: what is said here, or concluded and marked as that."""
    named = installed()
    bill = {"components": [{"name": name, "version": found.version} for name, found in named.items()]}
    assert sbom.unlicensed(bill) == sorted(f"{name} {found.version}" for name, found in named.items())
    sbom.licensed(bill)
    assert sbom.unlicensed(bill) == []
    told = {each["name"]: each["licenses"][0] for each in bill["components"]}
    assert told["polars-hash"]["license"] == {"id": "MIT", "acknowledgement": "concluded"}
    assert told["protobuf"]["license"] == {"id": "BSD-3-Clause", "acknowledgement": "declared"}
    assert set(CONCLUDED) <= set(named)
    assert not any(licence(named[name]) for name in CONCLUDED)


def test_every_exception_is_still_needed() -> None:
    assert set(EXCEPTIONS) <= set(wanted())
    assert not any(permissive(text) for text, _ in EXCEPTIONS.values())


@pytest.mark.parametrize(
    ("expression", "is_fine"),
    [
        ("MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("", False),
    ],
)
def test_how_an_expression_is_read(expression: str, is_fine: bool) -> None:
    assert permissive(expression) is is_fine
