"""Pseudonyms that can be turned back: aes_siv and ff1, each distinct value enciphered once.

    turned_back(mask, text, secrets) -> str      what one pseudonym stands for

Keys are the agreement's, so that turning back ends with them. Their names have a slash, as no domain that a
contract can name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from connectors.masks.ff1 import DIGITS, Ff1Cipher
from connectors.masks.values import MaskingSecrets, key_bytes, text
from contracts import techniques as t
from contracts.errors import Reason, SluicegateError

_Texts = list[str | None]


def aes_siv(mask: t.AesSiv, column: pl.Expr, secrets: MaskingSecrets) -> pl.Expr:
    """The value sealed, in hexadecimal; an empty text has none."""
    key = _siv_key(mask, secrets)

    def sealed(values: Sequence[str]) -> _Texts:
        seal = AESSIV(key).encrypt
        return [seal(value.encode(), None).hex() if value else None for value in values]

    return _by_distinct(column, sealed)


def ff1(mask: t.Ff1, column: pl.Expr, secrets: MaskingSecrets) -> pl.Expr:
    """The value as another of its length; what the cipher does not take becomes `other`."""
    key = _ff1_key(mask, secrets)

    def enciphered(values: Sequence[str]) -> _Texts:
        cipher, known = Ff1Cipher(key, mask.radix), frozenset(DIGITS[: mask.radix])
        lengths: dict[int, list[int]] = {}
        for at, value in enumerate(values):
            if len(value) >= mask.shortest and cipher.takes(len(value)) and known.issuperset(value):
                lengths.setdefault(len(value), []).append(at)
        found: _Texts = [mask.other] * len(values)
        for places in lengths.values():
            for at, made in zip(places, cipher.encrypt([values[at] for at in places]), strict=True):
                found[at] = made
        return found

    return _by_distinct(column, enciphered)


def _by_distinct(column: pl.Expr, of: Callable[[Sequence[str]], _Texts]) -> pl.Expr:
    """A function of texts, called for every distinct one of a batch."""

    def mapped(values: pl.Series) -> pl.Series:
        distinct = values.drop_nulls().unique()
        if distinct.is_empty():
            return values
        made = pl.Series(of(distinct.to_list()), dtype=pl.String)
        return values.replace_strict(distinct, made, default=None, return_dtype=pl.String)

    return text(column).map_batches(mapped, return_dtype=pl.String, is_elementwise=True)


def turned_back(mask: t.AesSiv | t.Ff1, value: str, secrets: MaskingSecrets) -> str:
    """The text that a pseudonym stands for. Raises DATA_INVALID for what this agreement and domain did not make;
    ff1 cannot tell, and gives some value for every well-formed one."""
    refused = SluicegateError(Reason.DATA_INVALID, f"this is no {mask.id} value of this agreement and domain")
    try:
        if isinstance(mask, t.AesSiv):
            return AESSIV(_siv_key(mask, secrets)).decrypt(bytes.fromhex(value), None).decode()
        cipher = Ff1Cipher(_ff1_key(mask, secrets), mask.radix)
        if value == mask.other or len(value) < mask.shortest or not set(value) <= set(DIGITS[: mask.radix]):
            raise refused
        return cipher.decrypt([value])[0]
    except (InvalidTag, ValueError):
        raise refused from None


def _siv_key(mask: t.AesSiv, secrets: MaskingSecrets) -> bytes:
    """64 bytes: one half authenticates, the other encrypts."""
    return b"".join(key_bytes(secrets.key(f"aes_siv/{mask.domain}/{half}")) for half in ("mac", "enc"))


def _ff1_key(mask: t.Ff1, secrets: MaskingSecrets) -> bytes:
    return key_bytes(secrets.key(f"ff1/{mask.domain}/{mask.radix}"))
