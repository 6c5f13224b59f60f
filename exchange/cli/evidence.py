"""verify, evidence export, ledger: proof instead of opinion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.output import (
    Form,
    Limit,
    Output,
    Overwrite,
    note,
    say,
    shortened,
    show_json,
    show_table,
)
from exchange.cli.progress import stages
from exchange.cli.state import state

if TYPE_CHECKING:
    from exchange.config import Profile

evidence_app = typer.Typer(help="All papers of a transfer in one file.", no_args_is_help=True)
ledger_app = typer.Typer(invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(verify)
    app.add_typer(evidence_app, name="evidence")
    app.add_typer(ledger_app, name="ledger")


def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A receipt.json written by pull, or an evidence file.")],
    data: Annotated[Path | None, typer.Option(help="The pulled file, of any format: recompute its digest.")] = None,
    trust: Annotated[Path | None, typer.Option(help="Trust file; default the profile's.")] = None,
    revocations: Annotated[
        list[Path] | None,
        typer.Option(
            help="Keys taken back that the evidence may not show: what key list --output json printed; repeat.",
            metavar="FILE",
        ),
    ] = None,
    without_ledger: Annotated[
        bool,
        typer.Option("--without-ledger", help="Let it stand without proof in the ledger of when it was made."),
    ] = False,
    output: Output = Form.TABLE,
) -> None:
    """Verify a receipt or evidence offline, step by step.

    Believes nothing but the trust file. Exit code 8 if it does not stand, or shows no proof in the ledger.
    """
    from exchange import evidence
    from exchange.verifying import verify as verified

    pinned = trust if trust is not None else evidence.trust_of(_pinning(context))
    with stages(f"recomputing the digest of {data}" if data is not None else "verifying"):
        verdict = verified(file, trust=pinned, data=data, revocations=revocations or (), without_ledger=without_ledger)
    steps, stands, proven = verdict.steps, verdict.stands, verdict.proven
    if output is Form.JSON:
        show_json(
            {
                "stands": stands,
                "ledger": proven,
                "steps": [
                    {"number": s.number, "what": s.what, "ok": s.ok, "failed": s.failed, "detail": s.detail}
                    for s in steps
                ],
            }
        )
    else:
        show_table(
            ["", "STEP", "", "DETAIL"],
            [["ok" if s.ok else "FAILED" if s.failed else "-", s.number, s.what, s.detail] for s in steps],
        )
        counts = f"{sum(s.ok for s in steps)} of {len(steps)} steps hold"
        failed = [str(s.number) for s in verdict.failed]
        unseen = sum(not s.ok and not s.failed for s in steps)
        more = [f"failed: {', '.join(failed)}"] if failed else []
        more += (
            [f"{unseen} not shown" + ("" if data is not None else "; --data FILE checks the data too")]
            if unseen
            else []
        )
        told = "IT DOES NOT STAND" if not stands else "it stands" if proven else "it stands WITHOUT THE LEDGER"
        say("; ".join([f"{told}: {counts}", *more]))
        if not proven:
            note(
                "no checkpoint proves when these papers were made"
                + (": export them anew with sluicegate evidence export, or say --without-ledger" if not stands else "")
            )
    if not stands:
        raise typer.Exit(8)


def _pinning(context: typer.Context) -> Profile:
    """The profile whose trust file counts. Who has none, as an auditor may, needs a trust file and no profile."""
    from contracts.errors import Reason, SluicegateError

    chosen = state(context)
    if not chosen.home().profiles():
        raise SluicegateError(Reason.TRUST_MISSING, f"no trust file is named, and {chosen.home().root} has no profiles")
    return chosen.profile()


@evidence_app.command("export")
def evidence_export(
    context: typer.Context,
    transfer: Annotated[str, typer.Argument(help="transfers/t-... or just t-...", metavar="TRANSFER")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    overwrite: Overwrite = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="An earlier checkpoint to prove it in, as a profile keeps it.", metavar="FILE"),
    ] = None,
) -> None:
    """Write every signed paper of a transfer, with ledger proofs.

    A key that was revoked since counts only in a checkpoint that is older than its revocation.
    """
    from contracts.envelope import Envelope

    earlier = None if checkpoint is None else Envelope.from_bytes(checkpoint.read_bytes())
    with state(context).connect() as exchange:
        exchange.evidence(transfer, to=out, overwrite=overwrite, checkpoint=earlier)
    say(str(out))
    note(f"anyone with the trust file can check it: sluicegate verify {out} --trust trust.yaml")


@ledger_app.callback()
def ledger(
    context: typer.Context,
    resource: Annotated[str, typer.Option(help="Only about this resource.")] = "",
    output: Output = Form.TABLE,
    limit: Limit = 20,
) -> None:
    """Entries that concern you; proves that the ledger only grew."""
    if context.invoked_subcommand is not None:
        return
    from exchange.evidence import watch_ledger

    with state(context).connect() as exchange:
        head, told = watch_ledger(exchange)
        found = list(exchange.entries(resource, limit))
    if output is Form.JSON:
        show_json(
            {
                "checkpoint": {"treeSize": head.tree_size, "root": head.root, "time": head.time},
                "consistency": told,
                "entries": [entry.as_json() for entry in found],
            }
        )
        return
    show_table(
        ["INDEX", "WHEN", "EVENT", "RESOURCE", "ACTOR", "DETAIL"],
        [
            [
                e.index,
                e.create_time,
                e.event,
                e.resource,
                _actor(e.entry.get("actor", "-")),
                _detail(e.entry["detail"]) if "detail" in e.entry else "erased",
            ]
            for e in found
        ],
        empty="no entries that concern you",
    )
    note(f"checkpoint of {head.tree_size} entries, root {head.root[:16]}…, verified: {told}")


@ledger_app.command("erase")
def ledger_erase(
    context: typer.Context,
    index: Annotated[int, typer.Argument(min=0, help="Its number, as ledger shows it.", metavar="INDEX")],
    reason: Annotated[str, typer.Option(help="Why; it is on record and shown to those whom the entry concerned.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Form.TABLE,
) -> None:
    """Erase what an entry says, where the law demands it.

    For a dpo of the coordination party. Its hash stays in the tree, so all proofs stay good, and whoever kept the
    entry can still prove it. That you erased it, and why, becomes an entry itself, which nobody erases.
    """
    from contracts.errors import Reason, SluicegateError

    with state(context).connect() as exchange:
        etag, what = "", f"entry {index}, which you may not see"
        try:
            found = exchange.entry(index)
            etag, what = found.etag, f"entry {index}, {found.event} of {found.resource or 'something erased'}"
        except SluicegateError as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
        if not yes:
            typer.confirm(f"erase {what}, for good?", abort=True, err=True)
        left = exchange.erase_entry(index, reason=reason, etag=etag)
    if output is Form.JSON:
        show_json(left.as_json())
        return
    say(left.name)
    note(f"erased: {what}; sluicegate ledger --resource {left.name} shows who did, and why")


def _detail(detail: dict[str, Any]) -> str:
    """What an entry says, short: digests by their beginning, names by their end."""

    def short(value: object) -> str:
        text = ", ".join(map(short, value)) if isinstance(value, list) else str(value)
        if ":" in text and len(text) > 60 and " " not in text:
            return text[: text.index(":") + 9] + "…"
        return (
            text.rsplit("/", 1)[-1] if text.startswith(("agreements/", "requests/", "transfers/", "parties/")) else text
        )

    told = (
        f"{key} {short(value)}"
        for key, value in detail.items()
        if value not in ("", None, []) and not isinstance(value, dict)  # a signed paper, whose facts stand beside it
    )
    return shortened("; ".join(told), 160)


def _actor(name: str) -> str:
    """`parties/p/principals/s` as people say it."""
    parts = name.split("/")
    return f"{parts[3]} of {parts[1]}" if len(parts) == 4 else name
