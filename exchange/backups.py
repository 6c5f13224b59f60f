"""Backup and restore of a home, as one encrypted file.

    magic, header (JSON line: scrypt parameters and salt), then chunks: length, AES-256-GCM ciphertext

Inside is a tar of the home: databases copied by SQLite's online backup (so a running exchange may be
backed up), keys, certificates, configuration. Left out are spools and logs, and what the configuration
keeps outside the home (`Made.outside` names it). Each chunk is bound to its number and to whether it is
the last, so a cut or reordered file does not open. Key derivation: scrypt, RFC 7914.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from contracts.errors import Reason, SluicegateError
from exchange import ledger
from exchange.config import ExchangeSettings, GatewaySettings, Profile, load
from exchange.founding import new_home
from exchange.home import Home
from exchange.keyfiles import check_private
from exchange.store import Store

MAGIC = b"sluicegate-backup-1\n"
CHUNK = 1024 * 1024
SCRYPT = {"n": 2**17, "r": 8, "p": 1}
# A header may ask for as much memory as ours does (128 MiB), not for more: it is read before anything is known.
MOST_MEMORY = 128 * SCRYPT["n"] * SCRYPT["r"]
SHORTEST = 12


@dataclass(frozen=True)
class Made:
    """What was written or restored: number of files, bytes of the backup, and what the configuration
    names outside the home, which is not in it."""

    files: int
    size: int
    outside: tuple[str, ...] = ()


def passphrase(path: Path) -> bytes:
    """The passphrase in a private file. Raises CONFIG_UNSAFE when others could read it or it is short."""
    check_private(path, folder_shared=True)
    secret = path.read_bytes()[:4096].strip()
    if len(secret) < SHORTEST:
        raise SluicegateError(Reason.CONFIG_UNSAFE, f"a backup's passphrase has at least {SHORTEST} characters")
    return secret


def backup(home: Home, out: Path, secret: bytes, *, tell: Callable[[str], None] = lambda _: None) -> Made:
    """Write the backup whole or not at all; `tell` hears of each file of it.

    Raises ALREADY_EXISTS rather than overwrite, SINK_FAILED.
    """
    outside = _outside(home)
    if out.absolute().is_relative_to(home.root):
        raise SluicegateError(Reason.SINK_FAILED, f"a backup of {home.root} lies somewhere else: choose another place")
    if out.exists():
        raise SluicegateError(Reason.ALREADY_EXISTS, f"{out} exists; a backup is never overwritten")
    fresh = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        # Copies of databases are in plain text for a moment: in the home, where they are anyway.
        with os.fdopen(handle, "wb") as raw, tempfile.TemporaryDirectory(dir=home.root, prefix=".backup-") as scratch:
            writer = _Encrypted(raw, secret)
            with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
                files = _fill(tar, home.root, Path(scratch), tell)
            writer.finish()
            raw.flush()
            os.fsync(raw.fileno())
        fresh.replace(out)
    except OSError as error:
        raise SluicegateError(Reason.SINK_FAILED, f"the backup could not be written: {error.strerror}") from None
    except sqlite3.Error as error:
        raise SluicegateError(Reason.SOURCE_UNAVAILABLE, f"a database of {home.root} cannot be read: {error}") from None
    finally:
        fresh.unlink(missing_ok=True)
    return Made(files, out.stat().st_size, outside)


def restore(source: Path, home: Home, secret: bytes) -> Made:
    """Restore into an empty home, whole or not at all; the ledger then says that it was restored.

    Raises ALREADY_EXISTS for a home that is not empty, CONFIG_INVALID for a backup that does not open.
    """
    with new_home(home) as staged:
        _unpack(source, staged, secret)
        for folder in (path for path in staged.rglob("*") if path.is_dir()):
            folder.chmod(0o700)
        outside = _outside(Home(staged))
        _say_so(Home(staged))
        files = sum(1 for path in staged.rglob("*") if path.is_file())
    return Made(files, source.stat().st_size, outside)


def _unpack(source: Path, folder: Path, secret: bytes) -> None:
    try:
        raw = source.open("rb")
    except OSError as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"cannot read {source}: {error.strerror}") from None
    with raw:
        plain = io.BufferedReader(_Plain(_chunks(raw, secret)), CHUNK)
        try:
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                for member in tar:
                    _extract(tar, member, folder)
            while plain.read(CHUNK):  # to the last chunk, which says that nothing was cut off
                pass
        except tarfile.TarError:
            raise _unreadable() from None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member: a file or a folder within, as `backup` makes them, and nothing else. (The library's own
    filter for that is not in every Python 3.11.) Raises CONFIG_INVALID."""
    name = PurePosixPath(member.name)
    if not (member.isreg() or member.isdir()) or name.is_absolute() or ".." in name.parts or "\0" in member.name:
        raise SluicegateError(
            Reason.CONFIG_INVALID, "the backup holds a path that leads out of the home; nothing was restored"
        )
    path = folder / name
    (path if member.isdir() else path.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
    if member.isdir():
        return
    mode = member.mode & 0o755 | 0o600
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise _unreadable() from None
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, mode)
        content = tar.extractfile(member)
        if content is not None:
            shutil.copyfileobj(content, file, CHUNK)
    os.utime(path, (member.mtime, member.mtime))


