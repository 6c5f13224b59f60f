"""The masking techniques of this version: `ALL` maps their ids to the classes, `WHOLE` those that work on a whole
release; `parse` reads one of a field.

A technique is a frozen value: its parameters, what it accepts, what it produces, what it promises.
`connectors.masks.masking` turns it into one native expression. Terms follow ISO/IEC 20889:2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from contracts.errors import Reason, SluicegateError, Violation, nearest
from contracts.technique import Family, Technique
from contracts.technique_classes import DatePart, Hierarchy, Prefix, Rare, Truncate
from contracts.technique_hide import Constant, Drop, Hmac, Keep, Null, Partial, Period, RandomId
from contracts.technique_numbers import Bucket, Clip, GeoRound, Round
from contracts.technique_places import Geohash, IpPrefix
from contracts.technique_random import Microaggregate, Noise, ShiftDate, Shuffle
from contracts.technique_redact import Redact
from contracts.technique_regex import Regex
from contracts.technique_reversible import AesSiv, Ff1
from contracts.technique_whole import Sample, SuppressSmall

__all__ = [
    "ALL",
    "WHOLE",
    "AesSiv",
    "AnyTechnique",
    "Bucket",
    "Clip",
    "Constant",
    "DatePart",
    "Drop",
    "Family",
    "Ff1",
    "GeoRound",
    "Geohash",
    "Hierarchy",
    "Hmac",
    "IpPrefix",
    "Keep",
    "Microaggregate",
    "Noise",
    "Null",
    "Partial",
    "Period",
    "Prefix",
    "RandomId",
    "Rare",
    "Redact",
    "Regex",
    "Round",
    "Sample",
    "ShiftDate",
    "Shuffle",
    "SuppressSmall",
    "Technique",
    "Truncate",
    "parse",
    "written",
]

AnyTechnique = Union[  # noqa: UP007 - msgspec reads the union at run time
    Keep,
    Drop,
    Null,
    Constant,
    Partial,
    Hmac,
    RandomId,
    Bucket,
    Clip,
    Round,
    Truncate,
    DatePart,
    Prefix,
    Hierarchy,
    GeoRound,
    Rare,
    Redact,
    Regex,
    IpPrefix,
    Geohash,
    ShiftDate,
    Noise,
    Shuffle,
    Microaggregate,
    AesSiv,
    Ff1,
]

# Technique id -> class: everything this version can do to a field.
ALL: Mapping[str, type[Technique]] = MappingProxyType(
    {str(cls.__struct_config__.tag): cls for cls in get_args(AnyTechnique)}
)

# And to a whole release.
WHOLE: Mapping[str, type[Technique]] = MappingProxyType(
    {str(cls.__struct_config__.tag): cls for cls in (Sample, SuppressSmall)}
)


def written(mask: AnyTechnique) -> dict[str, Any]:
    """A technique as a contract says it: without what it leaves open. What `parse` reads."""
    said: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(mask))
    return {key: value for key, value in said.items() if value is not None}


def parse(value: object) -> AnyTechnique:
    """Read one technique of a field from a contract: `{mask: <id>, <parameter>: <value>, ...}`.

    Raises CONTRACT_INVALID with one violation for each wrong parameter; the violation's path is the
    parameter's name, or `mask`.

    >>> parse({"mask": "bucket", "size": 10}).id
    'bucket'
    """
    found: list[Violation] = []
    if not isinstance(value, Mapping) or not isinstance(value.get("mask"), str):
        raise _refused(
            [
                Violation(
                    "mask",
                    "a field needs a mask, written {mask: <technique>, ...}",
                    "allowed: " + ", ".join(ALL),
                    code="MASK_MISSING",
                )
            ]
        )
    cls = ALL.get(value["mask"])
    if cls is None:
        raise _refused(
            [
                Violation(
                    "mask",
                    f"there is no technique {str(value['mask'])[:40]!r}",
                    nearest(value["mask"], ALL) or "allowed: " + ", ".join(ALL),
                    code="MASK_UNKNOWN",
                )
            ]
        )
    given = {str(key): item for key, item in value.items() if key != "mask"}
    hints = get_type_hints(cls, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    for name in given.keys() - fields.keys():
        hint = nearest(name, fields) or f"{cls.__struct_config__.tag} has no parameters"
        found.append(
            Violation(name[:64], f"{value['mask']} has no parameter {name[:40]!r}", hint, code="MASK_PARAMETER_UNKNOWN")
        )
    for name, field in fields.items():
        if name not in given:
            if field.required:
                found.append(
                    Violation(
                        name, f"{value['mask']} needs `{name}`", _allowed(hints[name])[0], code="MASK_PARAMETER_MISSING"
                    )
                )
            continue
        try:
            msgspec.convert(given[name], hints[name])
        except msgspec.ValidationError as error:
            allowed, words = _allowed(hints[name])
            hint = nearest(given[name], words) if words and isinstance(given[name], str) else ""
            found.append(
                Violation(
                    name,
                    f"{value['mask']}: found {_short(given[name])}; {allowed or _plain(error)}",
                    hint,
                    code="MASK_PARAMETER_WRONG",
                )
            )
    if found:
        raise _refused(found)
    try:
        made: AnyTechnique = msgspec.convert({"mask": value["mask"], **given}, AnyTechnique)
        return made
    except msgspec.ValidationError as error:
        parameter, _, text = _plain(error).partition(": ")
        raise _refused([Violation(parameter, text or parameter, code="MASK_PARAMETER_WRONG")]) from None


def _refused(found: list[Violation]) -> SluicegateError:
    return SluicegateError(
        Reason.CONTRACT_INVALID,
        "a mask is not one that this version knows, or its parameters are not allowed",
        tuple(found),
    )


def _plain(error: Exception) -> str:
    return str(error).partition(" - at `")[0]


def _short(value: object) -> str:
    return (
        {True: "true", False: "false", None: "null"}[value]
        if value is None or isinstance(value, bool)
        else repr(value)[:40]
    )


def _allowed(hint: Any) -> tuple[str, tuple[str, ...]]:
    """What a parameter may be, from its type: its description, and its words where it is one of a few."""
    for part in (hint, *get_args(hint)):
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return f"allowed: {meta.description}", ()
        if get_origin(part) is Literal:
            words = tuple(str(word) for word in get_args(part))
            return "allowed: " + ", ".join(words), words
    return "", ()
