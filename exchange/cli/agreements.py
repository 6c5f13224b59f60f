"""agreements, sign, suspend, resume, terminate: the life of an agreement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.output import Form, Limit, Output, facts, listing, note, show_json
from exchange.cli.state import state

if TYPE_CHECKING:
    from exchange import views
    from exchange.stopping import Place, Told

Name = Annotated[str, typer.Argument(help="agreements/a-... or just a-...", metavar="AGREEMENT")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is on record and shown to the other side.")]
Gateway = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Your own gateway: tell it without asking the exchange where it is."),
]
Authority = Annotated[Path | None, typer.Option(help="PEM behind that gateway's certificate.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (agreements, sign, suspend, resume, terminate):
        app.command()(command)


def agreements(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show one agreement in full.", metavar="[AGREEMENT]")] = None,
    status: Annotated[str, typer.Option("--state", help="PENDING, ACTIVE, SUSPENDED, TERMINATED or EXPIRED.")] = "",
    output: Output = Form.TABLE,
    limit: Limit = 50,
) -> None:
    """Agreements of your party, or one in full."""
    from exchange.names import last, short_dataset

    with state(context).connect() as exchange:
        if name is not None:
            _show_agreement(exchange.agreement(name), output, exchange.profile.party)
            return
        listing(
            output,
            exchange.agreements(status, limit),
            {
                "AGREEMENT": lambda a: last(a.name),
                "STATE": lambda a: a.state,
                "DATASET": lambda a: short_dataset(a.dataset),
                "CONSUMER": lambda a: last(a.consumer),
                "PURPOSE": lambda a: a.purpose,
                "ENDS": lambda a: a.end_time,
                "NOT SIGNED BY": lambda a: ", ".join(a.unsigned_parties) or "-",
            },
            empty="no agreements",
        )


def _show_agreement(found: views.Agreement, output: Form, party: str) -> None:
    from exchange.names import last, short_dataset

    if output is Form.JSON:
        show_json(found.as_json())
        return
    value: dict[str, object] = {"state": found.state}
    if found.state_reason:
        value["why"] = found.state_reason
    if found.suspended_until:
        value["suspended until"] = found.suspended_until
    if found.keys_destroyed:
        value["keys destroyed"] = found.keys_destroyed
    value |= {
        "dataset": short_dataset(found.dataset),
        "consumer": last(found.consumer),
        "purpose": found.purpose,
        "fields": found.fields,
        "valid": f"{found.start_time} to {found.end_time}",
        "gateway": last(found.gateway),
        "request": found.request,
    }
    if found.unsigned_parties:
        value["not signed by"] = found.unsigned_parties
    facts(Form.TABLE, value, title=found.name)
    if found.state == "PENDING" and found.unsigned_parties[:1] == (party,):
        note(f"it waits for you: sluicegate sign {last(found.name)}")
    elif found.state == "ACTIVE" and last(found.consumer) == party:
        note(f"next: sluicegate pull {last(found.name)} --out FILE.parquet")


def _shown(found: views.Agreement, output: Form) -> None:
    """What became of it, after a change."""
    value: dict[str, object] = {"state": found.state}
    if found.suspended_until:
        value["until"] = found.suspended_until
    facts(output, found.as_json() if output is Form.JSON else value, title="" if output is Form.JSON else found.name)


def _heard(told: Told, *, lifted: bool = False) -> None:
    """Say whether our own gateway heard."""
    if told.reached:
        now = "serves it again within a few seconds" if lifted else "serves nothing under it from now on"
        note(f"the gateway {told.gateway} {now}")
    elif not told.certified:
        note(
            f"the exchange names another TLS certificate for {told.gateway} than your department certified, so it was "
            "not told; it hears of it from the exchange. Ask its admin whether it knows"
        )
    else:
        note(f"the gateway {told.gateway} cannot be reached; it hears of it from the exchange")


@contextmanager
def _without_exchange(place: Place | None) -> Iterator[None]:
    """Say what still works when the exchange does not answer and was asked where the gateway is."""
    from contracts.errors import Reason, SluicegateError

    try:
        yield
    except SluicegateError as error:
        if error.reason is Reason.UNAVAILABLE and place is None:
            note("the exchange does not answer; your own gateway obeys you without it: --gateway HOST:PORT --ca FILE")
        raise


def gateway_place(gateway: str | None, ca: Path | None) -> Place | None:
    """Where the caller's own gateway is, by `--gateway` and `--ca`; None without both."""
    from exchange.stopping import Place

    if (gateway is None) != (ca is None):
        raise typer.BadParameter("--gateway and --ca belong together")
    if gateway is None or ca is None:
        return None
    try:
        return Place(gateway if "://" in gateway else f"grpc+tls://{gateway}", ca.read_text())
    except (OSError, UnicodeDecodeError):
        raise typer.BadParameter(f"{ca} is no PEM file that can be read") from None


def sign(context: typer.Context, name: Name, output: Output = Form.TABLE) -> None:
    """Verify an agreement, then sign it for your party."""
    with state(context).connect() as exchange:
        found = exchange.sign(name)
    _shown(found, output)


def suspend(
    context: typer.Context,
    name: Name,
    reason: Why,
    until: Annotated[str, typer.Option(help="End of the suspension, RFC 3339 UTC: 2026-12-31T00:00:00Z.")],
    gateway: Gateway = None,
    ca: Authority = None,
    output: Output = Form.TABLE,
) -> None:
    """Stop transfers for a time; your gateway is told first."""
    import time

    from contracts.instants import demand_future, epoch

    demand_future(epoch(until), int(time.time()), "until")  # before anybody is told
    place = gateway_place(gateway, ca)
    with state(context).connect() as exchange, _without_exchange(place):
        found = exchange.suspend(name, reason=reason, until=until, place=place, told=_heard)
    _shown(found, output)


def resume(context: typer.Context, name: Name, reason: Why, output: Output = Form.TABLE) -> None:
    """End a suspension before its time."""
    with state(context).connect() as exchange:
        found = exchange.resume(name, reason=reason, told=partial(_heard, lifted=True))
    _shown(found, output)


def terminate(
    context: typer.Context,
    name: Name,
    reason: Why,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    gateway: Gateway = None,
    ca: Authority = None,
    output: Output = Form.TABLE,
) -> None:
    """End an agreement for good."""
    if not yes:
        typer.confirm(f"end {name} for good?", abort=True, err=True)
    place = gateway_place(gateway, ca)
    with state(context).connect() as exchange, _without_exchange(place):
        found = exchange.terminate(name, reason=reason, place=place, told=_heard)
    _shown(found, output)
