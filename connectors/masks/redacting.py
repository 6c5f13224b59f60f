"""redact: what detectors find is taken out of texts, each distinct text once."""

from __future__ import annotations

import re

import polars as pl

from connectors.identifiers import detectors
from contracts import techniques as t
from contracts.dtypes import DType

WHOLE = "[redacted]"


def redact(mask: t.Redact, column: pl.Expr, _: DType) -> pl.Expr:
    """The texts without what is found in them. Nulls stay null."""
    return column.map_batches(lambda values: _redacted(values, mask), return_dtype=pl.String, is_elementwise=True)


def _redacted(values: pl.Series, mask: t.Redact) -> pl.Series:
    texts = values
    words = {word: f"[{name}]" for name, found in mask.dictionaries.items() for word in found}
    if words:
        longest = sorted(words, key=len, reverse=True)
        labels = [words[word] for word in longest]
        texts = texts.str.replace_many(longest, labels, ascii_case_insensitive=True, leftmost=True)
    suspects = detectors.suspects(texts.unique().drop_nulls().alias("value").to_frame())["value"]
    changed = _without(suspects, mask)
    if not changed:
        return texts
    still = detectors.written(pl.Series(list(changed.values()), dtype=pl.String), mask.detectors)["at"]
    for at in still.unique():
        changed[list(changed)[at]] = WHOLE
    return texts.replace(list(changed), list(changed.values()))


def _without(texts: pl.Series, mask: t.Redact) -> dict[str, str]:
    """The texts in which something is found, and what becomes of them: longer finds first, so that no part of
    one is left."""
    found: dict[int, list[tuple[str, str]]] = {}
    for at, kind, words in detectors.written(texts, mask.detectors).iter_rows():
        found.setdefault(at, []).append((words, f"[{kind}]"))
    plain = detectors.narrowed(texts)
    changed = {}
    for at, finds in found.items():
        text = plain[at]
        for words, label in sorted(finds, key=lambda find: len(find[0]), reverse=True):
            text = re.sub(re.escape(words), label, text, flags=re.IGNORECASE)
        changed[texts[at]] = text
    return changed
