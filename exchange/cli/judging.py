"""effectiveness: the judgement of a release, on a file that is masked already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.contracts import load
from exchange.cli.output import Form, Output, Overwrite, facts, note, say, show_json
from exchange.cli.progress import stages
from exchange.cli.sources import Columns, Nulls, Separator

if TYPE_CHECKING:
    from connectors.sources import SourceSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(effectiveness)


def effectiveness(
    file: Annotated[
        Path, typer.Argument(help="The masked data: a file, a folder or a glob; Parquet, CSV, NDJSON or Arrow.")
    ],
    contract: Annotated[Path, typer.Option(help="The contract it is held to, *.odcs.yaml.", metavar="CONTRACT")],
    purpose: Annotated[str | None, typer.Option(help="The purpose it was masked for; default the only one.")] = None,
    register: Annotated[
        Path | None, typer.Option(help="Raw register of the population, for the journalist's risk.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="Raw data that it was made from, for what was lost.", metavar="DATA")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Where to write a report with charts.", metavar="OUT")] = None,
    form: Annotated[str | None, typer.Option("--format", help="parquet, csv, ndjson or arrow.")] = None,
    column: Columns = None,
    separator: Separator = ",",
    null: Nulls = None,
    overwrite: Overwrite = False,
    output: Output = Form.TABLE,
) -> None:
    """Judge a masked file as if it were a release.

    Takes the columns as they are: a pulled release, or a table that somebody else masked. --format and --column
    are about FILE; register and source are read by their endings and the contract's types. The report is one page
    without scripts; it names a value only where at least k persons have it. Exit code 5 when a bound of the
    contract is missed, or the file holds what the purpose does not send.
    """
    from exchange.cli.judgement_page import page
    from exchange.judging import judge_file
    from exchange.keyfiles import demand_vacant
    from exchange.trying import source_settings

    if html is not None:
        demand_vacant(html, overwrite=overwrite)

    def raw(path: Path | None) -> SourceSettings | None:
        return None if path is None else source_settings(path, separator=separator, null_values=null)

    settings = source_settings(file, form, columns=column, separator=separator, null_values=null)
    with stages(f"looking at {file}") as tell:
        judged = judge_file(
            load(contract), settings, purpose=purpose, register=raw(register), origin=raw(source), tell=tell
        )
    if html is not None:
        html.write_text(page(judged), encoding="utf-8")
        note(f"the report is {html}")
    if output is Form.JSON:
        show_json(judged.as_json())
    else:
        title = f"{file} for {judged.purpose}: {'passes' if judged.passes else 'FAILS'}"
        facts(Form.TABLE, judged.figures(), title=title)
        for line in judged.problems:
            say(f"  - {line}")
        for line in judged.remarks:
            note(f"note: {line}")
    if not judged.passes:
        raise typer.Exit(5)
