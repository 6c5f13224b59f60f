"""Canonical bytes and digests: RFC 8785 JSON, SHA-256, written `sha256:<hex>`.

Everything that is signed or compared in Sluicegate goes through here, so that two honest parties
always hash the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import rfc8785

from contracts.errors import Reason, SluicegateError

# What may change without changing what was agreed.
NOT_TERMS = frozenset({"description", "tags", "support", "version", "status", "authoritativeDefinitions"})


_compact = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"), sort_keys=True).encode
_SAFE = 2**53 - 1


def canonical(value: object) -> bytes:
    """RFC 8785 bytes of a JSON value. Raises CONTRACT_INVALID for what JSON cannot carry exactly."""
    try:
        if _plain(value):
            return _compact(value).encode()
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise SluicegateError(
            Reason.CONTRACT_INVALID,
            "the value has no canonical JSON form (NaN, an integer beyond 2^53, or a lone surrogate)",
        ) from error


def _plain(value: object) -> bool:
    """Whether Python's own encoder, sorting keys, writes the value as RFC 8785 does: it has no fractions, and its
    keys are ASCII, whose order is the same in any encoding."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is dict:
        return all(type(key) is str and key.isascii() and _plain(item) for key, item in value.items())  # type: ignore[attr-defined]
    if kind is list or kind is tuple:
        return all(map(_plain, value))  # type: ignore[call-overload]
    return kind is int and -_SAFE <= value <= _SAFE  # type: ignore[operator]


def digest_bytes(raw: bytes) -> str:
    """`sha256:<hex>` of raw bytes."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def digest(value: object) -> str:
    """`sha256:<hex>` of the canonical form of a JSON value."""
    return digest_bytes(canonical(value))


def terms(document: object) -> Any:
    """The document without what is not part of the terms.

    `NOT_TERMS` are removed from every mapping of the document's own vocabulary. The value of a custom
    property is kept whole: its maps are keyed by the department's words, and a column may well be
    called `status` or `version`; removing that key would let its mask change under an approval.
    """
    if isinstance(document, Mapping):
        if "property" in document and "value" in document:
            return {key: value for key, value in document.items() if key not in NOT_TERMS}
        return {key: terms(value) for key, value in document.items() if key not in NOT_TERMS}
    if isinstance(document, list | tuple):
        return [terms(item) for item in document]
    return document


def terms_digest(document: object) -> str:
    """Digest of the document's terms: what approvals and agreements bind to."""
    return digest(terms(document))
