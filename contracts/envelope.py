"""Signed values: a JSON payload with detached JWS signatures (EdDSA, RFC 7797 `b64: false`).

    {"payload": {...}, "signatures": ["<header>..<signature>", ...]}

Signed are the RFC 8785 bytes of the payload. Every signature names its `Kind` in `typ` and its key
in `kid` (RFC 7638 thumbprint). A verifier says which kind it expects and which keys it accepts;
anything else is refused: another kind, algorithm or header, an unknown key, a signature too many.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from contracts.canonical import canonical, digest
from contracts.errors import Reason, SluicegateError

MAX_BYTES = 2 * 1024 * 1024
MAX_SIGNATURES = 8
_JWS = jwt.PyJWS()  # making one costs more than a signature


class Kind(StrEnum):
    """What a signature is about; the JWS `typ` is `sluicegate-<kind>+jws`."""

    CONTRACT = "contract"
    REQUEST = "request"
    APPROVAL = "approval"
    AGREEMENT = "agreement"
    GRANT = "grant"
    PROOF = "proof"
    INTENT = "intent"
    RECEIPT = "receipt"
    ACKNOWLEDGEMENT = "acknowledgement"
    CHECKPOINT = "checkpoint"
    KEY = "key"
    REVOCATION = "revocation"
    DESTRUCTION = "destruction"
    REVEAL = "reveal"
    REVEALED = "revealed"

    @property
    def typ(self) -> str:
        """The `typ` header of this kind."""
        return f"sluicegate-{self.value}+jws"


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _decoded(text: str) -> bytes:
    """The bytes of canonical base64url; nothing for any other spelling of them (padding, foreign
    characters, stray bits at the end)."""
    try:
        raw = _unb64(text)
    except ValueError:
        return b""
    return raw if _b64(raw) == text else b""


@lru_cache(1024)
def _thumbprint(x: str) -> str:
    return _b64(hashlib.sha256(canonical({"crv": "Ed25519", "kty": "OKP", "x": x})).digest())


class PublicKey(Struct, frozen=True, forbid_unknown_fields=True):
    """An Ed25519 public key as JWK (RFC 8037)."""

    x: str
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"

    def __post_init__(self) -> None:
        # One key, one spelling: otherwise one key would have several thumbprints and could pass for
        # two signers.
        if len(_decoded(self.x)) != 32:
            raise SluicegateError(
                Reason.KEY_UNTRUSTED, "the key is not an Ed25519 public key: x is 32 bytes, base64url"
            )

    @property
    def kid(self) -> str:
        """RFC 7638 thumbprint, base64url without padding."""
        return _thumbprint(self.x)

    def _ed25519(self) -> Ed25519PublicKey:
        try:
            return Ed25519PublicKey.from_public_bytes(_unb64(self.x))
        except ValueError as error:
            raise SluicegateError(Reason.KEY_UNTRUSTED, "the key is not an Ed25519 public key") from error


class SigningKey:
    """An Ed25519 private key. Its repr, str and pickling never show the key."""

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey(x=_b64(private.public_key().public_bytes_raw()))

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """The key of a 32-byte seed; randomness is the caller's."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> SigningKey:
        """From a private JWK. Raises KEY_UNTRUSTED when it is not one, without showing it."""
        try:
            if jwk["kty"] != "OKP" or jwk["crv"] != "Ed25519":
                raise ValueError
            return cls.from_seed(_unb64(jwk["d"]))
        except (KeyError, TypeError, ValueError):
            raise SluicegateError(Reason.KEY_UNTRUSTED, "not a private Ed25519 JWK (kty OKP, crv Ed25519, d)") from None

    def unsafe_private_jwk(self) -> dict[str, str]:
        """The private key itself, for writing a key file; nowhere else."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": self.public.x,
            "d": _b64(self._private.private_bytes_raw()),
            "kid": self.public.kid,
        }

    @property
    def kid(self) -> str:
        """Thumbprint of the public half."""
        return self.public.kid

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a signing key is not copied or pickled")

    def token(self, claims: Mapping[str, Any]) -> str:
        """A bearer token (compact JWT, RFC 7519) with these claims. Its `typ` is JWT, so it can never
        pass for the signature of a document."""
        return jwt.encode(dict(claims), self._private, algorithm="EdDSA", headers={"kid": self.kid})

    def _sign(self, kind: Kind, payload: bytes) -> str:
        headers = {"typ": kind.typ, "kid": self.kid, "b64": False}
        return _JWS.encode(payload, self._private, algorithm="EdDSA", headers=headers, is_payload_detached=True)


class Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """A payload and the signatures under it. Holding one proves nothing: call `verify`."""

    payload: dict[str, Any]
    signatures: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Digest of the payload: how other documents refer to this one. Signatures can be added
        later and do not change it."""
        return digest(self.payload)

    def to_bytes(self) -> bytes:
        """Canonical bytes, for files and the wire."""
        return canonical({"payload": self.payload, "signatures": list(self.signatures)})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Envelope:
        """Parse untrusted bytes. Raises SIGNATURE_INVALID or TOO_LARGE; verifies nothing yet."""
        if len(raw) > MAX_BYTES:
            raise SluicegateError(
                Reason.TOO_LARGE, f"a signed document has at most {MAX_BYTES} bytes; this one has {len(raw)}"
            )
        try:
            value = json.loads(raw, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
            return msgspec.convert(value, cls, strict=True)
        except (ValueError, RecursionError, msgspec.ValidationError):
            raise SluicegateError(
                Reason.SIGNATURE_INVALID, "not a signed document: expected JSON {payload: object, signatures: [string]}"
            ) from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _no_constants(_: str) -> None:
    raise ValueError("NaN and infinities are not JSON")


class Verified(Struct, frozen=True):
    """What `verify` gives back: the payload, and the ids of the keys that really signed it."""

    payload: dict[str, Any]
    signers: frozenset[str]


def sign(kind: Kind, payload: Mapping[str, Any] | Struct, *keys: SigningKey) -> Envelope:
    """Sign a payload with each key. A Struct is taken by its JSON form; the envelope holds what
    whoever reads the bytes will hold."""
    raw = canonical(msgspec.to_builtins(payload))
    value: dict[str, Any] = json.loads(raw)
    return Envelope(value, tuple(key._sign(kind, raw) for key in keys))


def countersign(kind: Kind, envelope: Envelope, key: SigningKey) -> Envelope:
    """The same payload with one more signature."""
    return Envelope(envelope.payload, (*envelope.signatures, key._sign(kind, canonical(envelope.payload))))


def verify(kind: Kind, envelope: Envelope, keys: Iterable[PublicKey]) -> Verified:
    """Check every signature of the envelope against the accepted keys.

    1. There is at least one signature, and none twice by the same key.
    2. Each header is exactly {alg: EdDSA, b64: false, crit: [b64], kid, typ of `kind`}.
    3. Each `kid` is one of `keys` and its signature verifies over the canonical payload.

    Raises SIGNATURE_INVALID or KEY_UNTRUSTED. One bad signature fails the whole envelope.
    """
    accepted = {key.kid: key for key in keys}
    count = len(envelope.signatures)
    if not 1 <= count <= MAX_SIGNATURES:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"a {kind} needs 1 to {MAX_SIGNATURES} signatures; this one has {count}"
        )
    raw = _signed_bytes(kind, envelope)
    signers: set[str] = set()
    for token in envelope.signatures:
        header = _header(kind, token)
        key = accepted.get(header["kid"])
        if key is None:
            raise SluicegateError(
                Reason.KEY_UNTRUSTED,
                f"the {kind} is signed by a key that is not accepted here",
                metadata={"kid": header["kid"][:64]},
            )
        if key.kid in signers:
            raise SluicegateError(
                Reason.SIGNATURE_INVALID, f"the {kind} is signed twice by the same key", metadata={"kid": key.kid}
            )
        try:
            _JWS.decode_complete(token, key._ed25519(), algorithms=["EdDSA"], detached_payload=raw)
        except jwt.InvalidTokenError:
            raise SluicegateError(
                Reason.SIGNATURE_INVALID,
                f"a signature of the {kind} does not verify: payload or signature was changed",
                metadata={"kid": key.kid},
            ) from None
        signers.add(key.kid)
    return Verified(envelope.payload, frozenset(signers))


