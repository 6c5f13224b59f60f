"""Pages of a listing, and the tokens that lead from one to the next.

A token names the last thing that was shown. It is sealed together with the listing's other arguments
and the caller, so it cannot be edited, carried over to another listing or used by somebody else; it
does not expire and survives a restart. The page size may change from page to page.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from contracts.canonical import canonical
from contracts.errors import Reason, SluicegateError, Violation
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.queries import Wanted
from exchange.records import Record
from exchange.store import Tx

DEFAULT_SIZE = 100
LARGEST_SIZE = 1000
_SECRET = "page-secret"  # noqa: S105 - the name of a fact, not a secret
_SEAL_BYTES = 16
_LONGEST = 2048

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class Page(Struct, Generic[T], frozen=True):
    """Some of a listing, and the token of the rest; `next_token` is empty on the last page."""

    items: tuple[T, ...]
    next_token: str = ""


def page(
    hall: Hall,
    tx: Tx,
    kind: type[R],
    principal: Principal,
    *,
    verb: str,
    arguments: Mapping[str, str] | None = None,
    page_size: int = 0,
    page_token: str = "",
    where: Wanted | None = None,
    either: Wanted | None = None,
) -> Page[R]:
    """One page of records, newest first (`Tx.page`). `verb` and `arguments` name the listing: a token
    only fits the same ones.

    Raises INVALID_ARGUMENT for a page size that is not 0 to 1000 (0 stands for 100), and
    PAGE_TOKEN_INVALID for a token that is not of this listing.
    """

    def fetch(after: str | None, limit: int) -> Sequence[R]:
        return tx.page(kind, where=where, either=either, after=after, limit=limit)

    return paged(
        hall,
        tx,
        principal,
        fetch,
        lambda record: record.name,
        verb=verb,
        arguments=arguments,
        page_size=page_size,
        page_token=page_token,
    )


def paged(
    hall: Hall,
    tx: Tx,
    principal: Principal,
    fetch: Callable[[str | None, int], Sequence[T]],
    cursor: Callable[[T], str],
    *,
    verb: str,
    arguments: Mapping[str, str] | None = None,
    page_size: int = 0,
    page_token: str = "",
) -> Page[T]:
    """One page of anything: `fetch(after, limit)` gives what follows a cursor, `cursor(item)` the
    cursor of an item. Errors as `page`."""
    size = checked_size(page_size)
    secret = _secret(hall, tx)
    listing = canonical([verb, principal.name, dict(arguments or {})])
    after = _unseal(secret, listing, page_token) if page_token else None
    found = list(fetch(after, size + 1))
    more = _seal(secret, listing, cursor(found[size - 1])) if len(found) > size else ""
    return Page(tuple(found[:size]), more)


def checked_size(page_size: int) -> int:
    """The page size to use. Raises INVALID_ARGUMENT when it is negative or above 1000."""
    if not 0 <= page_size <= LARGEST_SIZE:
        message = f"the page size must be 1 to {LARGEST_SIZE}, or 0 for {DEFAULT_SIZE}; it is {page_size}"
        raise SluicegateError(Reason.INVALID_ARGUMENT, message, (Violation("page_size", message),))
    return page_size or DEFAULT_SIZE


def _secret(hall: Hall, tx: Tx) -> bytes:
    secret = tx.fact(_SECRET)
    if secret is not None:
        return secret
    with hall.store.transaction() as writing:
        return writing.settle(_SECRET, hall.entropy(32))


def _mac(secret: bytes, listing: bytes, cursor: str) -> bytes:
    # Lengths keep the two parts apart.
    message = len(listing).to_bytes(8, "big") + listing + cursor.encode()
    return hmac.new(secret, message, hashlib.sha256).digest()[:_SEAL_BYTES]


def _seal(secret: bytes, listing: bytes, cursor: str) -> str:
    raw = _mac(secret, listing, cursor) + json.dumps(cursor).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unseal(secret: bytes, listing: bytes, token: str) -> str:
    try:
        if len(token) > _LONGEST:
            raise ValueError
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        cursor = json.loads(raw[_SEAL_BYTES:])
        if not isinstance(cursor, str) or not hmac.compare_digest(raw[:_SEAL_BYTES], _mac(secret, listing, cursor)):
            raise ValueError
    except (ValueError, RecursionError):
        raise SluicegateError(
            Reason.PAGE_TOKEN_INVALID,
            "the page token is not one of ours or belongs to other arguments: start again without one",
        ) from None
    return cursor
