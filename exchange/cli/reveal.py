"""reveal: single values opened, by two people of the department and its own gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.agreements import Authority, Gateway, Name, gateway_place
from exchange.cli.output import Form, Output, Overwrite, facts, note, say, show_json, show_table
from exchange.cli.state import state

reveal_app = typer.Typer(help="Open what single pseudonyms stand for, by two people.", no_args_is_help=True)

OrderFile = Annotated[Path, typer.Argument(help="The order, as `reveal ask` wrote it.", metavar="FILE")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(reveal_app, name="reveal")


@reveal_app.command("ask")
def reveal_ask(
    context: typer.Context,
    name: Name,
    field: Annotated[str, typer.Option(help="The field; its mask can be turned back.")],
    value: Annotated[list[str], typer.Option(help="A value as it was sent; at most ten. Repeatable.")],
    reason: Annotated[str, typer.Option(help="Why; both signers and the gateway see it, the ledger its digest.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the order.")],
    overwrite: Overwrite = False,
) -> None:
    """Sign an order to open values; a colleague signs too.

    Beside it lies FILE.key, which alone reads the answer: keep it, and hand on only the order. It is good for an
    hour, and once.
    """
    from exchange import revealing
    from exchange.config import demand_vacant

    demand_vacant(out, overwrite=overwrite)
    with state(context).connect() as exchange:
        revealing.ask(exchange, name, out, field=field, values=value, reason=reason)
    say(str(out))
    note(f"hand {out} to a colleague who signs too: sluicegate reveal sign {out}")


@reveal_app.command("sign")
def reveal_sign(
    context: typer.Context,
    file: OrderFile,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Countersign a colleague's order: shows it, then asks."""
    from contracts.envelope import Envelope
    from contracts.papers import RevealOrder
    from contracts.trust import read
    from exchange import signing

    envelope = Envelope.from_bytes(file.read_bytes())
    order = read(RevealOrder, envelope)
    shown = {"field": order.field, "values": list(order.values), "reason": order.reason, "dated": order.at}
    facts(Form.TABLE, shown, title=order.agreement)
    if not yes:
        typer.confirm("have these values opened?", abort=True, err=True)
    file.write_bytes(signing.reveal_countersigned(state(context).profile(), envelope).to_bytes())
    say(str(file))


@reveal_app.command("open")
def reveal_open(
    context: typer.Context,
    file: OrderFile,
    gateway: Gateway = None,
    ca: Authority = None,
    output: Output = Form.TABLE,
) -> None:
    """Have the gateway open the values; both sides see that.

    Who opened how many values of which field stands in the ledger (agreement.revealed), never a value.
    """
    from exchange import revealing

    with state(context).connect() as exchange:
        order, values = revealing.opened(exchange, file, gateway_place(gateway, ca))
    pairs = list(zip(order.values, values, strict=True))
    if output is Form.JSON:
        show_json({"agreement": order.agreement, "field": order.field, "values": dict(pairs)})
        return
    show_table(["sent", "stands for"], pairs, title=order.field)
