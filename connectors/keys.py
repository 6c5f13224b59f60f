"""The department's keys: one master key, and what is derived from it for one agreement.

    ring = KeyRing(MasterKey.load(path), state.salt)
    secrets = ring.secrets(agreement_digest)        what masks and keyed order are given

Derivation is HKDF-SHA256 (RFC 5869): salt are 32 random bytes that the gateway keeps per agreement and
erases on destruction, after which no pseudonym can be made or recognised again; info is the RFC 8785
array [agreement digest, domain, period]. No key appears in a repr, a log, an error or a pickle.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from connectors.commands import printed
from contracts.canonical import canonical
from contracts.errors import Reason, SluicegateError

KEY_BYTES = 32
_HASH_BYTES = 32


class Secret:
    """Base of what holds key material: says nothing of itself and cannot be copied out."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is never serialised")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is never serialised")


class MasterKey(Secret):
    """The department's one master key, 32 bytes. It never leaves the department."""

    __slots__ = ()

    @classmethod
    def create(cls, path: Path, entropy: Callable[[int], bytes]) -> MasterKey:
        """Make a new key in a new file, mode 0600, in a folder that is made with 0700 if need be.

        `entropy` gives that many random bytes (`os.urandom`). Raises ALREADY_EXISTS rather than
        overwrite: with the old key all its pseudonyms would be lost. Raises CONFIG_UNSAFE for a folder
        that others may write to or read.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(path)
        key = entropy(KEY_BYTES)
        if len(key) != KEY_BYTES:
            raise SluicegateError(Reason.INTERNAL, "the source of randomness gave too little")
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise SluicegateError(
                Reason.ALREADY_EXISTS, f"{path} exists; a master key is never overwritten: choose another place"
            ) from None
        except OSError:
            raise SluicegateError(Reason.CONFIG_INVALID, f"{path} cannot be written") from None
        with os.fdopen(handle, "wb") as file:
            file.write(key.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> MasterKey:
        """Read the key. Raises CONFIG_INVALID when it is missing or no key, CONFIG_UNSAFE when anyone
        but its owner may read it or touch its folder, or when it is a link."""
        _check_folder(path)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SluicegateError(
                Reason.CONFIG_INVALID, f"there is no master key at {path}; restore it from the backup, or make one"
            ) from None
        except OSError:
            raise SluicegateError(Reason.CONFIG_UNSAFE, f"{path} is a link or may not be read") from None
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in (os.getuid(), 0):
                raise SluicegateError(
                    Reason.CONFIG_UNSAFE, f"{path} is open to others; run chmod 600 on it, and think of replacing it"
                )
            raw = file.read(2 * KEY_BYTES + 2)
        return cls(_read(raw, f"{path} holds"))

    @classmethod
    def ask(cls, command: Sequence[str]) -> MasterKey:
        """Have a key management service's own client print the key, 64 hexadecimal digits, to its standard
        output: it lies in no file then. No shell is between; what the command says besides is not repeated.

        Raises CONFIG_INVALID when the command cannot be run, fails, takes more than 30 s or prints no key.
        """
        told = f"the command for the master key, {command[0]},"
        return cls(_read(printed(command, Reason.CONFIG_INVALID, told), f"{told} printed"))

    def extract(self, salt: bytes) -> bytes:
        """HKDF-Extract under this key: the agreement's own pseudorandom key. Keep it as the key it is."""
        return hkdf_extract(salt, self._key)


