"""R1: what one masked, measured, receipted transfer costs, beside the masks alone and beside peers.

Everybody takes part in every round, one after another, in an order that turns; a ratio is the median of
the ratios within a round.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import data, machine, masks, stage
from benchmarks.results import Aim, Result, Table, ratio, summary
from benchmarks.stage import Stage
from benchmarks.workers import Worker
from exchange.client import Exchange

PLANNER = stage.profile(1)
REFRESHED = 2.1  # seconds after which a pull makes its release anew, by the contracts' refresh interval


@dataclass(frozen=True)
class Scale:
    """How large, and how often."""

    rows: int = 5_000_000
    rounds: int = 5
    sample: int = 250_000  # rows that pandas is given
    warm_up: bool = True


FULL, QUICK = Scale(), Scale(rows=200_000, rounds=1, sample=20_000, warm_up=False)
Runner = Callable[[], dict[str, Any]]
LOOK = "in every line but the first: all rows looked through for identifiers, images, templates"

# Contenders by key, and how the tables name them.
NAMES = {
    "masks": "(a) the masking expressions alone, collected",
    "duckdb": "(b) DuckDB, the same masks",
    "duckdb-plain": "DuckDB, one SHA-256 over key and id instead of HMAC",
    "pandas": "(c) pandas and hashlib, scaled from a sample",
    "flight": "(d) raw Flight of the unmasked table, TLS",
    "pull": "**pull, everything on, to memory**",
    "pull-parquet": "pull, everything on, to Parquet",
    "things-masks": "(a) for the data about no person",
    "things": "**pull of data about no person, to memory**",
}
# Steps of the price table: what is on, one more at a time.
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "served": (
        "released in parts, hashed by the gateway, served in plaintext, source order",
        {"tls": False, "digest": False, "bounds": False, "order": "source", "hash": "blake3"},
    ),
    "tls": ("+ TLS", {"tls": True, "digest": False, "bounds": False, "order": "source", "hash": "blake3"}),
    "digest": (
        "+ content digest recomputed by the consumer",
        {"tls": True, "digest": True, "bounds": False, "order": "source", "hash": "blake3"},
    ),
    "keyed": ("+ keyed order", {"tls": True, "digest": True, "bounds": False, "order": "keyed", "hash": "blake3"}),
    "k": (
        "+ k over five quasi-identifiers",
        {"tls": True, "digest": True, "bounds": True, "order": "keyed", "hash": "blake3"},
    ),
    "sha-256": (
        "the same, hashed with SHA-256 on both sides instead of BLAKE3",
        {"tls": True, "digest": True, "bounds": True, "order": "keyed", "hash": "sha-256"},
    ),
    "l": (
        "the same, and l of 2 on the amounts",
        {"tls": True, "digest": True, "bounds": True, "order": "keyed", "hash": "blake3", "least": {"amount": 2}},
    ),
}


def run(folder: Path, *, quick: bool) -> Result:
    """The benchmark, in an empty folder."""
    scale = QUICK if quick else FULL
    people, readings = folder / "people.parquet", folder / "readings.parquet"
    data.write_people(people, scale.rows)
    data.write_readings(readings, people)
    with contextlib.ExitStack() as stack:
        city = stack.enter_context(stage.city(folder / "home"))
        runners = _contenders(stack, city, folder, people, readings, scale)
        rounds = _rounds(runners, scale)
        checks = {**_same_masks(people, scale), **_outcomes(rounds, scale), **_pulled(city, people, folder)}
    return _result(scale, rounds, checks, people.stat().st_size)


def _contenders(
    stack: contextlib.ExitStack, city: Stage, folder: Path, people: Path, readings: Path, scale: Scale
) -> dict[str, Runner]:
    def worker(kind: str, *arguments: object) -> Worker:
        return stack.enter_context(Worker(kind, *arguments))

    agreed = {
        "people": _agreement(city, "people", people),
        "readings": _agreement(city, "readings", readings),
    }
    masked, things = worker("masks", people, "people"), worker("masks", readings, "readings")
    look = worker("look", people, "people")
    duckdb, pandas = worker("duckdb", people), worker("pandas", people, scale.sample)
    server, reader = worker("flight", people), worker("read")
    gate, fetcher = worker("gate", people, "people"), worker("fetch")
    stack.callback(lambda: gate.ask(clean=True))
    puller = worker("pull", city.home.root, PLANNER)
    raw, bare = server.ask(), gate.ask()

    def pull(dataset: str, **call: object) -> dict[str, Any]:
        pids = [city.pid("exchange"), city.pid(stage.GATEWAY)]
        time.sleep(REFRESHED)
        used = sum(map(machine.cpu_seconds, pids))
        answer = puller.ask(agreement=agreed[dataset], **call)
        return answer | {"cpu": answer["cpu"] + sum(map(machine.cpu_seconds, pids)) - used}

    def step(wanted: dict[str, Any]) -> dict[str, Any]:
        call = {key: value for key, value in wanted.items() if key != "tls"}
        used = machine.cpu_seconds(gate.pid)
        answer = fetcher.ask(location=bare["tls" if wanted["tls"] else "plain"], ca=bare["ca"], **call)
        return answer | {"cpu": answer["cpu"] + machine.cpu_seconds(gate.pid) - used}

    def steps(key: str) -> Runner:
        return lambda: step(STEPS[key][1])

    return {
        "masks": masked.ask,
        "look": look.ask,
        "duckdb": duckdb.ask,
        "duckdb-plain": lambda: duckdb.ask(hmac_sha256=False),
        "pandas": pandas.ask,
        "flight": lambda: reader.ask(location=raw["location"], ca=raw["ca"]),
        "things-masks": things.ask,
        "things": lambda: pull("readings"),
        "pull": lambda: pull("people"),
        "pull-parquet": lambda: pull("people", to=str(folder / "pulled.parquet")),
        **{key: steps(key) for key in STEPS},
    }


def _agreement(city: Stage, dataset: str, source: Path) -> str:
    document = (masks.CONTRACTS / f"{dataset}.odcs.yaml").read_bytes()
    return city.agree(PLANNER, city.publish(document, source), masks.PURPOSE)


def _rounds(runners: dict[str, Runner], scale: Scale) -> dict[str, list[dict[str, Any]]]:
    """Everybody once to warm up, then everybody in every round, beginning with another one each time."""
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in runners}
    keys = list(runners)
    for number in range(-1 if scale.warm_up else 0, scale.rounds):
        turn = number * 3 % len(keys)
        for key in keys[turn:] + keys[:turn]:
            answer = runners[key]()
            if number >= 0:
                found[key].append(answer)
    return found


# --- correctness


def _same_masks(people: Path, scale: Scale) -> dict[str, bool]:
    import duckdb

    source = masks.opened(people)
    ours = masks.by_polars(masks.compiled("people", source), source)
    return {
        "DuckDB computes the same values, every row": masks.same(ours, masks.by_duckdb(duckdb.connect(), people)),
        "pandas computes the same values, every row of the sample": masks.same(
            ours, masks.by_pandas(masks.sample(people, scale.sample))
        ),
    }


def _outcomes(rounds: dict[str, list[dict[str, Any]]], scale: Scale) -> dict[str, bool]:
    whole = (
        "masks",
        "look",
        "duckdb",
        "duckdb-plain",
        "flight",
        "things-masks",
        "things",
        "served",
        "tls",
        "digest",
        "keyed",
    )
    hashed = [answer for key in ("digest", "keyed", "k", "sha-256", "l") for answer in rounds[key]]
    ordered = {answer["announced"] for key in ("served", "tls", "digest") for answer in rounds[key]}
    shuffled = [answer["content_digest"] for answer in rounds["pull"] + rounds["pull-parquet"]]
    return {
        "every row arrives where no bound can suppress one": all(
            answer["rows"] == scale.rows for key in whole for answer in rounds[key]
        ),
        "the consumer finds the digest that the gateway announced": all(
            answer["found"] == answer["announced"] for answer in hashed
        ),
        "the same rows in the same order under the same key have the same content digest": len(ordered) == 1,
        "no two releases in keyed order have the same content digest": len(set(shuffled)) == len(shuffled),
    }


def _pulled(city: Stage, people: Path, folder: Path) -> dict[str, bool]:
    """What the last pull wrote, against the masks alone: the same rows but for the pseudonyms, whose key is
    the agreement's own, less those that the receipt says were suppressed."""
    pulled = pl.read_parquet(folder / "pulled.parquet")
    source = masks.opened(people)
    expected = masks.by_polars(masks.compiled("people", source), source)
    columns = [name for name in pulled.columns if name != "id"]
    quasi = ["phone", "age", "address", "ts", "district"]
    k = expected.group_by(quasi).len()
    stays = expected.join(k.filter(pl.col("len") >= 10), on=quasi, how="semi")
    with Exchange(city.home.profile(PLANNER)) as client:
        states = [found.state for found in client.transfers()]
    return {
        "the pulled rows are the masked rows of all classes of ten and more": _counted(pulled, columns).equals(
            _counted(stays, columns)
        ),
        "every person has a pseudonym of its own": pulled["id"].n_unique() == pulled.height,
        "every transfer was receipted and acknowledged": bool(states) and set(states) == {"ACKNOWLEDGED"},
    }


