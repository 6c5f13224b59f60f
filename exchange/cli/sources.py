"""How to read a file of text, as options: the same for a rehearsal and for what the gateway will do."""

from __future__ import annotations

from typing import Annotated

import typer

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Type of a CSV or NDJSON column, such as amount=decimal(10,2); default by the contract. Repeatable.",
        metavar="NAME=TYPE",
    ),
]
Separator = Annotated[str, typer.Option(help="What stands between the cells of a CSV.")]
Nulls = Annotated[list[str] | None, typer.Option("--null", help="A CSV cell that means no value. Repeatable.")]
