"""Files that nobody else may read: keys, tokens, certificates' keys, and papers that are written for one person.

What is read must be 0600: a server's in a folder that nobody else can enter, a person's in one that nobody else can
write to; anything looser is refused (CONFIG_UNSAFE). What is written is so from its first moment.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from contracts.envelope import SigningKey
from contracts.errors import Reason, SluicegateError

MAX_FILE = 1024 * 1024  # bytes read of a key's file


def check_private(path: Path, *, folder_shared: bool = False) -> None:
    """Refuse a secret that others could read: 0600 or tighter, in a folder of 0700 or tighter. With
    `folder_shared`, for what is no key, the folder may be one that others can enter but not write to: they can
    neither read nor replace it there."""
    try:
        mode, folder = path.stat().st_mode, path.parent.stat().st_mode
    except OSError as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"cannot read {path}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise SluicegateError(Reason.CONFIG_UNSAFE, f"{path} is not a regular file")
    if mode & 0o077:
        raise SluicegateError(Reason.CONFIG_UNSAFE, f"{path} can be read by others; run chmod 600 on it")
    _check_folder(path.parent, folder, shared=folder_shared)


def _check_folder(folder: Path, mode: int, *, shared: bool = False) -> None:
    if shared and mode & 0o022:
        told = f"others can write to the folder {folder}; run chmod go-w on it, or choose another"
        raise SluicegateError(Reason.CONFIG_UNSAFE, told)
    if not shared and mode & 0o077:
        told = f"the folder {folder} is open to others; run chmod 700 on it, or keep keys in a new one of their own"
        raise SluicegateError(Reason.CONFIG_UNSAFE, told)


def write_private(path: Path, raw: bytes) -> None:
    """Write a secret: a new file 0600, synced, in a folder 0700 that is made if need be.

    Never overwrites (ALREADY_EXISTS). A folder that is there stays as it is, so one that would be refused
    when the secret is read (`check_private`) is refused now (CONFIG_UNSAFE).
    """
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, mode=0o700)
        _check_folder(path.parent, path.parent.stat().st_mode)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise SluicegateError(Reason.ALREADY_EXISTS, f"{path} exists; a key is never overwritten") from None
    except OSError as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"cannot write {path}: {error.strerror}") from None
    with os.fdopen(handle, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def write_key(path: Path, key: SigningKey) -> None:
    """Write a private key file (JWK)."""
    write_private(path, json.dumps(key.unsafe_private_jwk(), indent=1).encode() + b"\n")


def read_key(path: Path) -> SigningKey:
    """Read a private key file. Raises CONFIG_UNSAFE when it lies open, CONFIG_INVALID when it is none."""
    check_private(path)
    try:
        return SigningKey.from_jwk(json.loads(path.read_bytes()[:MAX_FILE]))
    except (ValueError, AttributeError, TypeError, RecursionError, SluicegateError):
        raise SluicegateError(Reason.CONFIG_INVALID, f"{path} does not hold an Ed25519 private key (JWK)") from None


def read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """A certificate and its private key, both PEM; whether they belong together is not looked at. Raises
    CONFIG_UNSAFE for a key that others can read, CONFIG_INVALID for what cannot be read."""
    check_private(key)
    try:
        return certificate.read_bytes(), key.read_bytes()
    except OSError as error:
        raise SluicegateError(
            Reason.CONFIG_INVALID, f"cannot read {error.filename}, a certificate or its key: {error.strerror}"
        ) from None


def demand_vacant(*paths: Path, overwrite: bool) -> None:
    """Refuse to replace a file without being told to: asked before anything is done. Raises SINK_FAILED."""
    for path in paths:
        if not overwrite and (path.exists() or path.is_symlink()):
            raise SluicegateError(
                Reason.SINK_FAILED, f"{path} exists; move it away, or replace it with --overwrite (`overwrite`)"
            )


def write_private_file(path: Path, raw: bytes) -> None:
    """Write or replace a file that only its owner may read, whole or not at all; its folder stays as it is."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)  # a link that was planted in its place is replaced, not followed
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise SluicegateError(Reason.SINK_FAILED, f"cannot write {path}: {error.strerror}") from None
