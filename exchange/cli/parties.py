"""party, key, token: who takes part, whose keys count, who am I."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.output import Form, Limit, Output, facts, listing, note, say, show_json
from exchange.cli.state import state

if TYPE_CHECKING:
    from contracts.envelope import PublicKey

party_app = typer.Typer(help="Parties and their people.", no_args_is_help=True)
key_app = typer.Typer(help="Keys: make, show, certify, rotate, revoke, list.", no_args_is_help=True)


class Kind(StrEnum):
    """What a party can be."""

    department = "department"
    company = "company"
    coordination = "coordination"
    supervision = "supervision"


class KeyOf(StrEnum):
    """The keys of a profile."""

    signing = "signing"
    requester = "requester"
    holder = "holder"


class KeyUse(StrEnum):
    """What a key can be certified for."""

    approver = "approver"
    requester = "requester"
    gateway = "gateway"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(party_app, name="party")
    app.add_typer(key_app, name="key")
    app.command()(token)


def public_key(path: Path) -> PublicKey:
    """The public half of a JWK file, of a private key too."""
    from contracts.envelope import PublicKey
    from contracts.errors import Reason, SluicegateError

    try:
        with path.open("rb") as file:
            jwk: Any = json.loads(file.read(64 * 1024))
        if (jwk["kty"], jwk["crv"]) != ("OKP", "Ed25519"):
            raise ValueError
        return PublicKey(x=jwk["x"])
    except OSError as error:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError, SluicegateError):
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"{path} does not hold an Ed25519 key (JWK)") from None


def jwk_text(key: PublicKey) -> str:
    """The key as one line of JSON, a JWK."""
    return json.dumps({"kty": "OKP", "crv": "Ed25519", "x": key.x})


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


@key_app.command("new")
def key_new(
    path: Annotated[Path, typer.Argument(help="Where to write the private key; 0600, never overwritten.")],
    master: Annotated[
        bool, typer.Option("--master", help="A gateway's master key instead, of which all pseudonyms are made.")
    ] = False,
) -> None:
    """Make an Ed25519 key; prints its public half.

    The public half (JWK) goes to whoever certifies it; the file never leaves this machine.
    """
    import os

    from contracts.envelope import SigningKey
    from exchange.config import write_key

    if master:
        from connectors.keys import MasterKey

        MasterKey.create(path, os.urandom)
        note(f"{path} holds a master key; keep a copy in a safe place: with it go all pseudonyms")
        return
    key = SigningKey.from_seed(os.urandom(32))
    write_key(path, key)
    print(jwk_text(key.public))
    note(f"{path} holds the private key {key.kid}")


@key_app.command("show")
def key_show(
    path: Annotated[Path, typer.Argument(help="A key file, private or public.", metavar="FILE")],
    jwks: Annotated[bool, typer.Option("--jwks", help="As a JWK set, for a token issuer.")] = False,
) -> None:
    """Print the public half of a key file."""
    from exchange.identity import jwk_set

    key = public_key(path)
    print(jwk_set(key) if jwks else jwk_text(key))
    note(f"key id {key.kid}")


@key_app.command("certify")
def key_certify(
    context: typer.Context,
    key: Annotated[Path, typer.Argument(help="The key to certify, a JWK file; its public half is enough.")],
    subject: Annotated[str, typer.Option(help="Whose key: a person, or a gateway's name.")],
    use: Annotated[KeyUse, typer.Option(help="What it may sign as.")],
    root: Annotated[Path, typer.Option(help="Your party's root key file.", metavar="FILE")],
    days: Annotated[int, typer.Option(min=1, max=1095, help="How long it counts.")] = 365,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(help="For a gateway: the PEM that its TLS certificate is issued by.", metavar="FILE"),
    ] = None,
    output: Output = Form.TABLE,
) -> None:
    """Certify a key with your party's root (your administrator)."""
    from contracts.canonical import digest_bytes
    from contracts.envelope import Kind, sign
    from contracts.trust import Use
    from exchange import gateways, rotating
    from exchange.config import read_key

    chosen = state(context)
    certified = public_key(key)
    statement = rotating.statement(
        chosen.profile().party,
        subject,
        Use(use.value),
        certified,
        days=days,
        tls_certificate=digest_bytes(tls_certificate.read_bytes()) if tls_certificate is not None else None,
    )
    signed = sign(Kind.KEY, statement, read_key(root))
    with chosen.connect() as exchange:
        made = exchange.register_key(signed)
    told = gateways.tell(chosen.home(), statement.party, certified.kid, signed) if use is KeyUse.approver else ()
    if output is Form.JSON:
        show_json(made.as_json())
        return
    facts(Form.TABLE, {"subject": subject, "use": use.value, "until": statement.not_after}, title=made.name)
    if told:
        note(f"its statement was given to {', '.join(told)}")


