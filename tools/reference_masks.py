"""The pages about masking, written from the code: one a technique, with what it makes of some values, and the
standard. Called by tools/reference.py."""

from __future__ import annotations

import datetime as dt
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import polars as pl
import yaml

from connectors.keys import AgreementSecrets
from connectors.masks.expressions import expression
from connectors.masks.values import ROW_NUMBER, polars_type
from contracts import dtypes as d
from contracts import standard, techniques
from contracts.model import Field, Identifiability, Tier
from contracts.plan import PlannedField
from contracts.technique import Technique

NOTE = "Written from the code by `tools/reference.py`; do not edit.\n"
PHONES = ["13812345678", "13898765432", "110", None]
AGES = [3, 37, 38, 104, None]
DAYS = [dt.date(1987, 5, 4), dt.date(2019, 12, 30), None]
TIMES = [dt.datetime(2026, 3, 31, 23, 59, 30), dt.datetime(2026, 4, 1, 0, 10), None]
TYPES = (
    *(d.STRING, d.BOOLEAN, d.INT64, d.FLOAT64, d.DType("decimal", precision=12, scale=2)),
    *(d.DATE, d.timestamp("us"), d.timestamp("us", "Asia/Shanghai"), d.DType("time", unit="us"), d.BINARY, d.LIST),
)
# Of each technique: how it stands in a contract, the type of the values, and some values.
EXAMPLES: dict[str, tuple[dict[str, Any], d.DType, Sequence[object]]] = {
    "keep": ({}, d.STRING, ["north", "south", None]),
    "drop": ({}, d.STRING, []),
    "null": ({}, d.STRING, ["north", None]),
    "constant": ({"value": "withheld"}, d.STRING, ["north", None]),
    "partial": ({"keep_first": 3, "keep_last": 2}, d.STRING, PHONES),
    "hmac": ({"domain": "person"}, d.STRING, ["11010519491231002X", " 11010519491231002x ", None]),
    "random_id": ({}, d.STRING, ["north", "north", None]),
    "bucket": ({"size": 10}, d.INT64, AGES),
    "clip": ({"lower": 18, "upper": 90}, d.INT64, AGES),
    "round": ({"base": 5}, d.INT64, AGES),
    "truncate": ({"unit": "month", "zone": "Asia/Shanghai"}, d.timestamp("us"), TIMES),
    "date_part": ({"part": "weekday", "zone": "Asia/Shanghai"}, d.timestamp("us"), TIMES),
    "prefix": ({"length": 2}, d.STRING, ["J10.1", "J11", "A", None]),
    "hierarchy": (
        {"table": {"J10": ["influenza", "respiratory"], "A00": ["cholera", "intestinal"]}, "level": 2},
        d.STRING,
        ["J10", "A00", None],
    ),
    "geo_round": ({"decimals": 2}, d.FLOAT64, [31.230416, 121.473701, None]),
    "rare": ({"min_count": 2}, d.STRING, ["cold", "cold", "rabies", None]),
    "redact": ({"detectors": ["phone", "email"]}, d.STRING, ["call 13812345678 or a@b.example", "no answer", None]),
    "regex": (
        {"pattern": "^(.)[^@]*@", "replacement": "${1}***@", "min_masked": 2},
        d.STRING,
        ["anna@b.example", None],
    ),
    "ip_prefix": ({"v4": 16, "v6": 32}, d.STRING, ["203.0.113.9", "2001:db8::1", None]),
    "geohash": ({"precision": 5, "longitude": "lon"}, d.FLOAT64, [31.230416, 31.230999, None]),
    "shift_date": ({"days": 30, "entity": "person"}, d.DATE, DAYS),
    "noise": ({"distribution": "laplace", "scale": 2}, d.INT64, AGES),
    "shuffle": ({"least": 2}, d.INT64, AGES),
    "microaggregate": ({"k": 2}, d.INT64, AGES),
    "aes_siv": ({"domain": "person", "legal_basis": "dpv:LegalObligation"}, d.STRING, ["13812345678", None]),
    "ff1": (
        {"domain": "phone", "legal_basis": "dpv:LegalObligation", "unsafe_format_preserving": True},
        d.STRING,
        ["13812345678", None],
    ),
}
WHOLE: dict[str, dict[str, Any]] = {
    "sample": {"rate": 0.1, "entity": "patient"},
    "suppress_small": {"k": 5, "fields": ["trade", "district"], "max_suppression": 0.1},
}
# What stands beside the column: who the row is about, and where.
_BESIDE: dict[str, list[Any]] = {
    "person": ["a", "b", "a", "c", "d"],
    "lon": [121.473701, 121.473999, 121.4, 121.4, 121.4],
}
_SECRETS = AgreementSecrets(bytes(32), "the documentation").of_release("the documentation")


