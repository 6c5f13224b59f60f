"""One policy decision: how long it takes by either engine, for contracts of few fields and of many."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import masks, servers, stage
from benchmarks.results import Result, Table, percentile
from contracts import lint, standard
from contracts import plan as plans
from contracts.agreement import Agreement
from contracts.canonical import digest
from contracts.dtypes import STRING
from contracts.envelope import SigningKey
from contracts.instants import rfc3339
from contracts.model import Contract
from contracts.policy import inputs
from contracts.policy.embedded import EmbeddedEngine
from contracts.policy.engine import Action, PolicyEngine
from contracts.policy.opa_server import OpaServerEngine

FIELDS = (20, 50, 200)
NOW = 1_772_442_000  # an instant within the agreement


@dataclass(frozen=True)
class Scale:
    """Decisions asked for, each."""

    decisions: int = 200


FULL, QUICK = Scale(), Scale(5)


def run(folder: Path, *, quick: bool) -> Result:
    """The benchmark. Without an OPA at hand only the embedded engine is asked."""
    scale = QUICK if quick else FULL
    del folder
    table = Table(
        "One transfer decision, at the gateway, on the compiled plan",
        ("engine", *(f"{fields} fields: p50 ms, p99 ms" for fields in FIELDS)),
    )
    figures: dict[str, Any] = {}
    agreed: dict[str, bool] = {}
    with contextlib.ExitStack() as stack:
        engines: dict[str, PolicyEngine] = {"embedded": EmbeddedEngine()}
        if servers.opa():
            url = stack.enter_context(servers.opa_server())
            engines["OPA server"] = stack.enter_context(
                contextlib.closing(OpaServerEngine(url, unsafe_plaintext=True, timeout=10))
            )
        for name, engine in engines.items():
            figures[name] = {}
            for fields in FIELDS:
                took, allowed = _asked(engine, fields, scale)
                agreed[f"{name} allows it, {fields} fields"] = allowed
                figures[name][str(fields)] = {
                    "p50_ms": round(statistics.median(took) * 1e3, 2),
                    "p99_ms": round(percentile(took, 0.99) * 1e3, 2),
                }
            table.rows.append((name, *(f"{one['p50_ms']:.2f}, {one['p99_ms']:.2f}" for one in figures[name].values())))
    return Result(
        name="policy",
        title="Policy decisions",
        setting={"decisions": scale.decisions, "fields": list(FIELDS)},
        figures=figures,
        tables=[table],
        checks=agreed,
    )


def _asked(engine: PolicyEngine, fields: int, scale: Scale) -> tuple[list[float], bool]:
    """Seconds of each decision, the making of its input included; and whether all allowed."""
    contract = _contract(fields)
    plan = plans.compile(
        plans.terms_for(contract, masks.PURPOSE),
        contract,
        {field.name: STRING for field in contract.fields},
        standard.load(),
    )
    agreement, allowed = _agreement(contract), True
    subject = inputs.Subject("company-1", "company", "planner@company-1.example", ("requester",))
    took = []
    for number in range(scale.decisions + 2):
        began = time.perf_counter()
        question = inputs.transfer(subject, contract, agreement, "ACTIVE", plan, NOW)
        decision = engine.decide(Action.TRANSFER, question)
        if number >= 2:  # the first ones warm up
            took.append(time.perf_counter() - began)
        allowed = allowed and decision.allow
    return took, allowed


def _contract(fields: int) -> Contract:
    """A standing offer of so many columns, under six masks by turns."""
    document = yaml.safe_load((masks.CONTRACTS / "readings.odcs.yaml").read_text())
    masked = (
        {"mask": "keep"},
        {"mask": "prefix", "length": 3},
        {"mask": "partial", "keep_first": 3},
        {"mask": "hmac", "domain": "meter"},
        {"mask": "constant", "value": "withheld"},
        {"mask": "null"},
    )
    names = [f"column_{number:03d}" for number in range(fields)]
    document["schema"][0]["properties"] = [
        {
            "name": name,
            "logicalType": "string",
            "classification": "open",
            "customProperties": [{"property": "identifiability", "value": "none"}],
        }
        for name in names
    ]
    (purposes,) = (item["value"] for item in document["customProperties"] if item["property"] == "purposes")
    purposes[masks.PURPOSE]["fields"] = {name: masked[at % len(masked)] for at, name in enumerate(names)}
    return lint.check(json.dumps(document).encode()).contract  # JSON is YAML


def _agreement(contract: Contract) -> Agreement:
    return Agreement(
        id="agreements/a-aaaaaaaaaa",
        provider=stage.DEPARTMENT,
        dataset=contract.dataset,
        consumer="company-1",
        request_digest=digest("request"),
        approvals=(),
        document_digest=contract.document_digest,
        terms_digest=contract.terms_digest,
        purpose=masks.PURPOSE,
        fields=tuple(contract.purposes[masks.PURPOSE].fields),
        holder=SigningKey.from_seed(bytes(32)).public,
        gateway=stage.GATEWAY,
        standard_digest=standard.load().digest,
        policy_digest=digest("policy"),
        not_before=rfc3339(NOW - 86_400),
        not_after=rfc3339(NOW + 80 * 86_400),
    )
