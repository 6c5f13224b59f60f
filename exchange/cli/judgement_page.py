"""The report of a judgement as one HTML page: figures and charts, nothing that runs, nothing from elsewhere.

Whatever is not ours (names of columns, files and purposes, values) is escaped, and stripped of characters
that change how text runs. Values are named only as `connectors.measures.shown` gives them.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.cli.output import plain, shortened

if TYPE_CHECKING:
    from connectors.measures.shown import Shown
    from contracts.papers import Certificate
    from exchange.judging import Judged

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2430; --soft: #5d6878; --line: #d5dae2;
  --bar: #2f6fb2; --pale: #9dbfe0; --bad: #b3261e; --good: #1c7a4a; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --ink: #e6eaf0; --soft: #9aa5b5; --line: #333c49;
  --bar: #6ba6e0; --pale: #3d5f83; --bad: #f2867e; --good: #63c793; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb;
  --bar: #2f6fb2; --pale: #9dbfe0; --bad: #b3261e; --good: #1c7a4a; }
  section { break-inside: avoid; } svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; max-width: 52rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
p, li { max-width: 46rem; overflow-wrap: anywhere; } .soft { color: var(--soft); }
.passes { color: var(--good); font-weight: 600; } .fails { color: var(--bad); font-weight: 600; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top;
  padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; } tr > th:first-child { min-width: 8rem; width: 11rem; }
td.n { font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .bar { fill: var(--bar); } svg .pale { fill: var(--pale); }
svg .bad { fill: var(--bad); } svg .mark { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 4 3; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LABEL, _ROOM, _WIDTH, _STEP = 210, 400, 720, 20  # of a chart, in its own units
_EDGES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class _Bar:
    """One bar: its kind (a class of the style), a share of the room, and what is said behind it. `mark`: where a
    limit lies, a share of the room."""

    label: str
    kind: str
    length: float
    said: str
    mark: float | None = None


def page(judged: Judged) -> str:
    """The whole page."""
    found = judged.found
    verdict = '<span class="passes">passes</span>' if judged.passes else '<span class="fails">fails</span>'
    held = f"held to the purpose {_e(judged.purpose)} of {_e(judged.held.plan.dataset)}"
    parts = [
        f"<h1>Effectiveness of desensitisation: {verdict}</h1>",
        f'<p class="soft">{_e(judged.name)}, {found.rows:,} rows, {held}; '
        f"terms {_e(judged.held.plan.terms_digest)}, standard {_e(judged.held.plan.standard_digest)}</p>",
        _lines("What is wrong", judged.problems, "fails"),
        _lines("To be known", judged.remarks, "soft"),
        _section("Figures", _facts(judged)),
        _section("Columns", _columns(judged)),
    ]
    if found.certificate is not None:
        parts += [
            _section("Sizes of classes", _sizes(judged)),
            _section("Risks", _risks(found.certificate)),
        ]
        if found.loss:
            parts.append(_section("Information lost", _losses(judged)))
        parts.append(_section("Values", _values(judged)))
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Effectiveness: {_e(judged.name)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _e(text: object) -> str:
    """Text of a page: escaped, and without characters that are not shown."""
    return html.escape(plain(text), quote=True)


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_e(title)}</h2>\n{content}\n</section>"


def _lines(title: str, lines: Sequence[str], kind: str) -> str:
    if not lines:
        return ""
    return _section(title, f'<ul class="{kind}">' + "".join(f"<li>{_e(line)}</li>" for line in lines) + "</ul>")


def _facts(judged: Judged) -> str:
    rows = [
        (name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else value)
        for name, value in judged.figures().items()
    ]
    return _table((), rows)


def _columns(judged: Judged) -> str:
    plan, rows = judged.held.plan, []
    for field in plan.fields:
        mask = judged.held.masks.get(field.name)
        parts = {
            "forms classes": field.name in plan.quasi_identifiers,
            "pseudonym": field.name in plan.pseudonyms,
            "sensitive": field.name in plan.sensitive,
            "not of the purpose": field.name in judged.held.strange,
        }
        said = ", ".join(part for part, is_one in parts.items() if is_one) or "-"
        rows.append((field.name, str(field.output), mask.id if mask else "none", said))
    return _table(("column", "type in the file", "mask in the contract", "judged as"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "<tr>" + "".join(f"<th>{_e(name)}</th>" for name in heads) + "</tr>" if heads else ""
    lines = (
        "<tr>" + f"<th>{_e(row[0])}</th>" + "".join(f'<td class="n">{_e(cell)}</td>' for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return f"<table>{head}{''.join(lines)}</table>"


def _sizes(judged: Judged) -> str:
    """How many classes have how many persons; those below k stand out."""
    k = judged.held.plan.k or 0
    edges = sorted({*_EDGES, k})
    counts = dict.fromkeys(edges, 0)
    for entities, classes in judged.found.sizes:
        counts[max(edge for edge in edges if edge <= entities)] += classes
    # From the first to the last that has any; empty ones between them show the gap.
    filled = [edge for edge in edges if counts[edge]] or [1]
    ends = dict(zip(edges, [*edges[1:], 0], strict=True))
    most = max(1, *counts.values())
    bars = [
        _Bar(
            label=_span(edge, ends[edge]),
            kind="bad" if edge < k else "bar",
            length=counts[edge] / most,
            said=f"{counts[edge]:,}",
        )
        for edge in edges
        if filled[0] <= edge <= filled[-1]
    ]
    who = "persons" if judged.held.persons_known else "rows"
    said = f"Classes by how many {who} they have. Those with fewer than {k} miss the bound."
    return f'<p class="soft">{_e(said)}</p>{_chart(bars, "classes by their size")}'


def _span(edge: int, end: int) -> str:
    if not end:
        return f"{edge:,} and more"
    return f"{edge:,}" if end == edge + 1 else f"{edge:,} to {end - 1:,}"


def _risks(paper: Certificate) -> str:
    shown: list[tuple[str, float | None, float | None]] = [
        ("overall risk R", paper.risk, paper.risk_tolerated if paper.risk_required is None else paper.risk_required),
        ("DR_a: classes above tau", paper.dr_a, 0.0),
        ("DR_b: highest, prosecutor's", paper.dr_b, paper.tau),
        ("DR_c: mean over classes", paper.dr_c, None),
        ("journalist's", paper.journalist_risk, None),
        ("marketer's", paper.marketer_risk, None),
        ("uniques", paper.uniques, None),
    ]
    most = max(max(value or 0.0, limit or 0.0) for _, value, limit in shown) or 1.0
    bars = [
        _Bar(
            label=label,
            kind="bad" if limit is not None and (value or 0.0) > limit + 1e-9 else "bar",
            length=(value or 0.0) / most,
            said="no register given" if value is None else f"{value:.4f}",
            mark=limit / most if limit else None,
        )
        for label, value, limit in shown
    ]
    said = f"Level {paper.level} of 4, {paper.sharing_model} sharing. A dashed line is the most that is acceptable."
    return f'<p class="soft">{_e(said)}</p>{_chart(bars, "risks")}'


def _losses(judged: Judged) -> str:
    bars = [
        _Bar(name, "bar", loss or 0.0, "not known" if loss is None else f"{loss:.4f}")
        for name, loss in judged.found.loss.items()
    ]
    said = "Of each column that forms classes: 0 every value is as it was, 1 nothing is left."
    return f'<p class="soft">{_e(said)}</p>{_chart(bars, "loss by column")}'


def _values(judged: Judged) -> str:
    k, known = judged.held.plan.k or 0, judged.found.suppressed is not None or bool(judged.found.loss)
    who = "persons" if judged.held.persons_known else "rows"
    said = f"Shares of the rows. A value is named where at least {k} {who} of the file have it; a few at the most."
    if known:
        said += " Pale: the share of the source's rows that the contract's mask makes the same value of."
    return f'<p class="soft">{_e(said)}</p>' + "".join(_distribution(shown) for shown in judged.found.shown)


def _distribution(shown: Shown) -> str:
    bars = []
    most = max([shown.rest, *(max(bar.share, bar.before or 0.0) for bar in shown.bars)], default=1.0) or 1.0
    for bar in shown.bars:
        label = "no value" if bar.value is None else str(bar.value)
        bars.append(_Bar(label, "bar", bar.share / most, f"{bar.share:.1%}"))
        if bar.before is not None:
            bars.append(_Bar("", "pale", bar.before / most, f"{bar.before:.1%}"))
    if shown.rest > 1e-9:
        bars.append(_Bar("all others", "bar", shown.rest / most, f"{shown.rest:.1%}"))
    return (
        f'<h3>{_e(shown.name)}</h3><p class="soft">{shown.distinct:,} distinct values</p>'
        f"{_chart(bars, f'values of {shown.name}')}"
    )


def _chart(bars: Sequence[_Bar], title: str) -> str:
    """Bars below each other, as a drawing of its own."""
    height = _STEP * len(bars) + 4
    lines = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{_e(title)}">']
    for index, bar in enumerate(bars):
        top = index * _STEP
        width = max(0.0, min(1.0, bar.length)) * _ROOM
        base = top + 15
        label = _e(shortened(bar.label, 32))
        lines.append(f'<text x="{_LABEL - 8}" y="{base}" text-anchor="end">{label}</text>')
        lines.append(f'<rect class="{bar.kind}" x="{_LABEL}" y="{top + 4}" width="{width:.1f}" height="{_STEP - 6}"/>')
        mark = (bar.mark or 0.0) * _ROOM
        said = (mark if width - 4 <= mark <= width + 60 else width) + _LABEL + 6  # not across the mark
        lines.append(f'<text class="soft" x="{said:.1f}" y="{base}">{_e(bar.said)}</text>')
        if bar.mark is not None:
            at = f"{_LABEL + mark:.1f}"
            lines.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{top + 1}" y2="{top + _STEP - 1}"/>')
    return "".join([*lines, "</svg>"])
