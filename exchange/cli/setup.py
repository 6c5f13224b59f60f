"""init, up, profile, source, config, backup, restore: an installation and its upkeep."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.output import Form, Output, facts, note, say, show_json, show_table
from exchange.cli.progress import stages
from exchange.cli.sources import Columns, Nulls, Separator
from exchange.cli.state import profile_names, state

if TYPE_CHECKING:
    from exchange.backups import Made
    from exchange.config import Profile, TokenSettings

profile_app = typer.Typer(help="Profiles: who you act as, with which keys.", no_args_is_help=True)
source_app = typer.Typer(help="Where a gateway's datasets really lie.", no_args_is_help=True)
config_app = typer.Typer(help="Check the configuration.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(up)
    app.add_typer(profile_app, name="profile")
    app.add_typer(source_app, name="source")
    app.add_typer(config_app, name="config")
    app.command()(backup)
    app.command()(restore)


def init(
    context: typer.Context,
    bare: Annotated[bool, typer.Option("--bare", help="Only the exchange and the coordination office.")] = False,
    port: Annotated[int, typer.Option(min=1024, max=65000, help="Port of the exchange; gateways follow.")] = 7450,
    output: Output = Form.TABLE,
) -> None:
    """Found a home: exchange, keys, an example city.

    Makes an exchange with its keys and certificates, and four example parties with their people, keys
    and profiles to try it with; the health bureau has a gateway.
    """
    from exchange.founding import Ports, found
    from exchange.home import EXAMPLE_CITY

    home = state(context).home()
    founders = EXAMPLE_CITY[:1] if bare else EXAMPLE_CITY
    names = found(
        home, founders, now=int(time.time()), entropy=os.urandom, ports=Ports(exchange=port, gateway=port + 10)
    )
    if output is Form.JSON:
        show_json({"home": str(home.root), "profiles": names, "trust": str(home.trust)})
        return
    say(str(home.root))
    note(f"profiles: {', '.join(names)}")
    here = "" if state(context).root is None else f" --home {home.root}"
    note(f"next: sluicegate up{here}")


def up(
    context: typer.Context,
    only: Annotated[str | None, typer.Option(help="exchange, or the name of one gateway.")] = None,
) -> None:
    """Run exchange and gateways until Ctrl-C.

    Each runs in a process of its own, and ends with this one. They log to HOME/logs.
    """
    from exchange.processes import Town

    home = state(context).home()
    for number in (signal.SIGTERM, signal.SIGINT):  # from here on, and while they start: all end, then we
        signal.signal(number, signal.default_int_handler)  # of SIGINT too: a shell has it ignored in the background
    with contextlib.suppress(KeyboardInterrupt), Town(home, only=only) as town:
        for name, address in town.addresses.items():
            note(f"{name} ready at {address}")
        town.wait()
    note("ended")


@profile_app.command("list")
def profile_list(context: typer.Context, output: Output = Form.TABLE) -> None:
    """The profiles of this home."""
    home = state(context).home()
    current = home.current()
    rows = [(name, home.profile(name)) for name in home.profiles()]
    if output is Form.JSON:
        show_json([{**_profile_json(name, p), "current": name == current} for name, p in rows])
        return
    show_table(
        ["", "PROFILE", "PARTY", "SUBJECT", "ENDPOINT"],
        [["*" if name == current else "", name, p.party, p.subject, p.endpoint] for name, p in rows],
        empty=f"no profiles in {home.root}: run sluicegate init, or profile add",
    )


def _profile_json(name: str, profile: Profile) -> dict[str, Any]:
    from exchange.config import differing

    return {"name": name, **differing(profile)}


@profile_app.command("show")
def profile_show(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Default the current one.", metavar="[NAME]")] = None,
    output: Output = Form.TABLE,
) -> None:
    """One profile: who, where, with which keys and token."""
    home, chosen = state(context).home(), name or state(context).name
    profile = home.profile(chosen)
    value = _profile_json(chosen or home.current() or "", profile)
    if output is Form.JSON:
        show_json(value)
        return
    token = value.pop("token", {})
    value["token"] = next((f"{way} {token[way]}" for way in ("file", "command", "issuer_key") if way in token), "none")
    facts(Form.TABLE, {key.replace("_", " "): item for key, item in value.items()})


@profile_app.command("add")
def profile_add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it.", metavar="NAME")],
    party: Annotated[str, typer.Option(help="Whom you act for.")],
    subject: Annotated[str, typer.Option(help="Who you are: the token's subject.")],
    endpoint: Annotated[str, typer.Option(help="Where the exchange is, host:port.")],
    trust: Annotated[Path, typer.Option(help="The trust file to pin.")],
    ca: Annotated[Path | None, typer.Option(help="Certificates of the exchange's authority.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A private file with a bearer token.")] = None,
    token_command: Annotated[str | None, typer.Option(help="A command that prints one.")] = None,
    issuer: Annotated[str, typer.Option(help="With --issuer-key: your party's built-in issuer.")] = "",
    issuer_key: Annotated[Path | None, typer.Option(help="Its key file.")] = None,
    signing_key: Annotated[Path | None, typer.Option(help="Your personal key.")] = None,
    requester_key: Annotated[Path | None, typer.Option(help="For requests, where it is another key.")] = None,
    holder_key: Annotated[Path | None, typer.Option(help="The only key that can pull.")] = None,
    gateway_certificate: Annotated[
        Path | None, typer.Option(help="PEM, shown to gateways that demand certificates.")
    ] = None,
    gateway_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
) -> None:
    """Add a profile. Paths may be relative to here."""
    from exchange import config
    from exchange.config import Profile

    home = state(context).home()
    path = home.new_profile_file(name)
    token = token_settings(token_file, token_command, issuer, issuer_key)
    if (gateway_certificate is None) != (gateway_key is None):
        raise typer.BadParameter("--gateway-certificate and --gateway-key go together")
    profile = Profile(
        party=party,
        subject=subject,
        endpoint=endpoint,
        ca=absolute(ca),
        trust=absolute(trust),
        token=token,
        signing_key=absolute(signing_key),
        requester_key=absolute(requester_key),
        holder_key=absolute(holder_key),
        gateway_certificate=absolute(gateway_certificate),
        gateway_key=absolute(gateway_key),
        checkpoint=Path(f"{name}.checkpoint.json"),
    )
    config.create(path, profile)
    say(name)
    note(f"try it: sluicegate token --as {name}; sluicegate config check")


def token_settings(file: Path | None, command: str | None, issuer: str, issuer_key: Path | None) -> TokenSettings:
    """Where a bearer token comes from, as options say."""
    import shlex

    from exchange.config import TokenSettings

    try:
        return TokenSettings(
            file=absolute(file),
            command=tuple(shlex.split(command or "")),
            issuer=issuer,
            issuer_key=absolute(issuer_key),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def absolute(path: Path | None) -> Path | None:
    """A path that was typed here, for a file that lies elsewhere."""
    return None if path is None else path.expanduser().absolute()


@profile_app.command("use")
def profile_use(
    context: typer.Context, name: Annotated[str, typer.Argument(autocompletion=profile_names, metavar="NAME")]
) -> None:
    """Act as this profile from now on."""
    state(context).home().use(name)
    say(name)


@source_app.command("bind")
def source_bind(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Name of the dataset, as in its contract.")],
    path: Annotated[Path, typer.Argument(help="A file, a folder or a glob.")],
    gateway: Annotated[str | None, typer.Option(help="Gateway of this home; needed when there are several.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="parquet, csv, ndjson or arrow.")] = None,
    column: Columns = None,
    separator: Separator = ",",
    null: Nulls = None,
    register: Annotated[
        str | None,
        typer.Option(help="Another dataset bound here, of the population: people of releases are looked up in it."),
    ] = None,
) -> None:
    """Bind a dataset to its rows.

    The contract has no say in this: the gateway's own configuration has.
    """
    from exchange.config import DatasetSettings
    from exchange.founding import bind
    from exchange.trying import source_settings

    settings = source_settings(path, form, columns=column, separator=separator, null_values=null)
    file = state(context).home().served_by(gateway)
    bound = DatasetSettings(
        path=Path(settings.path),
        format=settings.format,
        columns=settings.columns,
        separator=settings.separator,
        null_values=settings.null_values,
        register=register,
    )
    bind(file, dataset, bound)
    say(f"{dataset} is read from {settings.path}")
    note(f"by the gateway {file.parent.name}, from its next transfer on")


@source_app.command("list")
def source_list(context: typer.Context, output: Output = Form.TABLE) -> None:
    """Which dataset is read from where."""
    from exchange.config import GatewaySettings, load

    rows = [
        {
            "gateway": file.parent.name,
            "dataset": dataset,
            "format": source.format,
            "path": str(source.path),
            "columns": source.columns,
            "separator": source.separator,
            "nullValues": list(source.null_values),
            "register": source.register,
        }
        for file in state(context).home().gateways()
        for dataset, source in load(file, GatewaySettings).datasets.items()
    ]
    if output is Form.JSON:
        show_json(rows)
        return
    show_table(
        ["GATEWAY", "DATASET", "FORMAT", "PATH"], [list(row.values())[:4] for row in rows], empty="nothing is bound"
    )


@config_app.command("check")
def config_check(context: typer.Context, output: Output = Form.TABLE) -> None:
    """Check files, keys and permissions; name every weakening.

    Exit code 2 when something is wrong that will keep a process or a profile from working.
    """
    from exchange.checking import check

    findings = check(state(context).home())
    if output is Form.JSON:
        show_json([{"level": f.level, "where": f.where, "message": f.message} for f in findings])
    else:
        show_table(
            ["LEVEL", "WHERE", "FINDING"], [[f.level, f.where, f.message] for f in findings], empty="all is well"
        )
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(2)


def backup(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    passphrase_file: Annotated[Path, typer.Option(help="File with the passphrase; 0600.")],
    output: Output = Form.TABLE,
) -> None:
    """Write this home into one encrypted file.

    Databases, keys and configuration, of a running exchange too; not spools, logs and what lies outside.
    """
    from exchange import backups

    with stages("beginning the backup") as tell:
        made = backups.backup(state(context).home(), out, backups.passphrase(passphrase_file), tell=tell)
    _made(output, "file", out, made)


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A backup.")],
    passphrase_file: Annotated[Path, typer.Option(help="File with the passphrase; 0600.")],
    output: Output = Form.TABLE,
) -> None:
    """Restore a backup into an empty home.

    The ledger then says openly that it was restored: whoever saw it grow further will notice.
    """
    from exchange import backups

    home = state(context).home()
    with stages(f"restoring {file}"):
        made = backups.restore(file, home, backups.passphrase(passphrase_file))
    _made(output, "home", home.root, made)


def _made(output: Form, what: str, where: Path, made: Made) -> None:
    value = {what: str(where), "files": made.files, "bytes": made.size, "outside": list(made.outside)}
    if output is Form.JSON:
        show_json(value)
        return
    facts(Form.TABLE, {what: where, "files": made.files, "size": f"{made.size / 1e6:,.1f} MB"})
    for item in made.outside:
        note(f"not in it, because it lies outside the home: {item}")
