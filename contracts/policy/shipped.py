"""The policy bundle that this product ships: its files, its digest, its modules and its data.

The digest is SHA-256 over name, length and bytes of every file but tests, in the order of names. The
bundle carries it in `sluicegate/bundle/data.json`, the one file left out of it, so that any engine
that runs the bundle can say which one it runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from msgspec import Struct

from contracts.policy.engine import unavailable

DIGEST_DOCUMENT = "sluicegate/bundle/data.json"

_IMPORT = re.compile(r"^import data\.sluicegate\.([a-z_]+)$", re.MULTILINE)


class Bundle(Struct, frozen=True):
    """A bundle's files by name (POSIX path relative to its root), without tests, and its digest."""

    files: Mapping[str, bytes]
    digest: str

    @property
    def modules(self) -> dict[str, str]:
        """Rego sources by name."""
        return {name: raw.decode() for name, raw in self.files.items() if name.endswith(".rego")}

    def needed_by(self, package: str) -> dict[str, str]:
        """Rego sources of `sluicegate.<package>` and of all that it imports, directly or not, by name.
        A package that is not there is left out: what refers to it is undefined."""
        modules, wanted, needed = self.modules, [package], dict[str, str]()
        while wanted:
            name = f"sluicegate/{wanted.pop()}.rego"
            if name in modules and name not in needed:
                needed[name] = modules[name]
                wanted += _IMPORT.findall(modules[name])
        return needed

    @property
    def data(self) -> dict[str, Any]:
        """The data documents, each at the path of its folder, as an OPA server would load them."""
        root: dict[str, Any] = {}
        for name, raw in self.files.items():
            if name == "data.json" or name.endswith("/data.json"):
                node = root
                for step in name.split("/")[:-1]:
                    node = node.setdefault(step, {})
                node.update(json.loads(raw))
        return root


def belongs(name: str) -> bool:
    """Whether a file of that name is part of a bundle: sources, data, schemas and the manifest."""
    return name.endswith((".rego", ".json", ".manifest")) and not name.endswith("_test.rego")


def digest_of(files: Mapping[str, bytes]) -> str:
    """The digest of a bundle with these files; tests and the digest document do not count."""
    hashed = hashlib.sha256()
    for name in sorted(files):
        if belongs(name) and name != DIGEST_DOCUMENT:
            encoded, raw = name.encode(), files[name]
            hashed.update(len(encoded).to_bytes(8, "big") + encoded + len(raw).to_bytes(8, "big") + raw)
    return "sha256:" + hashed.hexdigest()


def bundle_of(files: Mapping[str, bytes]) -> Bundle:
    """A bundle of these files. Raises POLICY_UNAVAILABLE if it does not carry its own digest."""
    kept = {name: raw for name, raw in sorted(files.items()) if belongs(name)}
    digest = digest_of(kept)
    try:
        carried = json.loads(kept[DIGEST_DOCUMENT])["digest"]
    except (KeyError, TypeError, ValueError):
        raise unavailable("the policy bundle carries no digest; install the product again") from None
    if carried != digest:
        raise unavailable("the policy bundle was changed after it was sealed; install the product again")
    return Bundle(kept, digest)


@cache
def load() -> Bundle:
    """The bundle shipped with this package. Raises POLICY_UNAVAILABLE if it is damaged."""
    try:
        return bundle_of(dict(_walk(resources.files("contracts.policy") / "bundle", "")))
    except (OSError, UnicodeDecodeError) as error:
        raise unavailable("the policy bundle cannot be read; install the product again") from error


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _walk(entry, f"{name}/")
        elif belongs(name):
            found.append((name, entry.read_bytes()))
    return found