def row(*cells: object) -> str:
    """One row of a table."""
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def table(*heads: str) -> list[str]:
    """The head of a table."""
    return [row(*heads), row(*("---" for _ in heads))]


def techniques_page() -> str:
    """All techniques, each with its page."""
    lines = ["# Techniques", "", NOTE]
    lines += [
        "In a contract: `{mask: <id>, <parameter>: <value>}` for a field, `wholeRelease: {<id>: {...}}` for all rows.",
        "Strength: 0 the value passes, 5 nothing of it is left. What is joinable makes equal values show as equal, so",
        "that bounds are counted over all rows that it joins.",
        "",
        *table("technique", "family", "strength", "promises", "what it does"),
    ]
    for name, kind in (*techniques.ALL.items(), *techniques.WHOLE.items()):
        first = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
        lines.append(row(f"[{name}](techniques/{name}.md)", kind.family, kind.strength, _promises(kind), first))
    return "\n".join(lines) + "\n"


def _promises(kind: type[Technique]) -> str:
    found = [word for word in ("reversible", "joinable") if getattr(kind, word)]
    found += ["keeps the order"] if kind.order_preserving else []
    return ", ".join(found)


def technique_page(name: str, parameters: Callable[[type[msgspec.Struct]], list[str]]) -> str:
    """One technique: its own words, an example as it really comes out, types, parameters, what the standard says."""
    whole = name in techniques.WHOLE
    kind = techniques.WHOLE[name] if whole else techniques.ALL[name]
    words = inspect.cleandoc(kind.__doc__ or "").partition("\n\n>>>")[0]
    facts = f"Family {kind.family}, strength {kind.strength}"
    promises = f", {_promises(kind)}" if _promises(kind) else ""
    lines = [f"# {name}", "", NOTE, *_paragraphs(words), "", f"{facts}{promises}.", ""]
    stated: dict[str, Any] = {"mask": name, **EXAMPLES[name][0]} if not whole else {"wholeRelease": {name: WHOLE[name]}}
    lines += ["## In a contract", "", "```yaml", _yaml(stated if whole else {"column": stated}), "```", ""]
    if not whole:
        lines += _outcome(name)
        lines += ["## Types", "", *_types(name, kind), ""]
    found = parameters(kind)
    if found:
        lines += ["## Parameters", "", *found, ""]
    if not whole:
        lines += _allowed(name)
    return "\n".join(lines).rstrip() + "\n"


_PARTS = re.compile(r"(?:^|(?<=[.:])\s+)(Precondition|Output|Residual risk|Source): ", re.MULTILINE)


def _paragraphs(words: str) -> list[str]:
    """The docstring: what it does, then its parts as a list."""
    about, *parts = _PARTS.split(words)
    listed = zip(parts[::2], (" ".join(text.split()) for text in parts[1::2]), strict=True)
    return [
        about.rstrip(),
        "",
        *(f"- **{head}.** {text[0].upper()}{text[1:]}" for head, text in listed),
    ]


def _yaml(value: dict[str, Any]) -> str:
    """In the flow style that contracts are written in."""
    return str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)).strip()[1:-1]


def _outcome(name: str) -> list[str]:
    words, dtype, values = EXAMPLES[name]
    mask = techniques.parse({"mask": name, **words}).resolved(dtype)
    if not values:
        return []
    field = PlannedField(
        name="column",
        technique=mask,
        source=dtype,
        output=mask.produces(dtype),
        identifiability=Identifiability.NONE,
        tier=Tier.OPEN,
    )
    beside = {key: column[: len(values)] for key, column in _BESIDE.items()}
    frame = pl.DataFrame({"column": pl.Series(values, dtype=polars_type(dtype)), **beside}).with_row_index(ROW_NUMBER)
    made = frame.lazy().with_columns(expression(field, _SECRETS, None)).collect()["column"]
    lines = ["## An example", "", *table("value", "leaves as")]
    lines += [row(_cell(before), _cell(after)) for before, after in zip(values, made.to_list(), strict=True)]
    told = "\nUnder another agreement, and so another key, it would leave otherwise." if _keyed(name) else ""
    return [*lines, told, ""] if told else [*lines, ""]


def _keyed(name: str) -> bool:
    return name in ("hmac", "random_id", "shift_date", "noise", "shuffle", "aes_siv", "ff1")


def _cell(value: object) -> str:
    return "(null)" if value is None else f"`{value}`"


