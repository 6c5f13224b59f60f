"""pull, ticket, receipts: fetching data, and the papers that come with it."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli import progress as progresses
from exchange.cli.output import Form, Limit, Output, Overwrite, facts, listing, note, say, show_json
from exchange.cli.state import state

if TYPE_CHECKING:
    from exchange import views
    from exchange.client import Exchange

Agreement = Annotated[str, typer.Argument(help="agreements/a-... or just a-...", metavar="AGREEMENT")]


class FileFormat(StrEnum):
    """What a pulled file can be."""

    parquet = "parquet"
    csv = "csv"
    arrow = "arrow"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (pull, ticket, receipts):
        app.command()(command)


def pull(
    context: typer.Context,
    agreement: Agreement,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; .parquet, .csv or .arrow.")],
    form: Annotated[FileFormat | None, typer.Option("--format", help="Default by the ending.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file, at the very end.")] = False,
    csv_safe: Annotated[bool, typer.Option("--csv-safe", help="Defuse cells that begin like a formula.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    output: Output = Form.TABLE,
) -> None:
    """Fetch a masked release, verify it, acknowledge it.

    The file appears only once everything verified. A broken pull is resumed by the same command.
    The receipt is written beside it as FILE.receipt.json.
    """
    started = time.monotonic()
    with state(context).connect() as exchange, progresses.transfer(quiet) as progress:
        pulled = exchange.pull(
            agreement,
            to=out,
            format=form.value if form else None,
            overwrite=overwrite,
            csv_safe=csv_safe,
            progress=progress,
        )
    seconds = time.monotonic() - started
    summary, speed = pulled.summary(), round(pulled.rows / max(seconds, 1e-9))
    if output is Form.JSON:
        show_json({"file": str(out), **summary, "seconds": round(seconds, 2), "rowsPerSecond": speed})
        return
    say(str(out))
    facts(
        Form.TABLE,
        {
            "rows": f"{pulled.rows:,} in {seconds:.1f} s, {speed:,} rows/s; {summary['suppressed']:,} suppressed",
            "k": _met(summary["k"]) if summary["k"] else "about no person",
            "l": [f"{name} {_met(bound)}" for name, bound in summary["l"].items()] or "-",
            "effectiveness": pulled.judgement,
            "content digest": pulled.content_digest,
            "transfer": f"{pulled.transfer}, acknowledged",
            "receipt": summary["receipt"],
        },
    )
    if pulled.formulas:
        note(
            f"{pulled.formulas:,} cells begin like a formula (= + - @): never open this file in a spreadsheet; "
            "pull it again with --csv-safe for that"
        )
    if pulled.defused:
        note(
            f"{pulled.defused:,} cells or column names were defused, so this file is no longer what was attested: "
            "pull it without --csv-safe to check the data itself"
        )
    data = "" if pulled.defused else f" --data {out}"
    note(f"check it any time: sluicegate verify {summary['receipt']}{data}")


def _met(bound: dict[str, Any]) -> str:
    return f"{'at least ' if bound['atLeast'] else ''}{bound['met']} (required {bound['required']})"


def ticket(
    context: typer.Context,
    agreement: Agreement,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the ticket; readable by you alone.")],
    overwrite: Overwrite = False,
    output: Output = Form.TABLE,
) -> None:
    """Write a ticket for any Arrow Flight client.

    GetFlightInfo with the file's bytes as command, then DoGet for each endpoint, within ten minutes. With the header
    `sluicegate-accept: dictionaries`, columns of few values come as Arrow dictionaries: half the bytes or less.
    The certificate to trust is written beside it as FILE.ca.pem.
    """
    from exchange.keyfiles import demand_vacant, write_private_file

    certificate = out.with_name(out.name + ".ca.pem")
    demand_vacant(out, certificate, overwrite=overwrite)
    with state(context).connect() as exchange:
        granted, raw = exchange.ticket(agreement)
    write_private_file(out, raw)
    certificate.write_text(granted.gateway_ca_certificate)
    expires = granted.grant.payload.get("expires", "") if granted.grant else ""
    value = {
        "transfer": granted.name,
        "ticket": str(out),
        "address": granted.gateway_address,
        "caCertificate": str(certificate),
        "expires": expires,
    }
    if output is Form.JSON:
        show_json(value)
        return
    say(str(out))
    shown = {"address": granted.gateway_address, "certificate": certificate, "good until": expires}
    facts(Form.TABLE, {"transfer": granted.name, **shown})
    note(f"afterwards: sluicegate receipts {granted.name} --acknowledge FILE")


def receipts(
    context: typer.Context,
    transfer: Annotated[str | None, typer.Argument(help="Show one transfer's receipt.", metavar="[TRANSFER]")] = None,
    agreement: Annotated[str, typer.Option(help="Only of this agreement.")] = "",
    acknowledge: Annotated[
        Path | None, typer.Option(help="Recompute this file's digest and acknowledge the receipt.", metavar="FILE")
    ] = None,
    output: Output = Form.TABLE,
    limit: Limit = 50,
) -> None:
    """Transfers of your party and their receipts."""
    from exchange.names import last

    with state(context).connect() as exchange:
        if transfer is not None:
            found = exchange.transfer(transfer)
            if acknowledge is not None:
                from exchange.evidence import watch_ledger
                from exchange.pulling import digest_of

                with progresses.stages(f"recomputing the digest of {acknowledge}"):
                    digest = digest_of(acknowledge, found)
                found = exchange.acknowledge(found.name, content_digest=digest)
                note(f"acknowledged {found.name}")
                watch_ledger(exchange)
            shown = found.receipt.payload if found.receipt else {}
            if output is Form.JSON:
                show_json(found.as_json())
                return
            facts(
                Form.TABLE,
                {
                    "state": found.state,
                    **_failure(found),
                    "agreement": found.agreement,
                    "purpose": shown.get("purpose") or _purpose(exchange, found.agreement),
                    "rows": _rows(shown),
                    "content digest": shown.get("contentDigest", "-"),
                    "bounds": _bounds(shown["bounds"]) if "bounds" in shown else "-",
                    "effectiveness": _judgement(shown) if "bounds" in shown else "-",
                    "order": shown.get("order", "-"),
                    "acknowledged": "yes" if found.acknowledgement else "no",
                    "ledger entry": found.ledger_index if found.ledger_index >= 0 else "-",
                },
                title=found.name,
            )
            return
        listing(
            output,
            exchange.transfers(agreement, limit),
            {
                "TRANSFER": lambda t: last(t.name),
                "STATE": lambda t: t.state,
                "AGREEMENT": lambda t: last(t.agreement),
                "ROWS": lambda t: t.receipt.payload.get("rowsOut", "-") if t.receipt else "-",
                "ACKNOWLEDGED": lambda t: "yes" if t.acknowledgement else "no",
                "WHY": lambda t: t.failure_reason or "-",
                "WHEN": lambda t: t.create_time,
            },
            empty="no transfers",
        )


def _failure(found: views.Transfer) -> dict[str, object]:
    """Why it failed; its figures too, which the exchange shows to the department alone."""
    try:
        detail = json.loads(found.failure_detail or "{}")
        figures = {str(name): value for name, value in dict(detail).items()}
    except (ValueError, TypeError, RecursionError):
        figures = {"message": found.failure_detail}
    told = ": ".join(str(part) for part in (found.failure_reason, figures.pop("message", "")) if part)
    value: dict[str, object] = {"why": told or "-"}
    if violations := figures.pop("violations", ""):
        value["violations"] = violations
    if figures:
        value["figures"] = [f"{name.replace('_', ' ')} {figure}" for name, figure in figures.items()]
    return value


def _purpose(exchange: Exchange, agreement: str) -> str:
    """The purpose of a transfer that has no receipt yet, or will never have one."""
    from contracts.errors import Reason, SluicegateError

    try:
        return exchange.agreement(agreement).purpose
    except SluicegateError as error:
        if error.reason is not Reason.NOT_FOUND:
            raise
        return "-"


def _rows(shown: dict[str, Any]) -> str:
    if "rowsOut" not in shown:
        return "-"
    suppressed = f"{shown.get('rowsSuppressed', 0):,} suppressed"
    complete = "" if shown.get("complete") else "; not all parts left"
    return f"{shown['rowsOut']:,} left of {shown.get('rowsIn', 0):,}, {suppressed}{complete}"


def _bounds(bounds: dict[str, Any] | None) -> str:
    if not bounds:
        return "none (about no person)"
    least = "at least " if bounds.get("atLeast") else ""
    required = bounds.get("lRequired", {})
    met = "".join(f", l of {name} {n} (required {required.get(name)})" for name, n in bounds.get("lMet", {}).items())
    return f"k {least}{bounds.get('kMet')} (required {bounds.get('kRequired')}){met}"


def _judgement(shown: dict[str, Any]) -> str:
    """The certificate of a receipt, which is not verified here."""
    import msgspec

    from contracts import aggregate_plan, certificate
    from contracts.receipt import Aggregated, Bounds

    bounds = shown["bounds"]
    try:
        if shown.get("aggregate") is not None:
            return aggregate_plan.text(msgspec.convert(shown["aggregate"], Aggregated))
        if bounds is None:
            return certificate.NOBODY
        stated = msgspec.convert(bounds, Bounds)
    except msgspec.ValidationError:
        return "not readable: another version wrote this receipt"
    return certificate.text(stated.certificate, at_least=stated.at_least)
