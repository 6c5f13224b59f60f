"""Results as JSON for programs and as a Markdown table for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine

FOLDER = Path(__file__).resolve().parent / "results"


@dataclass
class Table:
    """A table of a result. Cells are texts as they are shown."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [f"### {self.title}", ""]
        lines += [f"| {' | '.join(cells)} |" for cells in (self.columns, ("---",) * len(self.columns), *self.rows)]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


@dataclass
class Aim:
    """Something that was to be reached, what was reached, and whether that suffices."""

    what: str
    wanted: str
    found: str
    met: bool


@dataclass
class Result:
    """What one benchmark found. `checks` are statements about correctness; all must hold."""

    name: str
    title: str
    setting: dict[str, object]
    figures: dict[str, object]
    tables: list[Table]
    checks: dict[str, bool]
    aims: list[Aim] = field(default_factory=list)

    def write(self, folder: Path = FOLDER) -> Path:
        """Write `<name>.json` and `<name>.md`; the path of the former."""
        folder.mkdir(parents=True, exist_ok=True)
        value = {
            **asdict(self),
            "machine": machine.facts(),
            "load_at_end": machine.load(),
            "measured": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        (folder / f"{self.name}.md").write_text(self.markdown() + "\n")
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
        return path

    def markdown(self) -> str:
        """Everything as Markdown."""
        parts = [f"## {self.title}", *(table.markdown() for table in self.tables)]
        if self.aims:
            verdicts: list[tuple[str, ...]] = [
                (aim.what, aim.wanted, aim.found, "yes" if aim.met else "no") for aim in self.aims
            ]
            parts.append(Table("Aims", ("aim", "wanted", "found", "met"), verdicts).markdown())
        listed = [f"- {'holds' if held else 'DOES NOT HOLD'}: {what}" for what, held in self.checks.items()]
        return "\n\n".join([*parts, "### Checked in the same run", "\n".join(listed)])


def summary(values: Sequence[float]) -> dict[str, object]:
    """Median, best, worst and every single value, in seconds or whatever they are."""
    return {
        "median": round(statistics.median(values), 4),
        "best": round(min(values), 4),
        "worst": round(max(values), 4),
        "all": [round(value, 4) for value in values],
    }


def ratio(values: Sequence[float], to: Sequence[float]) -> float:
    """The median of the ratios of runs that were made in the same round."""
    return statistics.median(value / base for value, base in zip(values, to, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1))]
