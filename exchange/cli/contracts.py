"""contract lint, contract test, contract sign, contract strip, publish: from a file to the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.output import Form, Output, Overwrite, facts, note, say, show_json, show_table
from exchange.cli.progress import stages
from exchange.cli.sources import Columns, Nulls, Separator
from exchange.cli.state import state

if TYPE_CHECKING:
    from connectors.sources import SourceSettings
    from contracts.model import Purpose
    from contracts.odcs import LoadedContract
    from exchange.client import Exchange

contract_app = typer.Typer(help="Write and try a sharing contract.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The contract, *.odcs.yaml.", metavar="FILE")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(contract_app, name="contract")
    app.command()(attack)
    app.command()(publish)


def _read(path: Path) -> bytes:
    """The file's bytes, at most as many as a contract may have (and one, so that more is noticed)."""
    from contracts.errors import Reason, SluicegateError

    try:
        with path.open("rb") as file:
            return file.read(2 * 1024 * 1024 + 1)
    except OSError as error:
        told = f"cannot read {path}: {error.strerror}"
        raise SluicegateError(Reason.INVALID_ARGUMENT, told, remedy="name a file that can be read") from None


def load(path: Path) -> LoadedContract:
    """The contract in a file. Raises INVALID_ARGUMENT, CONTRACT_INVALID."""
    from contracts import odcs

    return odcs.load(_read(path), name=str(path))


def _bound(purpose: Purpose) -> str:
    if purpose.aggregate is not None:
        return f"aggregate, epsilon {purpose.aggregate.epsilon}"
    return f"k {purpose.effectiveness.require.k}" if purpose.effectiveness else "about no person"


@contract_app.command("lint")
def contract_lint(file: File, output: Output = Form.TABLE) -> None:
    """Check a contract against format, standard and lint list."""
    from contracts import lint

    contract = lint.check(_read(file), name=str(file)).contract
    value = {
        "dataset": contract.dataset,
        "version": contract.version,
        "purposes": list(contract.purposes),
        "documentDigest": contract.document_digest,
        "termsDigest": contract.terms_digest,
    }
    if output is Form.JSON:
        show_json(value)
        return
    people = {name: _bound(purpose) for name, purpose in contract.purposes.items()}
    facts(
        Form.TABLE,
        {
            "dataset": f"{contract.provider}/{contract.dataset}, version {contract.version}",
            "purposes": [f"{name} ({bound})" for name, bound in people.items()] or "-",
            "document": contract.document_digest,
            "terms": contract.terms_digest,
        },
        title=f"{file} is a sound sharing contract",
    )


