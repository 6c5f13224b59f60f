"""key: the keys of people and gateways, and those behind an agreement's pseudonyms."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.agreements import Authority, Gateway, Name, Why, gateway_place
from exchange.cli.output import Form, Limit, Output, facts, listing, note, show_json
from exchange.cli.state import state

if TYPE_CHECKING:
    from contracts.envelope import PublicKey

key_app = typer.Typer(help="Keys: make, show, certify, rotate, revoke, destroy, list.", no_args_is_help=True)


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
    app.add_typer(key_app, name="key")


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
    from exchange.keyfiles import write_key

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
    from exchange.keyfiles import read_key

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
    from exchange.keyfiles import read_key
    from exchange.names import last

    chosen = state(context)
    revocation = rotating.revocation(chosen.profile().party, last(kid), reason)
    with chosen.connect() as exchange:
        made = exchange.register_key(sign(Kind.REVOCATION, revocation, read_key(root)))
    if output is Form.JSON:
        show_json(made.as_json())
        return
    facts(Form.TABLE, {"revoked at": revocation.at, "reason": reason}, title=made.name)


@key_app.command("destroy")
def key_destroy(
    context: typer.Context,
    name: Name,
    reason: Why,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    gateway: Gateway = None,
    ca: Authority = None,
    output: Output = Form.TABLE,
) -> None:
    """Destroy an agreement's keys, which ends it for good.

    Nobody can make or recognise its pseudonyms then, not even with the master key. The gateway signs that it did
    so, and the ledger keeps it. Nothing is done while the gateway cannot be reached.
    """
    if not yes:
        typer.confirm(f"end {name} and destroy its keys for good?", abort=True, err=True)
    with state(context).connect() as exchange:
        found = exchange.destroy_keys(name, reason=reason, place=gateway_place(gateway, ca))
    if output is Form.JSON:
        show_json(found.as_json())
        return
    destroyed = found.keys_destroyed or "by now; the gateway's statement has yet to reach the ledger"
    facts(Form.TABLE, {"state": found.state, "keys destroyed": destroyed}, title=found.name)


@key_app.command("list")
def key_list(
    context: typer.Context,
    party: Annotated[str | None, typer.Option(help="Another party's.")] = None,
    secrets: Annotated[
        bool, typer.Option("--agreements", help="The keys behind pseudonyms instead: whether each agreement's live.")
    ] = False,
    output: Output = Form.TABLE,
    limit: Limit = 100,
) -> None:
    """Key statements and revocations of your party."""
    from exchange.names import last

    if secrets:
        with state(context).connect() as exchange:
            columns: dict[str, Callable[[Any], str]] = {
                "AGREEMENT": lambda a: last(a.name),
                "STATE": lambda a: a.state,
                "CONSUMER": lambda a: last(a.consumer),
                "KEYS DESTROYED": lambda a: a.keys_destroyed or "no",
            }
            listing(output, exchange.agreements("", limit), columns, empty="no agreements")
        return

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