def _counted(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    return frame.group_by(columns).len().sort(columns)


# --- telling


def _result(scale: Scale, rounds: dict[str, list[dict[str, Any]]], checks: dict[str, bool], size: int) -> Result:
    seconds = {key: [answer["seconds"] for answer in answers] for key, answers in rounds.items()}
    seconds["pandas"] = [value * scale.rows / scale.sample for value in seconds["pandas"]]
    cpu = {key: statistics.median(answer["cpu"] for answer in answers) for key, answers in rounds.items()}
    cpu["pandas"] *= scale.rows / scale.sample
    to_masks = {key: ratio(values, seconds["masks"]) for key, values in seconds.items()}
    to_duckdb = ratio(seconds["pull"], seconds["duckdb"])
    things = ratio(seconds["things"], seconds["things-masks"])
    first = statistics.median(answer["first_byte"] for answer in rounds["pull"])
    figures: dict[str, object] = {
        "seconds": {key: summary(values) for key, values in seconds.items()},
        "cpu_seconds": {key: round(value, 3) for key, value in cpu.items()},
        "ratio_to_masks": {key: round(value, 3) for key, value in to_masks.items()},
        "pull_to_duckdb": round(to_duckdb, 3),
        "things_to_masks": round(things, 3),
        "seconds_to_first_byte": round(first, 3),
        "rows_a_second": round(scale.rows / statistics.median(seconds["pull"])),
    }
    return Result(
        name="transfer",
        title=f"R1: {scale.rows:,} rows x 7 columns, exchange, gateway and consumer as processes",
        setting={"rows": scale.rows, "rounds": scale.rounds, "parquet_bytes": size, "pandas_sample": scale.sample},
        figures=figures,
        tables=[
            _table_of_contenders(seconds, cpu, to_masks, things),
            _table_of_prices(seconds, cpu, to_masks),
        ],
        checks=checks,
        aims=[
            Aim("pull, everything on / (a)", "at most 2.5", f"{to_masks['pull']:.2f}", to_masks["pull"] <= 2.5),
            Aim("pull, everything on / (b)", "below 1", f"{to_duckdb:.2f}", to_duckdb < 1),
            Aim("pull of data about no person / (a)", "at most 1.7", f"{things:.2f}", things <= 1.7),
            Aim("time to first byte", "stated", f"{first:.2f} s", met=True),
        ],
    )


def _table_of_contenders(
    seconds: dict[str, list[float]], cpu: dict[str, float], to_masks: dict[str, float], things: float
) -> Table:
    table = Table(
        "Beside the masks alone and beside peers",
        ("who", "median s", "best s", "CPU s", "to (a)"),
        note="Ratios are medians of the ratios within a round. CPU seconds are of all processes of a contender, but "
        "for (d), where they are the reader's alone. For the data about no person, (a) is its own.",
    )
    for key, name in NAMES.items():
        values = seconds[key]
        relative = things if key == "things" else ratio(values, seconds["things-masks" if "thing" in key else "masks"])
        table.rows.append(
            (name, f"{statistics.median(values):.2f}", f"{min(values):.2f}", f"{cpu[key]:.2f}", f"{relative:.2f}")
        )
    del to_masks
    return table


def _table_of_prices(seconds: dict[str, list[float]], cpu: dict[str, float], to_masks: dict[str, float]) -> Table:
    table = Table(
        "What each guarantee costs",
        ("what is on", "median s", "CPU s", "to (a)", "more than the line before, in (a)"),
        note="Measured in a composition of the benchmark's own, without exchange and papers, up to the line that "
        "says so. The last lines but one stand against the line with k.",
    )
    before = to_masks["masks"]
    rows = [("masks", NAMES["masks"]), *((key, name) for key, (name, _) in STEPS.items())]
    rows.append(("pull", "the product: + identity, grant, signatures, intent, receipt, acknowledgement, ledger"))
    rows.append(("look", LOOK))
    for key, name in rows:
        base = to_masks["k"] if key in ("sha-256", "l", "pull") else before
        more = to_masks[key] - base
        table.rows.append(
            (
                name,
                f"{statistics.median(seconds[key]):.2f}",
                f"{cpu[key]:.2f}",
                f"{to_masks[key]:.2f}",
                "" if key in ("masks", "look") else f"{more:+.2f}",
            )
        )
        before = to_masks[key]
    return table
