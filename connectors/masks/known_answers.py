"""Published test vectors of everything that masks compute with a key, checked before a gateway serves.

    self_test()        raises CONFIG_UNSAFE on any difference

A library that computes something else would give pseudonyms that join nothing, are no secret, or cannot be
turned back.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, cast

import polars as pl
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from connectors.keys import hkdf_expand, hkdf_extract
from connectors.masks.ff1 import Ff1Cipher
from connectors.masks.values import DIGITS
from contracts.errors import Reason, SluicegateError

# RFC 4231, all cases: key, data, HMAC-SHA-256 (case 5 is truncated to 128 bits, as pseudonyms are).
RFC_4231: tuple[tuple[bytes, bytes, str], ...] = (
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. "
        b"The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
)

# RFC 5869, case 1: material, salt, info, what comes out.
RFC_5869 = (
    b"\x0b" * 22,
    bytes(range(13)),
    bytes(range(0xF0, 0xFA)),
    "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
)

# RFC 5297, appendix A: key, associated data, plaintext, output.
RFC_5297: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    (
        "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        ("101112131415161718191a1b1c1d1e1f2021222324252627",),
        "112233445566778899aabbccddee",
        "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c",
    ),
    (
        "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
        (
            "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
            "102030405060708090a0",
            "09f911029d74e35bd84156c5635688c0",
        ),
        "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553",
        "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17"
        "dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d",
    ),
)

# NIST's samples of FF1, 1 to 9: bytes of the key, radix, tweak, plaintext, ciphertext.
FF1_KEY = "2b7e151628aed2a6abf7158809cf4f3cef4359d8d580aa4f7f036d6f04fc6a94"
_TWEAK, _TWEAK_36, _TEXT_36 = "39383736353433323130", "3737373770717273373737", "0123456789abcdefghi"
FF1: tuple[tuple[int, int, str, str, str], ...] = (
    (16, 10, "", "0123456789", "2433477484"),
    (16, 10, _TWEAK, "0123456789", "6124200773"),
    (16, 36, _TWEAK_36, _TEXT_36, "a9tv40mll9kdu509eum"),
    (24, 10, "", "0123456789", "2830668132"),
    (24, 10, _TWEAK, "0123456789", "2496655549"),
    (24, 36, _TWEAK_36, _TEXT_36, "xbj3kv35jrawxv32ysr"),
    (32, 10, "", "0123456789", "6657667009"),
    (32, 10, _TWEAK, "0123456789", "1001623463"),
    (32, 36, _TWEAK_36, _TEXT_36, "xs8a0azh2avyalyzuwd"),
)


def self_test() -> None:
    """Check every keyed function against published vectors, and the engine's hash against the standard
    library besides.

    A gateway runs this before it serves anything. Raises CONFIG_UNSAFE on any difference.
    """
    for holds, what in (
        (_engine_hmac, "polars-hash does not compute HMAC-SHA-256 (RFC 4231)"),
        (_library_hmac, "Python's hmac does not compute HMAC-SHA-256 (RFC 4231)"),
        (_hkdf, "keys are not derived by HKDF-SHA-256 (RFC 5869)"),
        (_siv, "cryptography does not compute AES-SIV (RFC 5297)"),
        (_ff1, "FF1 does not give NIST's samples (SP 800-38G)"),
    ):
        if not holds():
            raise SluicegateError(Reason.CONFIG_UNSAFE, f"{what}, so nothing is served: reinstall it")


def _engine_hmac() -> bool:
    """The cases whose keys are text, which is all that the engine takes, and one of our own kind."""
    cases = [(key.decode(), data, expected) for key, data, expected in RFC_4231 if key.isascii()]
    key = hashlib.sha256(b"sluicegate self test").hexdigest()
    data = "身份证 é\x1fweek:2026-01-05".encode()
    cases.append((key, data, hmac.new(key.encode(), data, hashlib.sha256).hexdigest()))
    return len(cases) == 5 and all(_same(_hashed(data, key), expected) for key, data, expected in cases)


def _hashed(data: bytes, key: str) -> object:
    frame = pl.DataFrame({"data": [data]})
    return frame.select(cast(Any, pl.col("data")).chash.hmac_sha256(key=key)).item()


def _same(found: object, expected: str) -> bool:
    """Equal, as far as a vector goes, and a vector goes as far as a pseudonym."""
    whole = isinstance(found, str) and len(found) == 64 and len(expected) >= DIGITS
    return whole and hmac.compare_digest(str(found)[: len(expected)], expected)


def _library_hmac() -> bool:
    return all(_same(hmac.digest(key, data, "sha256").hex(), expected) for key, data, expected in RFC_4231)


def _hkdf() -> bool:
    material, salt, info, expected = RFC_5869
    return hkdf_expand(hkdf_extract(salt, material), info, len(expected) // 2).hex() == expected


def _siv() -> bool:
    for key, associated, plain, sealed in RFC_5297:
        cipher, beside = AESSIV(bytes.fromhex(key)), [bytes.fromhex(part) for part in associated]
        if cipher.encrypt(bytes.fromhex(plain), beside).hex() != sealed:
            return False
    return True


def _ff1() -> bool:
    for size, radix, tweak, plain, enciphered in FF1:
        cipher = Ff1Cipher(bytes.fromhex(FF1_KEY)[:size], radix)
        if cipher.encrypt([plain], bytes.fromhex(tweak)) != [enciphered]:
            return False
    return True