@contract_app.command("test")
def contract_test(
    file: File,
    data: Annotated[Path, typer.Option(help="Rows to try it on: a file, a folder or a glob.", metavar="DATA")],
    purpose: Annotated[str | None, typer.Option(help="Only this purpose; default all.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="parquet, csv, ndjson or arrow.")] = None,
    column: Columns = None,
    separator: Separator = ",",
    null: Nulls = None,
    output: Output = Form.TABLE,
) -> None:
    """Dry-run the real pipeline on data, before publishing.

    Shows for each purpose what would be suppressed, which bounds are met, which columns weigh most, and
    ten masked rows. Exit code 5 when a release would be refused.
    """
    from exchange.trying import source_settings, try_contract

    settings = source_settings(data, form, columns=column, separator=separator, null_values=null)
    with stages(f"looking at {data}") as tell:
        tried = try_contract(load(file), settings, purpose=purpose, tell=tell)
    if output is Form.JSON:
        show_json([item.as_json() for item in tried])
    else:
        for item in tried:
            facts(Form.TABLE, item.figures(), title=f"purpose {item.purpose}: {'passes' if item.passes else 'FAILS'}")
            for line in item.problems:
                say(f"  - {line}")
            if item.sample is not None:
                show_table(item.sample.columns, item.sample.rows(), title="ten rows as they would leave")
    if not all(item.passes for item in tried):
        raise typer.Exit(5)


@contract_app.command("propose")
def contract_propose(
    file: File,
    data: Annotated[Path, typer.Option(help="Rows to try it on: a file, a folder or a glob.", metavar="DATA")],
    purpose: Annotated[str | None, typer.Option(help="The purpose to amend; default the only one.")] = None,
    most_suppressed: Annotated[
        float | None,
        typer.Option(
            "--max-suppression", min=0, max=0.99, help="Share of rows that may be left out; default the contract's."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write the amended contract.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="parquet, csv, ndjson or arrow.")] = None,
    column: Columns = None,
    separator: Separator = ",",
    null: Nulls = None,
    overwrite: Overwrite = False,
    output: Output = Form.TABLE,
) -> None:
    """Find coarser masks that meet the bounds, at the least loss.

    Every combination of coarser steps that could win is measured on the data. The amended contract is tried in
    the real pipeline and written as the next version, comments and all, for you to read and publish. Loss is
    the mean over all quasi-identifiers of all rows: 0 as it was, 1 nothing left. Exit code 5 when nothing
    coarser meets the bounds.
    """
    from contracts.techniques import written
    from exchange.keyfiles import demand_vacant
    from exchange.proposals import propose_contract
    from exchange.trying import source_settings

    if out is not None:
        demand_vacant(out, overwrite=overwrite)
    settings = source_settings(data, form, columns=column, separator=separator, null_values=null)
    with stages(f"looking at {data}") as tell:
        made = propose_contract(load(file), settings, purpose=purpose, most_suppressed=most_suppressed, tell=tell)
    found, after = made.proposal, made.after
    if found is not None and out is not None:
        out.write_bytes(made.amended)
    if output is Form.JSON:
        show_json(made.as_json())
    elif found is None or after is None:
        say(f"nothing coarser meets the bounds of {made.purpose}: lower them, send fewer fields, or suppress more rows")
    else:
        masks = [(name, str(written(mask))) for name, mask in found.masks.items()]
        show_table(["field", "mask"], masks, title=f"purpose {made.purpose}: masks that meet the bounds")
        facts(
            Form.TABLE,
            {
                "loss": f"{found.loss:.3f} (the masks as they are: {found.loss_now:.3f} and bounds missed)"
                if not made.before.passes
                else f"{found.loss:.3f}",
                "suppressed": f"{found.suppressed:.2%}",
                "searched": f"{found.measured:,} of {found.nodes:,} combinations measured"
                + ("" if found.complete else "; there may be a better one"),
                "tried": "passes" if after.passes else "FAILS",
                "written": str(out) if out else "nowhere; say --out FILE",
            },
        )
    if after is None or not after.passes:
        raise typer.Exit(5)


@contract_app.command("sign")
def contract_sign(
    context: typer.Context,
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the signed statement.")],
    overwrite: Overwrite = False,
) -> None:
    """Sign a contract for a colleague who publishes it within a day.

    A standing offer of highly private fields needs two signatures: publish --signed adds the second.
    """
    from contracts import lint
    from exchange import signing
    from exchange.keyfiles import demand_vacant

    demand_vacant(out, overwrite=overwrite)
    raw = _read(file)
    lint.check(raw, name=str(file))
    out.write_bytes(signing.contract_statement(state(context).profile(), raw).to_bytes())
    say(str(out))


@contract_app.command("strip")
def contract_strip(
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the cleaned copy.")],
    overwrite: Overwrite = False,
) -> None:
    """Write a copy without private examples and internal hosts."""
    from contracts import odcs
    from exchange.keyfiles import demand_vacant

    demand_vacant(out, overwrite=overwrite)
    out.write_bytes(odcs.strip(_read(file), name=str(file)))
    say(str(out))


def attack(
    file: File,
    data: Annotated[Path, typer.Option(help="Rows to release and attack: a file, a folder or a glob.", metavar="DATA")],
    purpose: Annotated[str | None, typer.Option(help="Only this purpose; default all about persons.")] = None,
    register: Annotated[
        Path | None, typer.Option(help="What the attacker knows of people, columns as in the data; default all of it.")
    ] = None,
    earlier: Annotated[Path | None, typer.Option(help="The data as it was at an earlier release.")] = None,
    points: Annotated[int, typer.Option(min=1, max=20, help="Rows that the attacker knows of one person.")] = 4,
    most: Annotated[float, typer.Option(min=0, max=1, help="Share of the people that an attack may name.")] = 0.05,
    form: Annotated[str | None, typer.Option("--format", help="parquet, csv, ndjson or arrow.")] = None,
    column: Columns = None,
    separator: Separator = ",",
    null: Nulls = None,
    output: Output = Form.TABLE,
) -> None:
    """Attack the release that a contract makes of data.

    Linkage with a register, enumeration and frequency of pseudonyms, a few known rows of one person, inference
    within classes, the difference of two releases: each with its success, the 95 % confidence interval, and what
    somebody without the release reaches. Exit code 5 when an attack may name more people than --most.
    """
    from exchange.attacking import attack_contract
    from exchange.trying import source_settings

    def settings(path: Path) -> SourceSettings:
        return source_settings(path, form, columns=column, separator=separator, null_values=null)

    with stages(f"looking at {data}") as tell:
        attacked = attack_contract(
            load(file),
            settings(data),
            purpose=purpose,
            register=settings(register) if register else None,
            earlier=settings(earlier) if earlier else None,
            points=points,
            most=most,
            tell=tell,
        )
    if output is Form.JSON:
        show_json([item.as_json() for item in attacked])
    else:
        for item in attacked:
            rows = [
                (
                    outcome.attack,
                    f"{outcome.tried:,} {outcome.of}",
                    f"{outcome.rate:.2%}" if outcome.tried else "-",
                    f"{outcome.interval[0]:.2%} to {outcome.interval[1]:.2%}" if outcome.tried else "-",
                    f"{outcome.baseline:.2%}",
                    {True: "holds", False: "BREAKS", None: "-"}[item.holds(outcome)],
                )
                for outcome in item.outcomes
            ]
            show_table(
                ["attack", "tried on", "succeeds", "95 % interval", "without release", "limit"],
                rows,
                title=f"purpose {item.purpose}: {'withstands' if item.withstands else 'DOES NOT WITHSTAND'}",
            )
    if not all(item.withstands for item in attacked):
        raise typer.Exit(5)


def publish(
    context: typer.Context,
    file: File,
    gateway: Annotated[str | None, typer.Option(help="Gateway that serves it; default the only one.")] = None,
    strip: Annotated[
        bool, typer.Option("--strip", help="Clean the contract first; the copy is kept beside it.")
    ] = False,
    signed: Annotated[
        Path | None, typer.Option(help="What a colleague signed with contract sign; yours is added.")
    ] = None,
    output: Output = Form.TABLE,
) -> None:
    """Sign and publish a contract of your department."""
    from contracts import odcs
    from contracts.envelope import Envelope
    from contracts.errors import Reason, SluicegateError
    from exchange.names import short_dataset

    raw = _read(file)
    if strip:
        raw = odcs.strip(raw, name=str(file))
        copy = file.with_name(file.name.replace(".odcs.yaml", "") + ".stripped.odcs.yaml")
        copy.write_bytes(raw)
        note(f"published is {copy}")
    cosigned = None if signed is None else Envelope.from_bytes(_read(signed))
    chosen = state(context)
    contract = odcs.load(raw, name=str(file)).contract
    with chosen.connect() as exchange:
        served_by = gateway or _only_gateway(exchange)
        etag = ""
        try:
            etag = exchange.dataset(f"{exchange.profile.party}/{contract.dataset}").etag
        except SluicegateError as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
        made = exchange.publish(raw, gateway=served_by, etag=etag, signed=cosigned)
    if output is Form.JSON:
        show_json(made.as_json())
        return
    say(short_dataset(made.name))
    note(f"published version {contract.version}, served by {served_by}")


def _only_gateway(exchange: Exchange) -> str:
    """The one gateway that the caller's department registered."""
    from contracts.errors import Reason, SluicegateError
    from exchange.names import last

    known = [last(found.name) for found in exchange.gateways()]
    if len(known) != 1:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT,
            f"say which gateway serves it: --gateway, one of {', '.join(known)}"
            if known
            else f"{exchange.profile.party} has registered no gateway that could serve it",
        )
    return known[0]
