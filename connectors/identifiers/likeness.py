"""Images and biometric templates, told by their content: the part of the negative list that needs no declaring.

    found_in_text(weighed)    base64, hexadecimal, data: URLs, JSON arrays of floats
    found_in_bytes(values)    the bytes themselves, and floats packed into them
    vectors(values)           lists of floats; vectors_of_texts(values) lists of texts that are floats

**They never prove absence**: an image that is encrypted, compressed, cut up or written in another format passes,
and so does a template of a maker's own format. Lists of 64 to 4096 floats are taken for a face turned into
numbers, whatever they are: a day's load curve by the quarter of an hour, too.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable

import polars as pl

from contracts.residual import Kind

Counts = dict[Kind, int]

SHORTEST, LONGEST = 64, 4096  # numbers in the vectors that recognition of faces, voices and gaits makes
_HEAD = 16  # bytes that tell what something is
_LEAST = 96  # bytes of the smallest image worth the name; hashes and tokens are shorter
_GROUP = _LEAST // 3 * 4

# Beginnings in base64 and hexadecimal; `_kind` looks at the bytes.
_BASE64 = (
    "(?:[/_]9j[/_]|iVBORw0KGgo|R0lGODdh|R0lGODlh|UklGR|SUkqA|TU0AK|Qk[0-9A-Za-z+/_-]{2}"
    "|AAAA[0-9A-Za-z+/_-]{2}Z0eX|AAAADGpQ)"
)
_TEMPLATE64 = "(?:Rk1SA|RkFDA|RklSA|SUlSA)"
_HEX = (
    "(?i:ffd8ff|89504e470d0a1a0a|4749463839|4749463837|52494646|49492a00|4d4d002a|464d5200|46414300|46495200"
    "|49495200|000000[0-9a-f]{2}66747970|0000000c6a502020|424d[0-9a-f]{8}00000000)"
)
_IN_BASE64 = f"(?:^|[^0-9A-Za-z+/_-])((?:{_BASE64}|{_TEMPLATE64})[0-9A-Za-z+/_\\s-]{{{_GROUP - 12}}})"
_IN_HEX = f"(?:^|[^0-9A-Za-z]|[0\\\\]x)({_HEX}[0-9a-fA-F]{{{2 * _LEAST - 16}}})"
_IN_URL = f"(?i:data:image/[a-z0-9.+-]+;base64,)[0-9A-Za-z+/_=\\s-]{{{_GROUP}}}"
_CANDIDATE = f"{_BASE64}|{_TEMPLATE64}|{_HEX}|(?i:data:image/)"
_FLOATS = "^\\s*\\[[-+0-9.eE,\\s]+\\]\\s*$"


def suspects(weighed: pl.DataFrame) -> pl.DataFrame:
    """Of texts (`value`), those that could hold an image, a template or a vector."""
    long = weighed.filter(weighed["value"].str.len_bytes() >= 2 * SHORTEST)
    return long.filter(long["value"].str.contains(_CANDIDATE) | _listed(long["value"]))


def found_in_text(weighed: pl.DataFrame) -> Counts:
    """In how many rows there is an image, a template or a vector: of distinct texts (`value`) and how often each
    occurs (`rows`)."""
    values, rows = weighed["value"], weighed["rows"]
    hits: dict[Kind, set[int]] = {Kind.VECTOR: set(_written(values).arg_true())}
    hits[Kind.IMAGE] = set(values.str.contains(_IN_URL).arg_true())
    for pattern, read in ((_IN_BASE64, _from_base64), (_IN_HEX, binascii.unhexlify)):
        at = values.str.contains(pattern).arg_true()
        spelt = pl.DataFrame({"at": at, "spelt": values.gather(at).str.extract_all(pattern)}).explode("spelt")
        for place, text in spelt.with_columns(pl.col("spelt").str.extract(pattern, 1)).iter_rows():
            kind = _kind(read(text))
            if kind is not None:
                hits.setdefault(kind, set()).add(place)
    return {kind: int(rows.gather(sorted(places)).sum()) for kind, places in hits.items() if places}


def _listed(values: pl.Series) -> pl.Series:
    """Which texts begin like a JSON array and have commas and points for so many numbers, half of them with one."""
    commas = values.str.count_matches(",", literal=True)
    points = values.str.count_matches(".", literal=True)
    return values.str.contains("^\\s*\\[") & commas.is_between(SHORTEST - 1, LONGEST - 1) & (points * 2 >= commas)


def _written(values: pl.Series) -> pl.Series:
    """Which texts are JSON arrays of so many floats."""
    return _listed(values) & values.str.contains(_FLOATS)


def _from_base64(text: str) -> bytes:
    plain = "".join(text.split()).replace("-", "+").replace("_", "/")
    return base64.b64decode(plain[: len(plain) // 4 * 4])


def found_in_bytes(values: pl.Series) -> Counts:
    """In how many rows of bytes there is an image, a template, or nothing but a vector of floats."""
    counts: Counts = {}
    for content in values.drop_nulls():
        kind = _kind(content) or (Kind.VECTOR if _floats(content) else None)
        if kind is not None:
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def _kind(content: bytes) -> Kind | None:
    """What the bytes begin as; None for anything else."""
    if content[:4] in (b"FMR\0", b"FAC\0", b"FIR\0", b"IIR\0") and content[7:8] == b"\0":
        return Kind.BIOMETRIC  # ISO/IEC 19794: finger minutiae, face, finger image, iris; then the version
    return Kind.IMAGE if any(test(content[:_HEAD]) for test in _IMAGES) else None


_IMAGES: tuple[Callable[[bytes], bool], ...] = (
    lambda head: head[:3] == b"\xff\xd8\xff" and len(head) > 3 and head[3] >= 0xC0,
    lambda head: head[:8] == b"\x89PNG\r\n\x1a\n",
    lambda head: head[:6] in (b"GIF87a", b"GIF89a"),
    lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    lambda head: head[:4] in (b"II*\0", b"MM\0*"),
    lambda head: head[:2] == b"BM" and head[6:10] == bytes(4),
    lambda head: head[:3] == bytes(3) and head[4:8] in (b"ftyp", b"jP  "),
)


def _floats(content: bytes) -> bool:
    """Whether bytes are a vector of 32-bit floats: as long as one, and every number of a size that one has."""
    count, rest = divmod(len(content), 4)
    if rest or not SHORTEST <= count <= LONGEST:
        return False
    numbers = struct.unpack(f"<{min(count, SHORTEST)}f", content[: 4 * min(count, SHORTEST)])
    return all(math.isfinite(x) and (x == 0 or 1e-6 < abs(x) < 1e3) for x in numbers) and len(set(numbers)) > 8


def vectors_of_texts(values: pl.Series) -> Counts:
    """In how many rows of lists of texts these are the numbers of a vector."""
    lengths = values.list.len() if isinstance(values.dtype, pl.List) else values.arr.len()
    long = values.filter(lengths.is_between(SHORTEST, LONGEST)).cast(pl.List(pl.String))
    written = pl.select("[" + pl.lit(long).list.join(",") + "]").to_series()
    rows = int(_written(written).sum())
    return {Kind.VECTOR: rows} if rows else {}


def vectors(values: pl.Series) -> Counts:
    """In how many rows of lists of floats there are as many as a vector has."""
    lengths = values.list.len() if isinstance(values.dtype, pl.List) else values.arr.len()
    rows = int(lengths.is_between(SHORTEST, LONGEST).sum())
    return {Kind.VECTOR: rows} if rows else {}