def _read(raw: bytes, said: str) -> bytes:
    """The key in a file or an answer; `said` begins the error."""
    try:
        key = bytes.fromhex(raw.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise SluicegateError(Reason.CONFIG_INVALID, f"{said} no master key of {KEY_BYTES} bytes")
    return key


class AgreementSecrets(Secret):
    """What one agreement's releases are made with: keys of masks, and of the row order.

    Holds the agreement's derived key, never the master key. Fulfils `masking.MaskingSecrets`.
    """

    __slots__ = ("_agreement", "_lots", "_release")

    def __init__(
        self, key: bytes, agreement_digest: str, release: str | None = None, *, lots: bytes | None = None
    ) -> None:
        """`lots`: the key of what is drawn once for a recipient of a dataset, whatever the agreement; empty where
        there is none. By default the agreement's own: for a dry run, where there is no other agreement."""
        super().__init__(key)
        self._agreement, self._release = agreement_digest, release
        self._lots = key if lots is None else lots

    def of_release(self, release: str) -> AgreementSecrets:
        """The same, for making this one release."""
        return AgreementSecrets(self._key, self._agreement, release, lots=self._lots)

    def key(self, domain: str, period: str = "") -> str:
        """The key of a domain: 64 lower-case hexadecimal digits. A pseudonym's period goes into the
        hashed message, so `period` stays empty there; other uses may separate keys by it."""
        return self._derive([self._agreement, domain, period]).hex()

    def draw(self, field: str) -> str:
        """The key that a field's random numbers come from: of one release, so that no two share any.
        The info has four members, as no other here."""
        if self._release is None:
            raise ValueError("random numbers are drawn for a release: use of_release")
        return self._derive([self._agreement, "draw", self._release, field]).hex()

    def lot(self, *use: str) -> str:
        """The key that is drawn from once for a recipient of a dataset, so that two agreements of one consumer, or
        one after the other, draw the same: as `key`. The info has two members, of which the first is no digest."""
        if not self._lots:
            raise ValueError("lots are drawn under a key of recipient and dataset; none was given")
        return hkdf_expand(self._lots, canonical(["lot", canonical(list(use)).decode()]), KEY_BYTES).hex()

    @property
    def order_seed(self) -> bytes:
        """32 bytes that decide the order in which this agreement's rows leave. The info has two members,
        so that no domain that a contract names can meet it."""
        return self._derive([self._agreement, "order"])

    def _derive(self, info: list[str]) -> bytes:
        return hkdf_expand(self._key, canonical(info), KEY_BYTES)


class KeyRing(Secret):
    """Derives agreements' keys. `salts` gives an agreement's 32 salt bytes, and refuses erased ones."""

    __slots__ = ("_master", "_salts")

    def __init__(self, master: MasterKey, salts: Callable[[str], bytes]) -> None:
        super().__init__(b"")
        self._master = master
        self._salts = salts

    def secrets(self, agreement_digest: str, *, lots: str | None = None) -> AgreementSecrets:
        """The secrets of that agreement. `lots` names the salt of what is drawn once for its recipient; without it
        nothing can be. Raises what `salts` raises, CONFIG_INVALID for a short salt."""
        key = self._extracted(agreement_digest)
        return AgreementSecrets(key, agreement_digest, lots=b"" if lots is None else self._extracted(lots))

    def _extracted(self, name: str) -> bytes:
        salt = self._salts(name)
        if len(salt) < KEY_BYTES:
            raise SluicegateError(Reason.CONFIG_INVALID, f"the salt of an agreement has fewer than {KEY_BYTES} bytes")
        return self._master.extract(salt)

    def order_seed(self, agreement_digest: str) -> bytes:
        """The seed of that agreement's row order."""
        return self.secrets(agreement_digest).order_seed


def passing_secrets(entropy: Callable[[int], bytes]) -> AgreementSecrets:
    """Secrets for a dry run, where there is no agreement yet: made up, and forgotten with it."""
    return AgreementSecrets(hkdf_extract(entropy(KEY_BYTES), entropy(KEY_BYTES)), "dry-run", "dry-run")


def hkdf_extract(salt: bytes, material: bytes) -> bytes:
    """HKDF-Extract with SHA-256, RFC 5869 section 2.2."""
    return hmac.digest(salt or bytes(_HASH_BYTES), material, hashlib.sha256)


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256, RFC 5869 section 2.3. `length` at most 8160 bytes."""
    if not 0 < length <= 255 * _HASH_BYTES:
        raise ValueError("HKDF-SHA256 gives 1 to 8160 bytes")
    block, out = b"", b""
    for counter in range(1, -(-length // _HASH_BYTES) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), hashlib.sha256)
        out += block
    return out[:length]


def _check_folder(path: Path) -> None:
    try:
        folder = path.parent.stat()
    except OSError:
        raise SluicegateError(Reason.CONFIG_INVALID, f"the folder of {path} is not there or may not be read") from None
    if folder.st_mode & 0o077 or folder.st_uid not in (os.getuid(), 0):
        raise SluicegateError(
            Reason.CONFIG_UNSAFE,
            f"the folder of {path} is open to others; run chmod 700 on it: a master key lies there",
        )
