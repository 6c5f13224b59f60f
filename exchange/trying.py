"""`contract test`: every purpose of a contract rehearsed on real data, before anything is published."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from connectors import sources
from connectors.releases.rehearsal import DryRun, dry_run
from contracts import aggregate_plan, certificate, plan, standard
from contracts.errors import Reason, SluicegateError, Violation, nearest
from contracts.model import Contract
from contracts.odcs import LoadedContract
from contracts.plan import Plan
from contracts.receipt import Aggregated

FORMATS = ("parquet", "csv", "ndjson", "arrow")
ENDINGS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".arrow": "arrow", ".ipc": "arrow"}
# Reasons that say something about one purpose; any other is about the data, or ours, and ends the test.
OF_THE_PURPOSE = (Reason.PLAN_REFUSED, Reason.BOUNDS_NOT_MET)


@dataclass(frozen=True)
class Tried:
    """How one purpose went. `run` is None when its plan was refused; then `violations` say why. It is None for an
    aggregate too, of which only the plan is made: `aggregate` is what its receipt will say."""

    purpose: str
    run: DryRun | None
    violations: tuple[Violation, ...] = ()
    aggregate: Aggregated | None = None

    @property
    def passes(self) -> bool:
        """Whether a release would be made."""
        return self.aggregate is not None or (self.run is not None and self.run.passes)

    @property
    def sample(self) -> pl.DataFrame | None:
        """Ten rows as they would leave."""
        return self.run.sample if self.run is not None else None

    @property
    def problems(self) -> tuple[str, ...]:
        """What stands in the way, a line each."""
        if self.run is None or self.run.passes:
            return tuple(str(violation) for violation in self.violations)
        run = self.run
        found = tuple(f"{finding}: mask the column, or take it out of the purpose" for finding in run.findings)
        if run.rows_suppressed >= run.rows_in:
            return (*found, "no row would be left: coarser masks, or fewer fields, make larger classes")
        if run.share <= run.max_suppression:
            judged = run.certificate
            if judged is None or judged.risk_required is None or judged.risk <= judged.risk_required:
                return found
            return (
                *found,
                f"the overall risk R is {judged.risk:.4f}, allowed is {judged.risk_required}: coarser masks on the "
                "worst columns, or fewer fields, make larger classes",
            )
        return (
            *found,
            f"the bounds hold only without {run.share:.2%} of the rows, allowed is {run.max_suppression:.0%}: coarser "
            "masks on the worst columns, or fewer fields, make larger classes",
        )

    def figures(self) -> dict[str, object]:
        """Suppression, bounds met and worst columns, for a person."""
        if self.aggregate is not None:
            return {"plan": aggregate_plan.text(self.aggregate), "figures": "none: each table is a release and costs"}
        if self.run is None:
            return {"plan": "refused"}
        run = self.run
        lowest = "" if run.exact else "at least "
        figures: dict[str, object] = {
            "rows": f"{run.rows_in:,}",
            "suppressed": f"{run.rows_suppressed:,} ({run.share:.2%}; allowed {run.max_suppression:.0%})",
        }
        if run.k_required:
            figures |= {
                "classes": f"{run.classes:,}, of which {run.classes_failing:,} miss a bound",
                "k": f"{lowest}{run.k_met} (required {run.k_required}; {run.k_lowest} before suppression)",
                "l": [f"{name} {met} (required {run.l_required[name]})" for name, met in run.l_met.items()] or "-",
                "uniques": f"{run.uniques_before:.2%} of persons alone in a class before suppression",
                "effectiveness": certificate.text(run.certificate, at_least=not run.exact),
            }
        if run.rows_suppressed or run.classes_failing:
            figures["worst columns"] = [
                f"{c.name} (without it {c.suppressed_without:,} suppressed)" for c in run.columns[:3]
            ]
        return figures

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program."""
        run = self.run
        return {
            "purpose": self.purpose,
            "passes": self.passes,
            "problems": list(self.problems),
            "rowsIn": run.rows_in if run else 0,
            "rowsSuppressed": run.rows_suppressed if run else 0,
            "kRequired": run.k_required if run else 0,
            "kMet": run.k_met if run else 0,
            "lRequired": run.l_required if run else {},
            "lMet": run.l_met if run else {},
            "uniquesBefore": run.uniques_before if run else 0,
            "effectiveness": msgspec.to_builtins(run.certificate) if run else None,
            "findings": [{"column": f.column, "kind": str(f.kind), "rows": f.rows} for f in run.findings]
            if run
            else [],
            "aggregate": msgspec.to_builtins(self.aggregate),
            "worstColumns": [c.name for c in run.columns] if run else [],
            "sample": run.sample.rows(named=True) if run else [],
        }


