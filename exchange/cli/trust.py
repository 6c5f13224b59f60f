"""trust: whose roots a trust file pins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.keys import public_key
from exchange.cli.output import Form, Output, note, say, show_json, show_table
from exchange.cli.parties import Kind
from exchange.cli.state import state

trust_app = typer.Typer(help="Trust files: whose signatures count.", no_args_is_help=True)

Party = Annotated[str, typer.Argument(help="The party's id.", metavar="PARTY")]
File = Annotated[Path | None, typer.Option(help="The trust file; default the home's.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(trust_app, name="trust")


def _file(context: typer.Context, file: Path | None) -> Path:
    return state(context).home().trust if file is None else file


@trust_app.command("list")
def trust_list(context: typer.Context, file: File = None, output: Output = Form.TABLE) -> None:
    """The parties whose root keys a trust file pins."""
    from exchange.evidence import read_trust

    rows = [
        {"party": party, "kind": pinned.kind.value, "root": pinned.root.kid}
        for party, pinned in read_trust(_file(context, file)).parties.items()
    ]
    if output is Form.JSON:
        show_json(rows)
        return
    show_table(["PARTY", "KIND", "ROOT KEY"], [list(row.values()) for row in rows], empty="no party is trusted")


@trust_app.command("add")
def trust_add(
    context: typer.Context,
    party: Party,
    kind: Annotated[Kind, typer.Option(help="What it is.")],
    root_key: Annotated[Path, typer.Option(help="Its root public key, a JWK file.", metavar="FILE")],
    file: File = None,
) -> None:
    """Believe a party: pin the root key that it gave you itself.

    A key that came from the exchange would make the exchange's operator the judge. Gateways read the file anew for
    each use.
    """
    from contracts.trust import PartyKind, TrustedParty
    from exchange import trusting

    path, key = _file(context, file), public_key(root_key)
    trusting.add(path, party, TrustedParty(kind=PartyKind(kind.value), root=key))
    say(f"{party} {key.kid}")
    note(f"{path} believes it from now on; compare the key id with the party, by voice")


@trust_app.command("remove")
def trust_remove(context: typer.Context, party: Party, file: File = None) -> None:
    """Believe a party no more.

    Nothing that it signed counts then, old evidence either.
    """
    from exchange import trusting

    path = _file(context, file)
    trusting.remove(path, party)
    say(party)
    note(f"{path} does not believe it any more")
