"""What a YAML scalar means: the core schema of YAML 1.2.2 (section 10.3.2), within what JSON can carry."""

from __future__ import annotations

import re
from typing import Final

MAX_INTEGER: Final = 2**53 - 1
CORE: Final = "tag:yaml.org,2002:"

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")

Scalar = str | int | float | bool | None


class NotAllowed(ValueError):
    """A scalar that is refused: why, a code for machines, and what to do instead."""

    def __init__(self, message: str, code: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.code, self.hint = message, code, hint


def text(value: str) -> str:
    """A quoted scalar. Raises NotAllowed for half of a surrogate pair."""
    if _SURROGATE.search(value):
        raise NotAllowed("half of a surrogate pair is not a character", "SURROGATE", "write the character itself")
    return value


def plain(value: str) -> Scalar:
    """A scalar without quotes or tag.

    Raises NotAllowed for NaN, infinities and what JSON numbers cannot hold exactly.

    >>> plain("no"), plain("0o17"), plain("2024-01-31"), plain("1e3"), plain("~")
    ('no', 15, '2024-01-31', 1000.0, None)
    """
    if _NULL.fullmatch(value):
        return None
    if _TRUE.fullmatch(value):
        return True
    if _FALSE.fullmatch(value):
        return False
    for pattern, base in ((_INTEGER, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
        if pattern.fullmatch(value):
            return _integer(value, base)
    if _NOT_FINITE.fullmatch(value):
        hint = "leave the value out, or quote it if it is text"
        raise NotAllowed("NaN and infinities are not allowed", "NOT_FINITE", hint)
    return _float(value) if _FLOAT.fullmatch(value) else text(value)


def tagged(tag: str, value: str) -> Scalar:
    """A scalar with an explicit tag. Raises NotAllowed for tags beyond JSON's values, and when the
    text is not of its tag."""
    kind = tag.removeprefix(CORE)
    expected = {"null": type(None), "bool": bool, "int": int, "float": float, "str": str}.get(kind)
    if kind == tag or expected is None:
        raise unknown_tag(tag)
    if expected is str:
        return text(value)
    found = plain(value)
    if expected is float and type(found) is int:
        return float(found)
    if type(found) is not expected:
        raise NotAllowed(f"the text is not of its tag {show_tag(tag)}", "TAG", "remove the tag or mend the value")
    return found


def unknown_tag(tag: str) -> NotAllowed:
    """The refusal of a tag that stands for more than a JSON value."""
    return NotAllowed(f"the tag {show_tag(tag)} is not allowed", "TAG", "remove it; only values of JSON are read")


def show_tag(tag: str) -> str:
    """A tag as it is written in a document."""
    return repr(("!!" + tag.removeprefix(CORE) if tag.startswith(CORE) else tag)[:40])


def _integer(value: str, base: int) -> int:
    digits = value.lstrip("+-").removeprefix("0o").removeprefix("0x").lstrip("0")
    # Counted first: converting a million digits would take minutes.
    number = int(digits or "0", base) if len(digits) <= 20 else MAX_INTEGER + 1
    if number > MAX_INTEGER:
        raise NotAllowed("an integer beyond 2^53 - 1 loses digits in JSON", "INTEGER_RANGE", "put it in quotes")
    return -number if value.startswith("-") else number


def _float(value: str) -> float:
    number = float(value)
    if number in (float("inf"), float("-inf")):
        raise NotAllowed("a number beyond what a double can hold", "NUMBER_RANGE", "put it in quotes")
    return number
