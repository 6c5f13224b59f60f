"""An answer that only who asked for it can read: sealed to an X25519 key, bound to the order.

    seal(text, to=public, order=digest, entropy=os.urandom) -> bytes      at the gateway
    unseal(sealed, private, order=digest) -> bytes                        with who asked

An ephemeral X25519 key of the gateway, HKDF-SHA256 of the shared secret over both public keys and the order's
digest, ChaCha20-Poly1305 with a nonce of zeros: each key seals one answer.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from contracts.errors import Reason, SluicegateError

_NONCE = bytes(12)
KEY_BYTES = 32


def seal(text: bytes, *, to: bytes, order: str, entropy: Callable[[int], bytes]) -> bytes:
    """The gateway's own public key, and the text that only the other half of `to` opens. Raises
    INVALID_ARGUMENT for a key that shares no secret."""
    own = X25519PrivateKey.from_private_bytes(entropy(KEY_BYTES))
    public = own.public_key().public_bytes_raw()
    return public + ChaCha20Poly1305(_key(own, to, public, to, order)).encrypt(_NONCE, text, None)


def unseal(sealed: bytes, private: X25519PrivateKey, *, order: str) -> bytes:
    """The text. Raises DATA_INVALID for what was not sealed to this key for this order."""
    public, to = sealed[:KEY_BYTES], private.public_key().public_bytes_raw()
    try:
        return ChaCha20Poly1305(_key(private, public, public, to, order)).decrypt(_NONCE, sealed[KEY_BYTES:], None)
    except (InvalidTag, ValueError, SluicegateError):
        raise SluicegateError(Reason.DATA_INVALID, "the answer was not sealed to this order's key") from None


def _key(own: X25519PrivateKey, other: bytes, sender: bytes, receiver: bytes, order: str) -> bytes:
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise SluicegateError(Reason.INVALID_ARGUMENT, "the key for the answer is of no use") from None
    info = b"sluicegate reveal 1" + sender + receiver + order.encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(shared)
