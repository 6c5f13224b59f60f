"""gateway: a department's own gateways: made, registered, listed, run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.keys import jwk_text
from exchange.cli.output import Form, Output, facts, note, say, show_json, show_table
from exchange.cli.setup import absolute, token_settings
from exchange.cli.state import state

gateway_app = typer.Typer(help="A department's gateways: make, register, list, run.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Id: lower-case letters, digits, hyphens.", metavar="GATEWAY")]
Address = Annotated[str, typer.Option(help="Where consumers reach it.", metavar="HOST:PORT")]
Authority = Annotated[Path, typer.Option(help="PEM of the authority behind its TLS certificate.", metavar="FILE")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(gateway_app, name="gateway")


@gateway_app.command("new")
def gateway_new(
    context: typer.Context,
    name: Name,
    party: Annotated[str, typer.Option(help="The department.")],
    exchange: Annotated[str, typer.Option(help="Where the exchange is, host:port.")],
    host: Annotated[str, typer.Option(help="The host name that consumers reach it by.")] = "localhost",
    listen: Annotated[str, typer.Option(help="Where it listens, host:port.")] = "127.0.0.1:7460",
    subject: Annotated[str | None, typer.Option(help="Its token's subject; default its id.")] = None,
    exchange_ca: Annotated[
        Path | None, typer.Option(help="Certificates of the exchange's authority; default ca.pem of the home.")
    ] = None,
    trust: Annotated[Path | None, typer.Option(help="The trust file to pin; default the home's.")] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Its TLS certificate, PEM; default a self-signed one for the host.")
    ] = None,
    certificate_key: Annotated[Path | None, typer.Option(help="The key of that certificate, PEM; 0600.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="Certificates of an authority that every client must be known by.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="A private file with a bearer token.")] = None,
    token_command: Annotated[str | None, typer.Option(help="A command that prints one.")] = None,
    issuer: Annotated[str, typer.Option(help="With --issuer-key: the department's built-in issuer.")] = "",
    issuer_key: Annotated[Path | None, typer.Option(help="Its key file.")] = None,
) -> None:
    """Make a gateway's folder in this home.

    With keys, TLS certificate and gateway.toml. Prints the public half of its signing key. Back up
    keys/master.key: with it go all pseudonyms. Nothing is registered yet; that is for an administrator of the
    department.
    """
    from exchange.config import GatewaySettings
    from exchange.gateways import create

    home = state(context).home()
    if (certificate is None) != (certificate_key is None):
        raise typer.BadParameter("--certificate and --certificate-key belong together")
    ca = exchange_ca or home.root / "ca.pem"
    settings = GatewaySettings(
        gateway=name,
        party=party,
        subject=subject or name,
        listen=listen,
        exchange=exchange,
        exchange_ca=absolute(ca) if exchange_ca is not None or ca.exists() else None,
        client_ca=absolute(client_ca),
        trust=absolute(trust) or Path("../../trust.yaml"),
        token=token_settings(token_file, token_command, issuer, issuer_key),
    )
    pair = None if certificate is None or certificate_key is None else (certificate, certificate_key)
    public = create(home, settings, host=host, pair=pair, entropy=os.urandom)
    folder = home.gateway(name).parent
    print(jwk_text(public))
    note(f"{folder} holds its keys; keep a copy of keys/master.key in a safe place")
    authority = certificate or folder / "tls" / "cert.pem"
    note(
        f"next, as an admin of {party}: sluicegate party person {settings.subject} --role gateway; "
        f"sluicegate key certify {folder / 'keys' / 'signing.jwk'} --use gateway --subject {name} "
        f"--tls-certificate {authority} --root FILE; "
        f"sluicegate gateway register {name} --address {host}:{listen.rsplit(':', 1)[1]} --ca {authority}"
    )


@gateway_app.command("register")
def gateway_register(
    context: typer.Context, name: Name, address: Address, ca: Authority, output: Output = Form.TABLE
) -> None:
    """Say where a gateway is reached (your administrator).

    Its signing key must be certified with this TLS authority before. Where the gateway's folder is in this home, it
    is given the key statements of the department's approvers, so that they can stop an agreement.
    """
    _registered(context, name, address, ca, output, replace=False)


@gateway_app.command("replace")
def gateway_replace(
    context: typer.Context, name: Name, address: Address, ca: Authority, output: Output = Form.TABLE
) -> None:
    """Move a registered gateway (your administrator).

    To another address, or another TLS authority; the signing key must be certified with that before.
    """
    _registered(context, name, address, ca, output, replace=True)


def _registered(context: typer.Context, name: str, address: str, ca: Path, output: Form, *, replace: bool) -> None:
    from exchange import gateways

    chosen = state(context)
    where = address if "://" in address else f"grpc+tls://{address}"
    with chosen.connect() as exchange:
        made = gateways.register(exchange, name, address=where, ca=ca.read_bytes(), replace=replace)
        people = gateways.tell_all(chosen.home(), exchange)
    if output is Form.JSON:
        show_json({**made.as_json(), "people": list(people)})
        return
    facts(Form.TABLE, {"address": made.address}, title=made.name)
    if people:
        note(f"the gateways of this home know the keys of {', '.join(people)}")


@gateway_app.command("list")
def gateway_list(context: typer.Context, output: Output = Form.TABLE) -> None:
    """The gateways of your department.

    And until when the department's root certifies each with the TLS authority that it is registered with: consumers
    fetch nowhere else.
    """
    import msgspec

    from exchange.gateways import listed

    with state(context).connect() as exchange:
        found = listed(exchange)
    if output is Form.JSON:
        show_json(msgspec.to_builtins(found))
        return
    show_table(
        ["GATEWAY", "ADDRESS", "CERTIFIED UNTIL", "TLS AUTHORITY"],
        [[each.name, each.address, each.certified_until or "not certified", each.authority[:23]] for each in found],
        empty="no gateways",
    )


@gateway_app.command("run")
def gateway_run(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Needed when this home has several.", metavar="[GATEWAY]")] = None,
) -> None:
    """Run one gateway in this process.

    For a service: until SIGTERM or Ctrl-C. Prints `ready ADDRESS` once it serves, and logs to standard error.
    """
    from exchange import app

    path = state(context).home().served_by(name)
    app.run(app.process_of("gateway", path), with_parent=False)
    say(f"{path.parent.name} ended")
