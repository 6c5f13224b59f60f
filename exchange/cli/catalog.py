"""search, show: find out what is shared, for what, and what it would look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.output import Form, Limit, Output, facts, listing, note, say, shortened, show_json, show_table
from exchange.cli.state import state

if TYPE_CHECKING:
    import polars as pl

    from contracts.model import Contract
    from contracts.technique import Technique


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(search)
    app.command()(show)


def spelled(mask: Technique) -> str:
    """A mask with its parameters, short: `bucket size=20y`."""
    import msgspec

    parameters = {k: v for k, v in msgspec.to_builtins(mask).items() if k != "mask" and v not in (None, "")}
    short = (f"{k}={v.get('unit', '..') if isinstance(v, dict) else v}" for k, v in parameters.items())
    return " ".join([mask.id, *short])


def search(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(help="Words that must all be found; none lists everything.")
    ] = None,
    output: Output = Form.TABLE,
    limit: Limit = 50,
) -> None:
    """Find datasets by name, description, column or purpose."""
    from exchange.names import short_dataset

    with state(context).connect() as exchange:
        query = " ".join(words or [])
        found = exchange.search(query, limit) if query else exchange.datasets(limit=limit)
        listing(
            output,
            found,
            {
                "DATASET": lambda d: short_dataset(d.name),
                "SHARED": lambda d: d.sharing_class,
                "PURPOSES": lambda d: ", ".join(d.purposes),
                "DESCRIPTION": lambda d: shortened(d.description, 80),
            },
            empty="no dataset found that you may see",
        )


def show(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="party/dataset", metavar="DATASET")],
    purpose: Annotated[str | None, typer.Option(help="Show the sample for this purpose.")] = None,
    rows: Annotated[int, typer.Option(min=0, max=50, help="Rows of the synthetic sample.")] = 5,
    output: Output = Form.TABLE,
) -> None:
    """Show a dataset: columns, purposes, a synthetic sample.

    The sample is made up from the contract alone, then masked as the purpose says: it shows the form
    of a release, not one real value.
    """
    from contracts import odcs
    from exchange.names import short_dataset

    with state(context).connect() as exchange:
        found = exchange.dataset(dataset)
    if found.contract is None:
        say(f"{short_dataset(found.name)} has no contract")
        return
    contract = odcs.load(found.contract.document.encode()).contract
    offered = tuple(name for name in found.purposes if name in contract.purposes)
    chosen = _chosen(purpose, offered)
    frame = _sample(contract, chosen, rows) if chosen and rows else None
    if output is Form.JSON:
        made = frame.rows(named=True) if frame is not None else []
        show_json({**found.as_json(), "sample": {"purpose": chosen, "rows": made}})
        return
    others = [name for name in contract.purposes if name not in offered]
    basis = f" (legal basis {contract.sharing.legal_basis})" if contract.sharing.legal_basis else ""
    facts(
        Form.TABLE,
        {
            "version": contract.version,
            "shared": f"{found.sharing_class}{basis}",
            "provider": contract.provider,
            "description": found.description,
            "never for": contract.negative_list.uses or "-",
            "terms": contract.terms_digest,
            "published": found.contract.create_time,
            # The contract is one signed document: who may see it sees these too, so they are not hidden here.
            **({"not for you": others} if others else {}),
        },
        title=short_dataset(found.name),
    )
    _show_columns(contract, offered)
    for name in offered:
        _show_purpose(contract, name)
    if not offered:
        note("no purpose of it is open to you")
    if frame is not None:
        show_table(
            frame.columns, frame.rows(), title=f"synthetic sample for {chosen} (made up, masked as a release would be)"
        )
    if chosen and contract.provider != exchange.profile.party:
        note(f"ask for it: sluicegate request {short_dataset(found.name)} --purpose {chosen} --reason ...")


def _chosen(purpose: str | None, offered: tuple[str, ...]) -> str | None:
    from contracts.errors import Reason, SluicegateError, nearest

    if purpose is not None and purpose not in offered:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"no such purpose is open to you: {purpose[:60]!r}; {nearest(purpose, offered)}"
        )
    return purpose or next(iter(offered), None)


def _sample(contract: Contract, purpose: str, rows: int) -> pl.DataFrame | None:
    from connectors.releases import sample
    from contracts.errors import SluicegateError

    try:
        return sample.synthetic(contract, purpose, rows)
    except SluicegateError as error:
        note(f"no sample can be made up for {purpose}: {error.message}")
        return None


def _show_columns(contract: Contract, offered: tuple[str, ...]) -> None:
    def treated(name: str, field: str) -> str:
        mask = contract.purposes[name].fields.get(field)
        return spelled(mask) if mask is not None else "-"

    show_table(
        ["COLUMN", "TYPE", "TIER", "ROLE", *offered],
        [
            [
                field.name,
                field.logical_type,
                field.classification.value,
                field.identifiability.value,
                *(treated(name, field.name) for name in offered),
            ]
            for field in contract.fields
        ],
        title="columns, and what each purpose makes of them (- is not sent)",
    )


def _show_purpose(contract: Contract, name: str) -> None:
    from contracts import vocabulary

    purpose, role = contract.purposes[name], contract.role(name)
    known = vocabulary.purpose(purpose.term)
    value: dict[str, object] = {
        "term": f"{purpose.term}, {known.label.lower()}" if known else purpose.term,
        "legal basis": purpose.legal_basis,
    }
    if purpose.which_rows:
        value["rows"] = purpose.which_rows
    if purpose.effectiveness:
        require = purpose.effectiveness.require
        value["bounds"] = require.words
        suppressed = f"up to {require.max_suppression:.0%}" if require.max_suppression else "no row is suppressed"
        value["if missed"] = (
            f"suppressed, {suppressed}" if purpose.effectiveness.on_violation == "suppress" else "refused"
        )
    if purpose.aggregate:
        value["aggregate"] = purpose.aggregate.words
    value |= {
        "for": "any registered party" if "*" in purpose.consumers else purpose.consumers,
        "decided by": role.approvers if role else "-",
        "same release for": purpose.refresh,
        "kept at most": purpose.retention,
    }
    print()
    facts(Form.TABLE, value, title=f"purpose {name}")
