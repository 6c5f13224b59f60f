"""`sluicegate effectiveness`: a file that is masked already, held to a purpose of a contract."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from connectors import sources
from connectors.measures import judging, privacy
from connectors.measures.judging import Judgement
from connectors.measures.origin import Origin
from connectors.measures.population import Population
from connectors.sources.base import dtype_of
from connectors.sources.text import LOGICAL
from contracts import as_masked, certificate, standard
from contracts.as_masked import AsMasked
from contracts.certificate import SLACK
from contracts.errors import Reason, SluicegateError
from contracts.model import Contract
from contracts.odcs import LoadedContract
from exchange.trying import compiled, opened, purposes_of


@dataclass(frozen=True)
class Judged:
    """A file, what it was held to, and how it went. `name` is the file's name without its folder."""

    name: str
    purpose: str
    held: AsMasked
    found: Judgement

    @property
    def passes(self) -> bool:
        """Whether every bound of the purpose is met, and nothing is in the file that may not be."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a line each."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        plan, found = self.held.plan, self.found
        for name in self.held.strange:
            yield f"{name}: {self.purpose} does not send this column"
        for name in found.unlike:
            yield f"{name}: a direct identifier that does not look like {self.held.masks[name].id}"
        for finding in found.findings:
            yield f"{finding}: no mask removed them"
        if plan.suppress_small is not None and found.failing_rows:
            small = plan.suppress_small
            yield f"{found.failing_rows:,} rows that fewer than {small.k} are like, by {', '.join(small.fields)}"
        if found.certificate is None:
            return
        if found.k < (plan.k or 0):
            yield f"k is {found.k}, required is {plan.k}"
        for name, least in plan.sensitive.items():
            if found.l[name] < least:
                yield f"l of {name} is {found.l[name]}, required is {least}"
        for name, spread in sorted(found.certificate.spread.items()):
            if missed := certificate.exceeds(spread):
                yield f"{name}: {missed}"
        if found.risky:
            yield f"the overall risk R is {found.certificate.risk:.4f}, allowed is {plan.max_risk:g}"
        allowed = privacy.allowed(plan)
        if found.suppressed is not None and found.certificate.suppressed > allowed + SLACK:
            share = found.certificate.suppressed
            yield f"{share:.2%} of the source's rows in scope are not in the file, allowed is {allowed:.0%}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the figures must know, a line each."""
        return tuple(self._remarks())

    def _remarks(self) -> Iterator[str]:
        if self.found.certificate is None:
            small = self.held.plan.suppress_small
            counted = f"; {small.words}, leave" if small else ", so there are no classes to measure"
            yield f"the data is about no person{counted}"
            return
        if not self.held.persons_known:
            yield "the file does not tell persons apart: every row counts as one person"
        elif not self.held.persons_certain:
            yield "the pseudonym changes with the time: a person counts once for each period that rows fall in"
        if self.held.missing:
            yield f"the purpose also sends {', '.join(self.held.missing)}: the file has no such column"
        chance = [
            name for name in self.held.plan.quasi_identifiers if (m := self.held.masks.get(name)) and m.randomised
        ]
        if chance:
            yield f"chance went into {', '.join(chance)}: counted as it lies in the file, so classes look smaller"
        if self.found.certificate.journalist_risk is not None:
            known = set(self.found.known_by)
            if missing := [name for name in self.held.plan.quasi_identifiers if name not in known]:
                yield f"the register is matched by {', '.join(self.found.known_by)}, not by {', '.join(missing)}"

    @property
    def loss(self) -> float | None:
        """The mean loss over all quasi-identifiers; None where one of them is not known."""
        return self.found.certificate.loss if self.found.certificate else None

    def figures(self) -> dict[str, object]:
        """The judgement for a person."""
        found, plan = self.found, self.held.plan
        paper = found.certificate
        figures: dict[str, object] = {"rows": f"{found.rows:,}"}
        if paper is None:
            return figures | {"effectiveness": certificate.NOBODY, "identifiers": _told(found)}
        journalist = "no register given" if paper.journalist_risk is None else f"{paper.journalist_risk:.4f}"
        return figures | {
            "counted by": (plan.entity or "") if self.held.persons_known else "rows: no column tells persons apart",
            "classes": f"{found.classes:,} by {', '.join(plan.quasi_identifiers)}; {found.failing:,} miss a bound "
            f"({found.failing_rows:,} rows)",
            "k": f"{found.k} (required {plan.k})",
            "l": [f"{name} {met} (required {plan.sensitive[name]})" for name, met in found.l.items()] or "-",
            "effectiveness": certificate.text(paper, at_least=False),
            "DR_a, DR_b, DR_c": f"{paper.dr_a:.4f}, {paper.dr_b:.4f}, {paper.dr_c:.4f}",
            "risks": f"prosecutor {paper.prosecutor_risk:.4f}, journalist {journalist}, "
            f"marketer {paper.marketer_risk:.4f}",
            "uniques": f"{paper.uniques:.2%} of persons alone in a class",
            "discernibility": "-" if paper.discernibility is None else f"{paper.discernibility:,.1f}",
            "loss": self.loss_text,
            "identifiers": _told(found),
        }

    @property
    def loss_text(self) -> str:
        """The information lost, in words."""
        if self.found.suppressed is None and not self.found.loss:
            return "not known without the source"
        share = self.found.certificate.suppressed if self.found.certificate else 0.0
        columns = ", ".join(
            f"{name} {'not known' if loss is None else f'{loss:.4f}'}" for name, loss in self.found.loss.items()
        )
        whole = "not known" if self.loss is None else f"{self.loss:.4f}"
        if self.found.suppressed is None:
            return f"{whole} ({columns}); of a sample, so that rows left out are not known"
        return f"{whole} ({columns}); {self.found.suppressed:,} rows left out ({share:.2%})"

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program. No cell values."""
        found, plan = self.found, self.held.plan
        return {
            "file": self.name,
            "purpose": self.purpose,
            "passes": self.passes,
            "problems": list(self.problems),
            "remarks": list(self.remarks),
            "rows": found.rows,
            "entity": plan.entity if self.held.persons_known else None,
            "quasiIdentifiers": list(plan.quasi_identifiers),
            "classes": found.classes,
            "classesFailing": found.failing,
            "rowsFailing": found.failing_rows,
            "kRequired": plan.k or 0,
            "kMet": found.k,
            "lRequired": plan.sensitive,
            "lMet": dict(found.l),
            "effectiveness": msgspec.to_builtins(found.certificate) if found.certificate else None,
            "rowsSuppressed": found.suppressed,
            "loss": self.loss,
            "lossByColumn": dict(found.loss),
            "registerColumns": list(found.known_by),
            "findings": [{"column": f.column, "kind": str(f.kind), "rows": f.rows} for f in found.findings],
        }


def _told(found: Judgement) -> object:
    return [str(finding) for finding in found.findings] or "none found"


def judge_file(
    loaded: LoadedContract,
    settings: sources.SourceSettings,
    *,
    purpose: str | None = None,
    register: sources.SourceSettings | None = None,
    origin: sources.SourceSettings | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Judged:
    """Judge the file of these settings by one purpose of a contract; `register` and `origin` (what the file was
    made from) are raw data, columns as in the contract.

    Raises INVALID_ARGUMENT for an unknown purpose, none where there are several, or settings that lead to no
    file; PLAN_REFUSED, DATA_INVALID, SOURCE_UNAVAILABLE.
    """
    contract = loaded.contract
    names = purposes_of(contract, purpose)
    if len(names) != 1:
        told = f"the contract has {len(names)} purposes; say which one the file was masked for"
        raise SluicegateError(Reason.INVALID_ARGUMENT, told, remedy=f"--purpose, one of {', '.join(names)}")
    (name,) = names
    rules = standard.load(contract.sharing.standard)
    source = _masked(contract, name, settings)
    if contract.purposes[name].aggregate is not None:
        told = f"{name} sends aggregates: their promise is their noise, which no look at a file can judge"
        raise SluicegateError(Reason.INVALID_ARGUMENT, told, remedy="name a purpose that sends rows")
    held = as_masked.of_file(contract, name, source.schema(), rules)
    made_from = None
    if origin is not None:
        raw = opened(contract, origin)
        made_from = Origin(compiled(contract, name, raw), raw)
    people = None
    if register is not None:
        bounds = contract.purposes[name].effectiveness
        if bounds is None:
            raise SluicegateError(Reason.INVALID_ARGUMENT, "the data is about no person: nobody can be looked up in it")
        people = Population.of(opened(contract, register), held.plan, held.masks, bounds.entity)
    with tempfile.TemporaryDirectory() as scratch:
        found = judging.judge(
            held,
            source,
            spool=Path(scratch) / "spool",
            entropy=os.urandom,
            origin=made_from,
            population=people,
            tell=tell,
        )
    return Judged(Path(settings.path).name, name, held, found)


def _masked(contract: Contract, purpose: str, settings: sources.SourceSettings) -> sources.Source:
    """The file, read by the types that the purpose's masks make, where it has none of its own."""
    kinds = {name: dtype_of(dtype) for name, dtype in LOGICAL.items()}
    types = as_masked.types_of_text(contract, purpose, kinds)
    stated = {name: str(dtype) for name, dtype in types.items()} | settings.columns
    if settings.format not in ("csv", "ndjson"):
        stated = settings.columns
    masks = contract.purposes[purpose].fields
    kept = [field for field in contract.fields if (mask := masks.get(field.name)) is not None and mask.strength == 0]
    if not sources.matching(settings):
        opened(contract, settings)  # says that there is nothing
    return sources.open(msgspec.structs.replace(settings, columns=stated), kept)