def claimed_kid(token: str) -> str | None:
    """The key id that a signature claims, unverified; None when it is not a JWS. Only for choosing
    which signatures to verify."""
    try:
        header = json.loads(_decoded(token.partition(".")[0]), object_pairs_hook=_no_duplicates)
        kid = header["kid"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return kid if isinstance(kid, str) else None


def _signed_bytes(kind: Kind, envelope: Envelope) -> bytes:
    try:
        return canonical(envelope.payload)
    except SluicegateError as error:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"the {kind} cannot have been signed: {error.message}"
        ) from None


def _header(kind: Kind, token: str) -> dict[str, str]:
    try:
        if len(token) > 4096 or token.count(".") != 2 or ".." not in token:
            raise ValueError
        head, _, signature = token.partition("..")
        # Canonical base64url only: stray bits would let a changed file pass for the signed one.
        if len(_decoded(signature)) != 64:
            raise ValueError
        header = json.loads(_decoded(head), object_pairs_hook=_no_duplicates)
    except (ValueError, UnicodeDecodeError, RecursionError):
        raise SluicegateError(Reason.SIGNATURE_INVALID, f"a signature of the {kind} is not a detached JWS") from None
    allowed = {"alg": "EdDSA", "typ": kind.typ, "b64": False, "crit": ["b64"]}
    if (
        not isinstance(header, dict)
        or not isinstance(header.get("kid"), str)
        or {k: v for k, v in header.items() if k != "kid"} != allowed
        or header["b64"] is not False  # 0 equals False
    ):
        found = header.get("typ") if isinstance(header, dict) else None
        raise SluicegateError(
            Reason.SIGNATURE_INVALID,
            f"a signature's header must be EdDSA, detached, of kind {kind.typ}; found {str(found)[:64]!r}",
        )
    return header