def _types(name: str, kind: type[Technique]) -> list[str]:
    """Each kind of type, and what it leaves as under the example's parameters."""
    mask = techniques.parse({"mask": name, **EXAMPLES[name][0]})
    lines = table("type", "leaves as")
    for dtype in TYPES:
        if dtype.kind not in kind.kinds:
            continue
        fit = mask.resolved(dtype)
        problems = fit.problems(dtype)
        lines.append(row(dtype, problems[0] if problems else fit.produces(dtype) if kind.sent else "no column"))
    return lines


def _allowed(name: str) -> list[str]:
    """What the standard says of it, by tier and part in recognising somebody."""
    held, mask = standard.load(), techniques.parse({"mask": name, **EXAMPLES[name][0]})
    lines = [f"## Under {held.id}", "", *table("field", *(part.value for part in Identifiability))]
    for tier in Tier:
        cells = []
        for part in Identifiability:
            field = Field(name="column", logical_type="string", classification=tier, identifiability=part)
            breaches = held.breaches(field, mask, l_bound=2)
            cells.append("no: " + breaches[0].floor if breaches else "yes")
        lines.append(row(tier.value, *cells))
    lines += [
        "",
        "With an l bound of 2 where the field is sensitive. Why not: [the standard](../standard.md#floors).",
        "",
    ]
    return lines


def standard_page() -> str:
    """The standard, as people read it."""
    held = standard.load()
    lines = [f"# The standard {held.id}", "", NOTE]
    lines += [f"{held.title}. Its digest, which trust files pin: `{held.digest}`.", ""]
    lines += [
        "The least that every department does to the same kind of data; a contract may be stricter, never looser.",
        "Drawn up after GB/T 37964-2019 and ISO/IEC 20889:2018 (techniques), and GB/T 42460-2023 as it is publicly",
        "quoted (thresholds of risk).",
        "",
        "## Tiers",
        "",
        *table("tier", "what it is", "approvals"),
        *(row(tier.value, held.tiers[tier].meaning, held.tiers[tier].approvals) for tier in Tier),
        "",
        "Approvals are of distinct persons, never the requester.",
        "",
        "## Thresholds",
        "",
        *table("sharing", "least k", "tau, the highest risk of a class"),
        *(row(model.value, found.least_k, f"1/{found.least_k}") for model, found in held.thresholds.items()),
        "",
        f"The overall risk R of a release is called acceptable up to {held.risk}.",
        "",
        "## Categories",
        "",
        "What a column can be. A mask that shows a part of a value of known form leaves at least",
        f"{held.least_candidates:,} values that fit.",
        "",
        *table("category", "never below", "can be declared as", "characters, and the values they can take"),
        *(row(name, of.least_tier.value, _of(of.identifiability), _shape(of)) for name, of in held.categories.items()),
        "",
        *(
            f"An {name} that is sent finer than {step:g} counts as a quasi-identifier and as sensitive."
            for name, step in held.rounding.items()
        ),
        "",
        "## Floors",
        "",
        "Every floor whose tier, part in recognising somebody and category all match applies.",
        "",
        *table("floor", "tiers", "identifiability", "categories", "demands", "why"),
        *(
            row(
                floor.id,
                "all" if floor.tiers == tuple(Tier) else ", ".join(floor.tiers),
                _of(floor.identifiability),
                ", ".join(floor.categories or ("all",)),
                _demands(floor),
                floor.why,
            )
            for floor in held.floors
        ),
        "",
        "## Waivers",
        "",
        "Recorded for a later version; no contract can claim one under this.",
    ]
    return "\n".join(lines) + "\n"


def _of(parts: Sequence[Identifiability]) -> str:
    return "all" if set(parts) == set(Identifiability) else ", ".join(parts)


def _shape(category: standard.Category) -> str:
    """How many values each run of characters can take."""
    parts, at = [], 0
    for run in category.shape:
        place = f"{at + 1} to {at + run.length}" if run.length > 1 else str(at + 1)
        parts.append(f"{place}: {run.values:,}" if run.values > 1 else f"{place}: a check character")
        at += run.length
    return "; ".join(parts)


def _demands(floor: standard.Floor) -> str:
    if not floor.sent:
        return "never sent"
    kept = {"justified": "keep only with a justification", "never": "no keep"}.get(floor.keep)
    found = [kept] if kept else []
    found += [f"strength {floor.least_strength} at least"] if floor.least_strength else []
    found += ["families " + " and ".join(floor.families) + " only"] if floor.families else []
    found += ["irreversible"] if floor.irreversible else []
    found += [f"an l of at least {floor.least_l}"] if floor.least_l else []
    return "; ".join(found)