@key_app.command("rotate")
def key_rotate(
    context: typer.Context,
    profile: Annotated[str, typer.Argument(help="Whose key: a profile of this home.", metavar="PROFILE")],
    root: Annotated[
        Path | None, typer.Option(help="The party's root key file; needed for all but holder keys.", metavar="FILE")
    ] = None,
    key: Annotated[KeyOf, typer.Option(help="Which of its keys.")] = KeyOf.signing,
    days: Annotated[int, typer.Option(min=1, max=1095, help="How long the new key counts.")] = 365,
    revoke: Annotated[
        str | None,
        typer.Option(help="Take the old key back at once, for this reason; else it ends by its date.", metavar="WHY"),
    ] = None,
    output: Output = Form.TABLE,
) -> None:
    """Replace a key of a profile by a fresh one (your administrator).

    The new key is certified, then the profile names it, then the old one is revoked, if at all. Papers that
    the old key signed stay good unless it is revoked; a new holder key pulls only under new agreements.
    """
    from exchange.rotating import rotate

    chosen = state(context)
    if key is KeyOf.holder:
        if root is not None or revoke is not None:
            raise typer.BadParameter("no root certifies a holder key: terminate the agreements that name the old one")
        done = rotate(chosen.home(), profile, key.value, None, None, days=days, reason=None)
    elif root is None:
        raise typer.BadParameter("the party's root certifies the new key: name its file with --root")
    else:
        with chosen.connect() as exchange:
            done = rotate(chosen.home(), profile, key.value, exchange, root, days=days, reason=revoke)
    value = {"old": done.old, "new": done.new, "file": str(done.file), "until": done.until, "revoked": done.revoked}
    if output is Form.JSON:
        show_json({**value, "told": list(done.told)})
        return
    facts(Form.TABLE, {name: item for name, item in value.items() if item != ""}, title=profile)
    if done.told:
        note(f"its statement was given to {', '.join(done.told)}; give it to other gateways of the department too")


@key_app.command("revoke")
def key_revoke(
    context: typer.Context,
    kid: Annotated[str, typer.Argument(help="Its id, or its full name: parties/p/keys/...", metavar="KEY")],
    reason: Annotated[str, typer.Option(help="Why.")],
    root: Annotated[Path, typer.Option(help="Your party's root key file.", metavar="FILE")],
    output: Output = Form.TABLE,
) -> None:
    """Take a key back: nothing new that it signs counts."""
    from contracts.envelope import Kind, sign
    from exchange import rotating
    from exchange.config import read_key
    from exchange.names import last

    chosen = state(context)
    revocation = rotating.revocation(chosen.profile().party, last(kid), reason)
    with chosen.connect() as exchange:
        made = exchange.register_key(sign(Kind.REVOCATION, revocation, read_key(root)))
    if output is Form.JSON:
        show_json(made.as_json())
        return
    facts(Form.TABLE, {"revoked at": revocation.at, "reason": reason}, title=made.name)


@key_app.command("list")
def key_list(
    context: typer.Context,
    party: Annotated[str | None, typer.Option(help="Another party's.")] = None,
    output: Output = Form.TABLE,
    limit: Limit = 100,
) -> None:
    """Key statements and revocations of your party."""
    from exchange.names import last

    def about(field: str) -> Any:
        return lambda k: k.statement.payload.get(field, "-") if k.statement else "-"

    with state(context).connect() as exchange:
        listing(
            output,
            exchange.keys(party, limit),
            {
                "KEY": lambda k: last(k.name),
                "SUBJECT": about("subject"),
                "USE": about("use"),
                "UNTIL": about("notAfter"),
                "REVOKED": lambda k: about("at")(k) if k.revoked else "no",
            },
        )
