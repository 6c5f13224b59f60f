"""party, token: who takes part, who am I."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.keys import jwk_text, public_key
from exchange.cli.output import Form, Limit, Output, facts, listing, note, say, show_json
from exchange.cli.state import state

party_app = typer.Typer(help="Parties and their people.", no_args_is_help=True)


class Kind(StrEnum):
    """What a party can be."""

    department = "department"
    company = "company"
    coordination = "coordination"
    supervision = "supervision"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(party_app, name="party")
    app.command()(token)


def token(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--show", help="Print the bearer token itself.")] = False,
    output: Output = Form.TABLE,
) -> None:
    """Who the exchange takes you for; --show prints the token."""
    from exchange.connection import TokenSource
    from exchange.names import last

    chosen = state(context)
    if show:
        profile = chosen.profile()
        print(TokenSource(profile.token, profile.subject)())
        return
    with chosen.connect() as exchange:
        me = exchange.whoami()
    if output is Form.JSON:
        show_json({"name": me.name, "kind": me.party_kind, "roles": list(me.roles)})
        return
    facts(
        Form.TABLE,
        {"subject": last(me.name), "party": f"{me.name.split('/')[1]} ({me.party_kind})", "roles": me.roles or "-"},
        title=me.name,
    )


@party_app.command("list")
def party_list(context: typer.Context, output: Output = Form.TABLE, limit: Limit = 100) -> None:
    """The registered parties."""
    from exchange.names import last

    with state(context).connect() as exchange:
        listing(
            output,
            exchange.parties(limit),
            {
                "PARTY": lambda p: last(p.name),
                "KIND": lambda p: p.kind,
                "NAME": lambda p: p.display_name,
                "ISSUER": lambda p: p.issuer,
            },
        )


@party_app.command("people")
def party_people(context: typer.Context, output: Output = Form.TABLE, limit: Limit = 100) -> None:
    """The people of your own party, and their roles."""
    from exchange.names import last

    with state(context).connect() as exchange:
        listing(
            output,
            exchange.principals(limit),
            {"SUBJECT": lambda p: last(p.name), "ROLES": lambda p: ", ".join(p.roles) or "none any more"},
        )


@party_app.command("add")
def party_add(
    context: typer.Context,
    party: Annotated[str, typer.Argument(help="Id: lower-case letters, digits, hyphens.", metavar="PARTY")],
    kind: Annotated[Kind, typer.Option(help="What it is.")],
    admin: Annotated[str, typer.Option(help="Token subject of its first administrator.")],
    root_key: Annotated[Path, typer.Option(help="Its root public key, a JWK file.", metavar="FILE")],
    issuer: Annotated[str, typer.Option(help="Its token issuer, the `iss` of its tokens.")],
    jwks: Annotated[str, typer.Option(help="The issuer's keys: a JWK set file, or its https URL.")],
    display_name: Annotated[str, typer.Option(help="Name for people.")] = "",
    output: Output = Form.TABLE,
) -> None:
    """Admit an organisation (coordination's administrator)."""
    keys = jwks if jwks.startswith("https://") else Path(jwks).read_bytes().decode(errors="replace")
    with state(context).connect() as exchange:
        made = exchange.create_party(
            party,
            kind=kind.value,
            root_key=jwk_text(public_key(root_key)),
            issuer=issuer,
            jwks=keys,
            admin=admin,
            display_name=display_name,
        )
    if output is Form.JSON:
        show_json(made.as_json())
        return
    say(made.name)
    note("every trust file that is to believe it needs its root key: sluicegate trust add --file trust.yaml")


@party_app.command("person")
def party_person(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="The token's subject.", metavar="SUBJECT")],
    role: Annotated[list[str] | None, typer.Option(help="A role; repeat. None takes all away.")] = None,
    output: Output = Form.TABLE,
) -> None:
    """Give a person of your own party its roles (your administrator)."""
    with state(context).connect() as exchange:
        made = exchange.register_principal(subject, tuple(role or ()))
    if output is Form.JSON:
        show_json(made.as_json())
        return
    facts(Form.TABLE, {"roles": made.roles or "none any more"}, title=made.name)
