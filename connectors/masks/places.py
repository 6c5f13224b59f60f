"""Networks of addresses and cells of the earth: ip_prefix and geohash."""

from __future__ import annotations

import ipaddress

import polars as pl

from contracts import techniques as t
from contracts.dtypes import DType

# --- addresses --------------------------------------------------------------------------------

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = "^" + r"\.".join([_OCTET] * 4) + "$"


def ip_prefix(mask: t.IpPrefix, column: pl.Expr, _: DType) -> pl.Expr:
    """The network of each address; what is none becomes `other`."""
    return column.map_batches(lambda values: _networks(values, mask), return_dtype=pl.String, is_elementwise=True)


def _networks(values: pl.Series, mask: t.IpPrefix) -> pl.Series:
    """IPv4 by its text; of all else every distinct value once."""
    texts = values.str.strip_chars()
    v4 = texts.str.contains(_V4)
    if v4.all():  # but for nulls
        return _v4_networks(texts, mask.v4)
    found = _v4_networks(texts.set(~v4, None), mask.v4)
    rest = texts.set(v4, None)
    spellings = rest.drop_nulls().unique()
    named = pl.Series([_network(text, mask) for text in spellings], dtype=pl.String)
    return found.zip_with(v4, rest.replace_strict(spellings, named, default=None, return_dtype=pl.String))


def _v4_networks(texts: pl.Series, bits: int) -> pl.Series:
    whole, more = divmod(bits, 8)
    if not more:
        return texts.str.replace(rf"(?:\.[0-9]+){{{4 - whole}}}$", ".0" * (4 - whole) + f"/{bits}")
    octets, step = texts.str.split_exact(".", 3).struct.unnest(), 1 << (8 - more)
    shown = [octets.to_series(index) for index in range(whole)]
    shown.append((octets.to_series(whole).cast(pl.UInt8) // step * step).cast(pl.String))
    return pl.select(pl.concat_str(*shown, separator=".") + (".0" * (3 - whole) + f"/{bits}")).to_series()


def _network(text: str, mask: t.IpPrefix) -> str:
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0][:80])
    except ValueError:
        return mask.other
    if address.ipv4_mapped is not None:
        return str(ipaddress.ip_network((address.ipv4_mapped, mask.v4), strict=False))
    return str(ipaddress.ip_network((address, mask.v6), strict=False))


# --- cells of the earth -----------------------------------------------------------------------

_LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"


def geohash(mask: t.Geohash, column: pl.Expr, _: DType) -> pl.Expr:
    """The cell of each place; of what lies outside the earth, `other`."""
    place = pl.struct(column.cast(pl.Float64).alias("up"), pl.col(mask.longitude).cast(pl.Float64).alias("across"))
    return place.map_batches(lambda places: _cells(places, mask), return_dtype=pl.String, is_elementwise=True)


def _cells(places: pl.Series, mask: t.Geohash) -> pl.Series:
    """Five bits of each coordinate are two letters, found in a table by arithmetic; a last single letter has
    three bits of the longitude and two of the latitude."""
    latitude, longitude = places.struct.field("up"), places.struct.field("across")
    bits = 5 * mask.precision
    below_up, below_across = bits // 2, (bits + 1) // 2
    up, across = _stretch(latitude, 90.0, below_up), _stretch(longitude, 180.0, below_across)
    letters = pl.repeat("", len(places), dtype=pl.String, eager=True)
    for _ in range(mask.precision // 2):
        below_up, below_across = below_up - 5, below_across - 5
        letters = letters + _PAIRS.gather(_bits(across, below_across, 5) * 32 + _bits(up, below_up, 5))
    if mask.precision % 2:
        letters = letters + _SINGLES.gather(_bits(across, 0, 3) * 4 + _bits(up, 0, 2))
    inside = latitude.is_between(-90, 90) & longitude.is_between(-180, 180)
    if not inside.all():
        letters = letters.set(~inside, mask.other)
    return letters.set(latitude.is_null() | longitude.is_null(), None)


def _stretch(degrees: pl.Series, end: float, bits: int) -> pl.Series:
    """Which of 2^bits equal stretches from -end to end; what lies outside is brought in, and not used."""
    count = 1 << bits
    share = (degrees.fill_nan(0).fill_null(0).clip(-end, end) + end) / (2 * end)
    return (share * count).floor().cast(pl.Int64).clip(0, count - 1)


def _bits(number: pl.Series, below: int, count: int) -> pl.Series:
    """So many bits of a number, above so many that are left out."""
    return number // (1 << below) % (1 << count)


def _woven(across: int, up: int, letters: int) -> str:
    """The letters of the bits of two coordinates, taken in turn, longitude first."""
    bits, code = 5 * letters, 0
    for index in range(bits):
        below = (bits + 1) // 2 - 1 - index // 2 if index % 2 == 0 else bits // 2 - 1 - index // 2
        code = code << 1 | (across if index % 2 == 0 else up) >> below & 1
    return "".join(_LETTERS[code >> 5 * (letters - 1 - at) & 31] for at in range(letters))


_PAIRS = pl.Series([_woven(across, up, 2) for across in range(32) for up in range(32)])
_SINGLES = pl.Series([_woven(across, up, 1) for across in range(8) for up in range(4)])
