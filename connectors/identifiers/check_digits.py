"""Check digits, computed on whole columns: each function is a boolean expression over one of tokens.

Tokens are ASCII, of the shape that the function names; on others the answer means nothing.
"""

from __future__ import annotations

import polars as pl

_WORD = pl.UInt64()
_CREDIT = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # GB 32100: no I, O, S, V, Z
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FIRST_BIRTH, _LAST_BIRTH = 1900, 2049  # no clock here; who is born later is not in any table yet


def citizen_id(token: pl.Expr) -> pl.Expr:
    """Of 17 digits and a digit or X: check character (GB 11643, ISO 7064 mod 11-2) and birth date hold.

    Example of the standard: 11010519491231002X.
    """
    number = token.str.head(17).cast(_WORD, strict=False)
    total = _sum((_digit(number, 17 - at) * (2 ** (18 - at) % 11)) for at in range(1, 18))
    expected = pl.lit(pl.Series(list("10X98765432"))).gather(total % 11)
    birth = token.str.slice(6, 8).str.to_date("%Y%m%d", strict=False)
    return (token.str.tail(1).str.to_uppercase() == expected) & birth.dt.year().is_between(_FIRST_BIRTH, _LAST_BIRTH)


def luhn(token: pl.Expr) -> pl.Expr:
    """Of at most 19 digits: the last one is their check digit by ISO/IEC 7812-1, annex B (Luhn)."""
    number = token.cast(_WORD, strict=False)
    total = _sum(_luhn_digit(_digit(number, place), place) for place in range(19))
    return total % 10 == 0


def _luhn_digit(digit: pl.Expr, place: int) -> pl.Expr:
    return digit if place % 2 == 0 else digit * 2 - (digit > 4).cast(_WORD) * 9


def credit_code(token: pl.Expr) -> pl.Expr:
    """Of 18 characters: the check characters of the organisation code in it (GB 11714, places 9 to 17, mod 11)
    and of the whole (GB 32100, mod 31) hold."""
    value = [_value(token, at, _CREDIT) for at in range(18)]
    whole = _sum(value[at] * (3**at % 31) for at in range(17))
    # In an organisation code letters count by the whole alphabet, and ten is written X.
    inner = [_value(token, at, _LETTERS) for at in range(8, 16)]
    weights = (3, 7, 9, 10, 5, 8, 4, 2)
    own = _sum(digit * weight for digit, weight in zip(inner, weights, strict=True))
    expected = pl.lit(pl.Series(list("0X987654321"))).gather(own % 11)
    return (value[17] == (31 - whole % 31) % 31) & (token.str.slice(16, 1) == expected)


def _value(token: pl.Expr, at: int, alphabet: str) -> pl.Expr:
    letters = list(alphabet)
    return (
        token.str.slice(at, 1)
        .replace_strict(letters, list(range(len(letters))), default=0, return_dtype=pl.UInt32)
        .cast(_WORD)
    )


def travel_document(line: pl.Expr) -> pl.Expr:
    """Of the 44 characters of a passport's second line (ICAO 9303 part 4): all check digits hold, of number,
    birth, expiry, personal number (which may be left empty) and of all of them together."""
    number, birth, expiry, own = (_icao(line, spans) for spans in ([(0, 9)], [(13, 6)], [(21, 6)], [(28, 14)]))
    whole = _icao(line, [(0, 10), (13, 7), (21, 22)])
    empty = (line.str.slice(42, 1) == "<") & (own == 0)
    return (
        (number == _digit_at(line, 9))
        & (birth == _digit_at(line, 19))
        & (expiry == _digit_at(line, 27))
        & ((own == _digit_at(line, 42)) | empty)
        & (whole == _digit_at(line, 43))
    )


def _icao(line: pl.Expr, spans: list[tuple[int, int]]) -> pl.Expr:
    places = [start + at for start, length in spans for at in range(length)]
    return _sum(_value(line, at, _LETTERS) * (7, 3, 1)[index % 3] for index, at in enumerate(places)) % 10


def _digit_at(line: pl.Expr, at: int) -> pl.Expr:
    return line.str.slice(at, 1).cast(_WORD, strict=False)


def _digit(number: pl.Expr, place: int) -> pl.Expr:
    """The digit at a place, counted from the last."""
    return (number // pl.lit(10**place, dtype=_WORD)) % pl.lit(10, dtype=_WORD)


def _sum(terms: object) -> pl.Expr:
    return sum(terms, pl.lit(0, dtype=_WORD))  # type: ignore[call-overload, no-any-return]
