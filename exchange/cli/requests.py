"""request, requests, approve, reject, cancel: asking for data, and deciding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from exchange.cli.output import Form, Limit, Output, facts, json_text, listing, note, say, shortened, show_json
from exchange.cli.state import state

if TYPE_CHECKING:
    from exchange import views
    from exchange.client import Exchange

Name = Annotated[str, typer.Argument(help="requests/r-... or just r-...", metavar="REQUEST")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (request, requests, approve, reject, cancel):
        app.command()(command)


def request(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="party/dataset", metavar="DATASET")],
    purpose: Annotated[str, typer.Option(help="One of the contract's purposes.")],
    reason: Annotated[str, typer.Option(help="Why; the approvers read it.")],
    field: Annotated[list[str] | None, typer.Option(help="A field; repeat. None asks for all of the purpose.")] = None,
    duration: Annotated[str, typer.Option(help="How long, ISO 8601.")] = "P90D",
    output: Output = Form.TABLE,
) -> None:
    """Ask for a dataset for a purpose; checked at once."""
    with state(context).connect() as exchange:
        made = exchange.request(dataset, purpose=purpose, reason=reason, fields=tuple(field or ()), duration=duration)
    if output is Form.JSON:
        show_json(made.as_json())
        return
    say(made.name)
    note(f"agreed at once: {made.agreement}" if made.agreement else f"waits for {_missing(made)}")


def _missing(found: views.Request) -> str:
    """What an undecided request waits for: `1 approval, by steward@health.example`."""
    left = found.approvals_needed - len(found.approvals)
    if found.state != "SUBMITTED" or left <= 0:
        return "-"
    who = " or ".join(found.approvers) if left == 1 else " and ".join(found.approvers)
    return f"{left} approval{'s' if left > 1 else ''}, by {who}"


def _given(found: views.Request) -> tuple[str, ...]:
    return tuple(
        f"{approval.payload.get('approver')} at {approval.payload.get('created')}" for approval in found.approvals
    )


def requests(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show one request in full.", metavar="[REQUEST]")] = None,
    status: Annotated[str, typer.Option("--state", help="SUBMITTED, APPROVED, REJECTED or CANCELLED.")] = "",
    output: Output = Form.TABLE,
    limit: Limit = 50,
) -> None:
    """Requests of your party: state, what is missing, who acts."""
    from exchange.names import last, short_dataset

    with state(context).connect() as exchange:
        if name is not None:
            _show_request(exchange.request_status(name), output, exchange.profile.subject)
            return
        listing(
            output,
            exchange.requests(status, limit),
            {
                "REQUEST": lambda r: last(r.name),
                "STATE": lambda r: r.state,
                "DATASET": lambda r: short_dataset(r.dataset),
                "CONSUMER": lambda r: last(r.consumer),
                "PURPOSE": lambda r: r.purpose,
                "APPROVALS": lambda r: f"{len(r.approvals)} of {r.approvals_needed}",
                "WAITS FOR": _missing,
                "AGREEMENT": lambda r: last(r.agreement) or "-",
            },
            empty="no requests",
        )


def _show_request(found: views.Request, output: Form, me: str) -> None:
    from exchange.names import last, short_dataset

    if output is Form.JSON:
        show_json(found.as_json())
        return
    signed = found.statement.payload if found.statement else {}
    value: dict[str, object] = {
        "state": found.state,
        "dataset": short_dataset(found.dataset),
        "asked by": f"{signed.get('requester')} of {last(found.consumer)}, at {signed.get('created')}",
        "purpose": found.purpose,
        "fields": found.fields,
        "duration": signed.get("duration"),
        "reason": signed.get("reason"),
        "approved by": _given(found) or "-",
    }
    if found.state == "SUBMITTED":
        value["waits for"] = _missing(found)
    if found.reject_reason:
        value["rejected because"] = found.reject_reason
    if found.agreement:
        value["agreement"] = found.agreement
    facts(Form.TABLE, value, title=found.name)
    if found.state == "SUBMITTED" and me in found.approvers:
        note(f"you may decide: sluicegate approve {last(found.name)}, or reject")
    elif found.agreement:
        note(f"next: sluicegate agreements {last(found.agreement)}")


def approve(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Form.TABLE,
) -> None:
    """Approve a request: shows exactly what you sign, then asks."""
    import msgspec

    from exchange import signing

    chosen = state(context)
    with chosen.connect() as exchange:
        found = exchange.request_status(name)
        _demand_role(exchange.whoami())
        paper = signing.approval_payload(exchange.profile, found)
        note("this signed request:")
        _show_document(found.statement.payload if found.statement else {})
        _show_consequences(exchange, found)
        note("would be approved by your signature under this document:")
        _show_document(msgspec.to_builtins(paper))
        if not yes:
            typer.confirm("sign it?", abort=True, err=True)
        decided = exchange.approve(found, paper)
    if output is Form.JSON:
        show_json(decided.as_json())
        return
    say(decided.agreement or decided.name)
    if decided.agreement:
        note(f"approved; {decided.agreement} is drafted and signed for the department, the consumer signs next")
    else:
        note(f"approved; it still waits for {_missing(decided)}")


def _demand_role(me: views.Principal) -> None:
    """The exchange says no to others too, but only after they were shown what they would sign."""
    from contracts.errors import Reason, SluicegateError
    from exchange.access import APPROVERS

    if not set(APPROVERS) & set(me.roles):
        held = f"you have {', '.join(me.roles) or 'no role'}"
        raise SluicegateError(Reason.ROLE_MISSING, f"approving needs the role {' or '.join(APPROVERS)}; {held}")


def _show_consequences(exchange: Exchange, found: views.Request) -> None:
    """What the purpose makes of the fields that are asked for, from the contract that the request names."""
    from contracts import odcs
    from exchange.cli.catalog import spelled

    signed = found.statement.payload if found.statement else {}
    published = exchange.dataset(found.dataset).contract
    if published is None or published.document_digest != signed.get("documentDigest"):
        note("its contract is not the current one any more: approving will be refused")
        return
    contract = odcs.load(published.document.encode()).contract
    purpose = contract.purposes.get(found.purpose)
    if purpose is None:
        return
    known = {field.name: field for field in contract.fields}
    note(f"so {found.consumer} gets, under version {contract.version} of the contract:")
    for name in found.fields:
        if name in known and name in purpose.fields:
            note(f"  {name}: {spelled(purpose.fields[name])} ({known[name].classification.value})")
    if purpose.which_rows:
        note("  rows: " + shortened("; ".join(purpose.which_rows), 400))
    if purpose.effectiveness:
        note("  " + ", ".join(purpose.effectiveness.require.words))
    if purpose.aggregate:
        note("  " + ", ".join(purpose.aggregate.words))
    note(f"  for {shortened(purpose.term, 80)}, kept for {purpose.retention} at most")


def _show_document(value: Any) -> None:
    for line in json_text(value).splitlines():
        note(f"  {line}")


def reject(
    context: typer.Context,
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; the consumer reads it.")],
    output: Output = Form.TABLE,
) -> None:
    """Refuse a request, with the reason."""
    with state(context).connect() as exchange:
        decided = exchange.reject(name, reason)
    facts(output, decided.as_json() if output is Form.JSON else {"state": decided.state}, title=decided.name)


def cancel(context: typer.Context, name: Name, output: Output = Form.TABLE) -> None:
    """Take an undecided request of your party back."""
    with state(context).connect() as exchange:
        decided = exchange.cancel(name)
    facts(output, decided.as_json() if output is Form.JSON else {"state": decided.state}, title=decided.name)
