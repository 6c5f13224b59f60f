"""What must not be seen: every key, salt, token and passphrase of a home in all spellings, and marked cells."""

from __future__ import annotations

import base64
import sqlite3
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from exchange import keyfiles

CANARY = "zqxcanary"  # in every cell of every masked column
ISLAND = "zqxisland"  # a district of three people: too few to be sent, and so never to be named

# Where a secret may lie, in the home of everybody; everything else is searched for it.
ALLOWED = {
    "salt of an agreement": "gateways/*/state.db*",
    "root key": "parties/*/root.jwk",
    "issuer key": "parties/*/issuer.jwk",
    "exchange key": "exchange/keys/*.jwk",
    "gateway key": "gateways/*/keys/*",
    "TLS key": "*/tls/key.pem",
    "personal key": "profiles/keys/*.jwk",
    "token": "profiles/keys/*.jwt",
    "passphrase": "secret/passphrase",
}


def spellings(raw: bytes) -> set[bytes]:
    """A secret as it is, in hexadecimal, and in base64 of both alphabets wherever it begins in a longer text."""
    found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw)
        # Without the first and last group: they depend on the neighbours too.
        inner = whole[4 if before else 0 : -4]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


@dataclass
class Marks:
    """What is searched for: a secret's kind and its own file, with all its spellings."""

    marks: dict[tuple[str, str], set[bytes]] = field(default_factory=dict)

    def add(self, kind: str, where: str, *raw: bytes) -> None:
        """One secret, which may lie in this file (a pattern) and nowhere else."""
        self.marks[kind, where] = {mark for one in raw for mark in (spellings(one) if len(one) == 32 else {one})}

    @classmethod
    def of(cls, home: Path) -> Marks:
        """The keys in the key files of a home, the salts in its gateways' states, and the cells."""
        found = cls()
        for path in sorted(home.rglob("*")):
            where = str(path.relative_to(home))
            kind = next((kind for kind, pattern in ALLOWED.items() if fnmatch(where, pattern)), "")
            if path.suffix == ".jwk":
                private = keyfiles.read_key(path).unsafe_private_jwk()["d"]
                found.add(kind, where, base64.urlsafe_b64decode(private + "="))
            elif path.name == "master.key":
                found.add(kind, where, bytes.fromhex(path.read_text()))
            elif path.name == "key.pem":
                key = load_pem_private_key(path.read_bytes(), None)
                assert isinstance(key, EllipticCurvePrivateKey)
                # Its last line can be so short that other bytes hold it by chance.
                lines = [line for line in path.read_bytes().splitlines()[1:-1] if len(line) > 16]
                found.add(kind, where, key.private_numbers().private_value.to_bytes(32, "big"), *lines)
            elif path.suffix == ".jwt":
                token = path.read_bytes().strip()
                found.add(kind, where, token, token.rpartition(b".")[2])
            elif path.name == "passphrase":
                found.add(kind, where, path.read_bytes().strip())
            elif path.name == "state.db":
                for (salt,) in sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("SELECT salt FROM salts"):
                    found.add("salt of an agreement", f"{where}* {salt[:2].hex()}", salt)
        for word in (CANARY, ISLAND):
            found.add(f"cell value {word}", "nowhere", word.encode(), word.upper().encode())
        return found

    def leaks(self, where: str, content: bytes) -> list[str]:
        """The secrets that lie in something, and should not."""
        return [
            f"{kind} of {own} in {where}"
            for (kind, own), marks in self.marks.items()
            if not fnmatch(where, own.partition(" ")[0]) and any(mark in content for mark in marks)
        ]