def _outside(home: Home) -> tuple[str, ...]:
    """What the configuration of a home names outside it. Raises CONFIG_INVALID when it is none."""
    if not home.exchange.is_file():
        raise SluicegateError(Reason.CONFIG_INVALID, f"{home.root} is not a home; run sluicegate init, or name another")
    files: list[tuple[Path, Any]] = [(home.exchange, ExchangeSettings)]
    files += [(path, GatewaySettings) for path in home.gateways()]
    files += [(home.profile_file(name), Profile) for name in home.profiles()]
    found: set[str] = set()
    for path, kind in files:
        settings = load(path, kind)
        values = [getattr(settings, name) for name in settings.__struct_fields__ if name not in ("spool", "datasets")]
        found |= {str(value) for value in values if isinstance(value, Path) and not value.is_relative_to(home.root)}
        if isinstance(settings, ExchangeSettings) and not _within(settings.database, home):
            found.add("the exchange's database")
    return tuple(sorted(found))


def _within(database: str, home: Home) -> bool:
    return database.startswith(f"sqlite:///{home.root}/")


def _say_so(home: Home) -> None:
    """Write into the ledger that it was restored, if it was."""
    settings = load(home.exchange, ExchangeSettings)
    if not _within(settings.database, home):
        return
    store = Store(settings.database)
    try:
        store.migrate()
        with store.transaction() as tx:
            ledger.restored(tx, entropy=os.urandom, now=int(time.time()))
    finally:
        store.close()


def _fill(tar: tarfile.TarFile, root: Path, scratch: Path, tell: Callable[[str], None]) -> int:
    count = 0
    # Gateways before the exchange: a gateway that had seen a later ledger than the exchange comes back
    # with would refuse it.
    for path in sorted(root.rglob("*"), key=lambda each: (root / "exchange" in (each, *each.parents), each)):
        name = path.relative_to(root)
        if _left_out(name) or path.is_symlink():
            continue
        tell(f"backing up {name}")
        if path.suffix == ".db" and path.is_file():
            copy = _copied(path, scratch / "copy.db")
            tar.add(copy, arcname=str(name))
            copy.unlink()
        else:
            try:
                tar.add(path, arcname=str(name), recursive=False)
            except FileNotFoundError:
                continue  # a passing file of a running process
        count += path.is_file()
    return count


def _left_out(name: Path) -> bool:
    """Logs, spools, files of a database that its copy contains, and what is only being written."""
    top, passing = name.parts[0], name.name.startswith(".") and name.name.endswith(".new")
    spool = top == "gateways" and name.parts[2:3] == ("spool",)
    return top == "logs" or spool or top.startswith(".") or passing or name.name.endswith((".db-wal", ".db-shm"))


def _copied(path: Path, copy: Path) -> Path:
    """A consistent copy of a SQLite database, whoever writes to it meanwhile."""
    live = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    target = sqlite3.connect(copy)
    try:
        live.backup(target)
    finally:
        target.close()
        live.close()
    copy.chmod(path.stat().st_mode & 0o777)
    return copy


def _cipher(secret: bytes, salt: bytes, parameters: dict[str, int]) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, **parameters).derive(secret))


def _bind(number: int, last: bool) -> tuple[bytes, bytes]:
    return number.to_bytes(12, "big"), b"last" if last else b"more"


def _header(parameters: dict[str, int], salt: bytes) -> bytes:
    """The one way to write this header."""
    return json.dumps({**parameters, "salt": salt.hex()}).encode() + b"\n"


class _Encrypted:
    """A write-only file object that encrypts in chunks."""

    def __init__(self, raw: IO[bytes], secret: bytes) -> None:
        salt = os.urandom(16)
        self._raw, self._cipher = raw, _cipher(secret, salt, SCRYPT)
        self._pending, self._number = bytearray(), 0
        raw.write(MAGIC + _header(SCRYPT, salt))

    def write(self, data: bytes) -> int:
        self._pending += data
        while len(self._pending) > CHUNK:
            self._put(bytes(self._pending[:CHUNK]), last=False)
            del self._pending[:CHUNK]
        return len(data)

    def finish(self) -> None:
        self._put(bytes(self._pending), last=True)

    def _put(self, chunk: bytes, *, last: bool) -> None:
        nonce, bound = _bind(self._number, last)
        sealed = self._cipher.encrypt(nonce, chunk, bound)
        self._raw.write(len(sealed).to_bytes(4, "big") + sealed)
        self._number += 1


def _chunks(raw: BinaryIO, secret: bytes) -> Iterator[bytes]:
    if raw.read(len(MAGIC)) != MAGIC:
        raise SluicegateError(Reason.CONFIG_INVALID, "that is not a backup of this product")
    try:
        header = json.loads(line := raw.readline(4096))
        parameters, salt = {name: int(header[name]) for name in SCRYPT}, bytes.fromhex(header["salt"])
        if min(parameters.values()) < 1 or 128 * parameters["n"] * parameters["r"] > MOST_MEMORY or parameters["p"] > 4:
            raise ValueError
        if line != _header(parameters, salt):  # said otherwise, it is not what was written
            raise ValueError
        cipher = _cipher(secret, salt, parameters)
    except (ValueError, KeyError, TypeError):
        raise _unreadable() from None
    number, size = 0, raw.read(4)
    while True:
        length = int.from_bytes(size, "big")
        sealed = raw.read(length) if 16 <= length <= CHUNK + 16 else b""
        size = raw.read(4)
        nonce, bound = _bind(number, last=not size)
        try:
            chunk = cipher.decrypt(nonce, sealed, bound)
        except (InvalidTag, ValueError):
            raise _unreadable() from None
        yield chunk
        if not size:
            return
        number += 1


class _Plain(io.RawIOBase):
    """A read-only file object over decrypted chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._left:
            try:
                self._left = next(self._chunks)
            except StopIteration:
                return 0
            if not self._left:
                return 0
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def _unreadable() -> SluicegateError:
    return SluicegateError(
        Reason.CONFIG_INVALID,
        "the backup does not open: wrong passphrase, or the file is damaged; nothing was restored",
    )
