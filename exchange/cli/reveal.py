"""reveal: single values opened, by two people of the department and its own gateway."""

from __future__ import annotations

import sys
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
    reason: Annotated[str, typer.Option(help="Why; the order keeps it, the ledger only holds you to it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the order.")],
    overwrite: Overwrite = False,
) -> None:
    """Sign an order to open values, for a colleague to sign too.

    The contract names you and the colleague as approvers of the purpose, on two levels. Beside the order lies
    FILE.key, which alone reads the answer: keep it, and hand on only the order. It is good for an hour, and once.
    """
    from exchange import revealing

    with state(context).connect() as exchange:
        others = revealing.ask(exchange, name, out, field=field, values=value, reason=reason, overwrite=overwrite)
    say(str(out))
    note(f"hand {out} to {' or '.join(others)}, who signs too: sluicegate reveal sign {out}")


@reveal_app.command("sign")
def reveal_sign(
    context: typer.Context,
    file: OrderFile,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Countersign a colleague's order, which is shown first.

    Who asked for it is shown too, and you are asked. The answer is for whoever asked, so an order that no
    colleague of the other level has signed is refused.
    """
    from exchange import revealing

    envelope, order = revealing.read_order(file)
    with state(context).connect() as exchange:
        asker = revealing.asker(exchange, envelope, order)
    shown = {
        "asked by": asker,
        "field": order.field,
        "values": list(order.values),
        "reason": order.reason,
        "dated": order.at,
    }
    facts(Form.TABLE, shown, title=order.agreement)
    if not yes:
        typer.confirm("have these values opened?", abort=True, err=True)
    revealing.countersign(state(context).profile(), envelope, file)
    note(f"signed; who asked reads the answer: sluicegate reveal open {file}")


@reveal_app.command("open")
def reveal_open(
    context: typer.Context,
    file: OrderFile,
    gateway: Gateway = None,
    ca: Authority = None,
    output: Output = Form.TABLE,
) -> None:
    """Have your gateway open the values; they are shown here.

    Both sides see in the ledger who opened how many values of which field (agreement.revealed), never a value.
    """
    from exchange import revealing

    with state(context).connect() as exchange:
        order, values = revealing.opened(exchange, file, gateway_place(gateway, ca))
    pairs = list(zip(order.values, values, strict=True))
    if output is Form.JSON:
        show_json({"agreement": order.agreement, "field": order.field, "values": dict(pairs)})
    else:
        show_table(["sent", "stands for"], pairs, title=order.field)
    sys.stdout.flush()
    revealing.forget(file)