def format_of(data: Path, form: str | None) -> sources.Format:
    """The format that is named, else told by the ending, else Parquet. Raises INVALID_ARGUMENT."""
    chosen = form or ENDINGS.get(data.suffix.lower(), "parquet")
    if chosen not in FORMATS:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"no such format: {chosen[:40]!r}; {nearest(chosen, FORMATS)}")
    return chosen  # type: ignore[return-value]


def source_settings(
    data: Path,
    form: str | None = None,
    *,
    columns: Iterable[str] | None = None,
    separator: str = ",",
    null_values: Iterable[str] | None = None,
) -> sources.SourceSettings:
    """Where to read from, and how; `columns` are stated types, `NAME=TYPE` each. Raises INVALID_ARGUMENT for
    a file that is not there, an unknown format or separator, CONFIG_INVALID for an unknown type."""
    if not any(mark in str(data) for mark in "*?[") and not data.exists():
        raise _nothing(data)
    if len(separator) != 1:
        raise SluicegateError(Reason.INVALID_ARGUMENT, "a separator is one character; a tab is written $'\\t'")
    settings = sources.SourceSettings(
        path=str(data.absolute()),
        format=format_of(data, form),
        columns=dict(_stated(column) for column in columns or ()),
        separator=separator,
        null_values=tuple(null_values or ()),
    )
    sources.open(settings)
    return settings


def _stated(column: str) -> tuple[str, str]:
    name, equals, spelling = column.rpartition("=")
    if not equals or not name:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"{column[:80]!r} states no type; write NAME=TYPE, such as home_postcode=string"
        )
    return name, spelling


def _nothing(data: Path) -> SluicegateError:
    shown = data.relative_to(Path.cwd()) if data.is_relative_to(Path.cwd()) else data
    told = f"there is no file, folder or glob {shown} with anything to read"
    return SluicegateError(Reason.INVALID_ARGUMENT, told, remedy="name data that is there")


def try_contract(
    loaded: LoadedContract,
    settings: sources.SourceSettings,
    *,
    purpose: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Tried, ...]:
    """Rehearse one purpose, or all, on the source of these settings, read as a gateway would; `tell` hears
    of each stage.

    Raises SOURCE_UNAVAILABLE, DATA_INVALID, and INVALID_ARGUMENT for an unknown purpose and for settings
    that lead to no file.
    """
    contract = loaded.contract
    names = purposes_of(contract, purpose)
    source = opened(contract, settings)
    with tempfile.TemporaryDirectory() as scratch:
        return tuple(_try(contract, name, source, Path(scratch) / "spool", tell) for name in names)


def purposes_of(contract: Contract, purpose: str | None) -> tuple[str, ...]:
    """The purpose that is named, or all. Raises INVALID_ARGUMENT for one that is not there."""
    if purpose is None:
        return tuple(contract.purposes)
    if purpose not in contract.purposes:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"no such purpose: {purpose[:60]!r}; {nearest(purpose, contract.purposes)}"
        )
    return (purpose,)


def opened(contract: Contract, settings: sources.SourceSettings) -> sources.Source:
    """The source of these settings, read by the contract's types. Raises INVALID_ARGUMENT where there is
    nothing: a gateway's source may well be away for a while; here somebody named data to be read now."""
    if not sources.matching(settings):
        raise _nothing(Path(settings.path))
    return sources.open(settings, contract.fields)


def compiled(contract: Contract, purpose: str, source: sources.Source) -> Plan:
    """The plan of a purpose on a source, by the standard that the contract names. Raises PLAN_REFUSED."""
    rules = standard.load(contract.sharing.standard)
    return plan.compile(plan.terms_for(contract, purpose), contract, source.schema(), rules)


def _try(contract: Contract, purpose: str, source: sources.Source, spool: Path, tell: Callable[[str], None]) -> Tried:
    try:
        planned = compiled(contract, purpose, source)
        if planned.aggregate is not None:
            return Tried(purpose, None, aggregate=planned.aggregate.stated)
        run = dry_run(
            planned, source, spool=spool, entropy=os.urandom, tell=lambda stage: tell(f"purpose {purpose}: {stage}")
        )
        return Tried(purpose, run)
    except SluicegateError as error:
        if error.reason not in OF_THE_PURPOSE:
            raise
        return Tried(purpose, None, error.violations or (Violation(purpose, error.message),))
