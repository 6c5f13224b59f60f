"""`contract propose`: a contract amended so that its bounds are met, at the least loss."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from connectors import sources
from connectors.measures import proposing
from connectors.measures.proposing import Proposal
from contracts import odcs
from contracts.amending import amend
from contracts.errors import Reason, SluicegateError
from contracts.model import Contract
from contracts.odcs import LoadedContract
from contracts.techniques import written
from contracts.yaml12 import Json, Path
from exchange.trying import Tried, compiled, opened, purposes_of, try_contract


@dataclass(frozen=True)
class Proposed:
    """What was found for one purpose. `before` and `after`: how the contract and its amendment fare in the
    real pipeline; `amended`: the bytes of the next version. Without a `proposal` there is neither."""

    purpose: str
    before: Tried
    proposal: Proposal | None = None
    amended: bytes = b""
    after: Tried | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program."""
        found = self.proposal
        return {
            "purpose": self.purpose,
            "passes": self.before.passes,
            "proposal": None
            if found is None
            else {
                "masks": {name: written(mask) for name, mask in found.masks.items()},
                "loss": round(found.loss, 6),
                "lossOfMasksNow": round(found.loss_now, 6),
                "suppressed": round(found.suppressed, 6),
                "measured": found.measured,
                "combinations": found.nodes,
                "complete": found.complete,
            },
            "after": None if self.after is None else self.after.as_json(),
        }


def propose_contract(
    loaded: LoadedContract,
    settings: sources.SourceSettings,
    *,
    purpose: str | None = None,
    most_suppressed: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Proposed:
    """The least-loss amendment of one purpose (the only one about persons, unless named), tried on data.

    `most_suppressed`: the share of rows that may be left out; None: what the contract allows.
    Raises INVALID_ARGUMENT for a purpose that is not there, is not the only one, or has no bounds; PLAN_REFUSED
    where the contract breaks other rules; what `try_contract` raises of the data.
    """
    contract = loaded.contract
    name = _chosen(contract, purpose)
    (before,) = try_contract(loaded, settings, purpose=name, tell=tell)
    if before.run is None:
        raise SluicegateError(
            Reason.PLAN_REFUSED, f"coarser masks do not mend the purpose {name}", before.violations, {"purpose": name}
        )
    source = opened(contract, settings)
    planned = compiled(contract, name, source)
    found = proposing.propose(planned, source, entropy=os.urandom, most_suppressed=most_suppressed, tell=tell)
    if found is None:
        return Proposed(name, before)
    amended = amend(loaded.raw, list(_changes(loaded, name, found)), name="the amendment")
    (after,) = try_contract(odcs.load(amended), settings, purpose=name, tell=tell)
    return Proposed(name, before, found, amended, after)


def _chosen(contract: Contract, purpose: str | None) -> str:
    about_persons = [name for name in purposes_of(contract, purpose) if contract.purposes[name].effectiveness]
    if len(about_persons) == 1:
        return about_persons[0]
    if not about_persons:
        told = "no purpose here has bounds that could be missed"
        raise SluicegateError(Reason.INVALID_ARGUMENT, told, remedy="name a purpose about persons")
    raise SluicegateError(
        Reason.INVALID_ARGUMENT,
        f"say which purpose: {', '.join(about_persons)}",
        remedy="name it with --purpose; each is amended by itself",
    )


def _changes(loaded: LoadedContract, purpose: str, found: Proposal) -> Iterator[tuple[Path, Json]]:
    """What is set anew in the document, and where."""
    major = int(str(loaded.contract.version).partition(".")[0])
    yield ("version",), f"{major + 1}.0.0"
    items = loaded.document["customProperties"]
    index = next(index for index, item in enumerate(items) if item["property"] == "purposes")
    at: Path = ("customProperties", index, "value", purpose)
    now = items[index]["value"][purpose]
    for name, mask in found.masks.items():
        said, wanted = now["fields"][name], written(mask)
        if said["mask"] != wanted["mask"]:
            yield (*at, "fields", name), wanted
            continue
        old = written(loaded.contract.purposes[purpose].fields[name])
        for key, value in wanted.items():
            if value != old.get(key) and (key in said or key in old or key != "origin"):
                yield (*at, "fields", name, key), value
    judged = loaded.contract.purposes[purpose].effectiveness
    if judged is not None and found.suppressed > (judged.require.max_suppression or 0.0):
        yield (*at, "effectiveness", "onViolation"), "suppress"
        yield (*at, "effectiveness", "require", "maxSuppression"), math.ceil(found.suppressed * 1000) / 1000
