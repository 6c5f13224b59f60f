"""Granting transfers: the one place where data is let go.

A grant and the ledger's entry of the decision behind it are one transaction: when the ledger cannot be
written nothing is granted, and nothing is refused without being remembered either. Policy is asked
before the writer's turn begins, and the grant signed; inside it both count only for the very agreement
that was asked about, as it is then.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from contracts import instants, lifecycle
from contracts.agreement import Agreement as AgreementPaper
from contracts.envelope import Envelope, Kind, sign
from contracts.errors import Reason, SluicegateError, Violation
from contracts.model import Contract
from contracts.policy import inputs
from contracts.policy.engine import Action, Decision
from contracts.receipt import Grant, Intent, Receipt
from exchange import access, agreements, decisions, ledger, papers
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.memo import Memo
from exchange.queries import Below
from exchange.records import Agreement, Call, Transfer
from exchange.store import Tx
from exchange.transfer_state import find

GRANT_LIFE = 600  # seconds
SETTLED_AT_ONCE = 20  # unused grants
RESUMES = 50  # of one release: its papers are read in the writer's turn
DECISION_GOOD = 30  # seconds that a decision waits for the writer's turn at most

_paper_of: Memo[AgreementPaper] = Memo()
_standing_of: Memo[inputs.Standing] = Memo()


class _Asked(Struct, frozen=True):
    """A policy decision, what it was asked about, and the grant of a whole release that it allows.

    That grant is signed while others write. It is nobody's before it is stored, with the ledger's entry.
    """

    decision: Decision
    version: int
    state: str
    at: int
    ready: Transfer | None

    def about(self, agreement: Agreement, now: int) -> bool:
        """Whether it still answers the question as it is now."""
        same = (self.version, self.state) == (agreement.version, agreement.state)
        return same and 0 <= now - self.at <= DECISION_GOOD and now < agreement.not_after


class _Missing(Struct, frozen=True):
    """What is left of an earlier release: its first transfer, its id, the parts (None: all of them)."""

    first: str
    release: str
    parts: tuple[int, ...] | None


def create(
    hall: Hall,
    principal: Principal,
    call: Call | None,
    agreement: str,
    *,
    resume: str = "",
    parts: tuple[int, ...] = (),
) -> Transfer:
    """Grant one run of an agreement, for ten minutes, to a requester of its consumer.

    `resume` names an earlier transfer of which parts are missing: the grant is for those, of the same
    release, or just for the `parts` that the consumer says it lacks (INVALID_ARGUMENT for others than
    the release has, or without `resume`). Repeating a call gives the same transfer, and its grant only
    as long as that is good. In this order, each but the first two recorded: NOT_FOUND, ROLE_MISSING,
    AGREEMENT_NOT_LIVE, RECEIPT_OUTSTANDING, STATE_WRONG (nothing to resume), POLICY_REFUSED. Also
    POLICY_UNAVAILABLE, and LEDGER_UNAVAILABLE, with which nothing was granted.
    """
    access.require(principal, access.REQUESTER)
    if parts and not resume:
        raise _wrong_parts("parts are named only when a transfer is resumed")
    with hall.store.look() as tx:  # all of it is read again, as one state, in the writer's turn
        if (done := tx.replay(call)) is not None:
            return find(tx, hall, principal, done)
        record = _mine(tx, hall, principal, agreement)
        terms = _terms(tx, record)
    now = hall.clock()
    asked = _ask(hall, principal, record, terms, now, whole=not resume) if agreements.live(record, now) else None
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return find(tx, hall, principal, done)
        record = _mine(tx, hall, principal, agreement)
        outcome = _decide(tx, hall, principal, record, resume, parts, asked)
        if isinstance(outcome, Transfer):
            tx.remember(call, outcome.name)
    return decisions.settled(outcome)


def _mine(tx: Tx, hall: Hall, principal: Principal, name: str) -> Agreement:
    record = access.find(tx, Agreement, name, principal)
    access.acts_for(principal, record.consumer, f"pull under {name}")
    return agreements.as_of(record, hall.clock())


def _paper(record: Agreement) -> AgreementPaper:
    return _paper_of.get(record.digest, lambda: papers.read(AgreementPaper, Envelope.from_bytes(record.statement)))


def _decide(
    tx: Tx,
    hall: Hall,
    principal: Principal,
    record: Agreement,
    resume: str,
    parts: tuple[int, ...],
    asked: _Asked | None,
) -> Transfer | SluicegateError:
    """The granted transfer, or the refusal, either as it was recorded."""
    now = hall.clock()
    _expire(tx, hall, record.name, now)
    try:
        agreements.demand_live(record, now)
        missing = _missing(tx, record, resume, parts) if resume else None
        _demand_settled(tx, record.name, missing)
    except SluicegateError as refusal:
        if refusal.reason is not Reason.NOT_FOUND:
            _note(tx, hall, "transfer.refused", record.name, record, principal, decisions.refused(refusal))
        return refusal
    if asked is None or not asked.about(record, now):
        asked = _ask(hall, principal, record, _terms(tx, record), now, whole=missing is None)
    if not asked.decision.allow:
        _note(tx, hall, "transfer.refused", record.name, record, principal, decisions.entry(asked.decision))
        return asked.decision.refusal()
    granted = asked.ready or _granted(hall, record, missing, asked.decision, now)
    tx.insert(granted)
    detail = {"agreement": record.name, "agreementDigest": record.digest, "resumes": granted.resumes}
    _note(tx, hall, "transfer.granted", granted.name, record, principal, {**detail, **decisions.entry(asked.decision)})
    return granted


def _terms(tx: Tx, record: Agreement) -> Contract:
    return papers.contract(tx, record.contract, _paper(record).document_digest)


def _ask(hall: Hall, principal: Principal, record: Agreement, terms: Contract, now: int, *, whole: bool) -> _Asked:
    """Ask the policy about the agreement as it is at `now`. The exchange knows no schema, so no plan.
    `whole`: nothing is resumed, so the grant can be signed at once."""
    standing = _standing_of.get(
        f"{record.digest} {hall.standard.digest}", lambda: inputs.Standing(terms, _paper(record), None, hall.standard)
    )
    question = standing.at(decisions.subject(principal), record.state, now)
    decision = hall.policy.decide(Action.TRANSFER, question)
    ready = _granted(hall, record, None, decision, now) if whole and decision.allow else None
    return _Asked(decision, record.version, record.state, now, ready)


def _granted(hall: Hall, record: Agreement, missing: _Missing | None, decision: Decision, now: int) -> Transfer:
    name = f"transfers/{papers.new_id('t', hall.entropy)}"
    grant = Grant(
        id=papers.new_id("g", hall.entropy),
        transfer=name,
        agreement=record.name,
        agreement_digest=record.digest,
        gateway=record.gateway.rsplit("/", 1)[-1],
        release=missing.release if missing else None,
        parts=missing.parts if missing else None,
        issued=instants.rfc3339(now),
        expires=instants.rfc3339(now + GRANT_LIFE),
    )
    return Transfer(
        name=name,
        created=now,
        updated=now,
        provider=record.provider,
        consumer=record.consumer,
        agreement=record.name,
        gateway=record.gateway,
        state="GRANTED",
        grant=sign(Kind.GRANT, grant, hall.grant_key).to_bytes(),
        grant_expires=now + GRANT_LIFE,
        decision=decision.id,
        resumes=missing.first if missing else "",
    )


# --- what stands in the way


def _demand_settled(tx: Tx, agreement: str, missing: _Missing | None) -> None:
    """Refuse while a receipt waits for its acknowledgement. Resuming its own release is no new grant,
    and the receipt of a resumed release speaks for the earlier ones of it."""
    for waiting in papers.every(tx, Transfer, {"agreement": agreement, "state": ("COMPLETED", "PARTIAL")}):
        first = waiting.resumes or waiting.name
        if (missing is not None and missing.first == first) or _superseded(tx, waiting, first):
            continue
        raise SluicegateError(
            Reason.RECEIPT_OUTSTANDING,
            f"the receipt of {waiting.name} is not acknowledged: verify and acknowledge it, then ask again",
            metadata={"transfer": waiting.name},
        )


def _superseded(tx: Tx, waiting: Transfer, first: str) -> bool:
    for later in papers.every(tx, Transfer, {"resumes": first}):  # newest first
        if later.name == waiting.name:
            return False
        if later.receipt:
            return True
    return False


def _missing(tx: Tx, record: Agreement, resume: str, wanted: tuple[int, ...]) -> _Missing:
    """What a resumed transfer is to bring: the parts that the consumer says it lacks, else those that no
    receipt says were served. When the receipts say all were, or there is none, it is all parts again."""
    earlier = tx.get(Transfer, resume)
    if earlier is None or earlier.agreement != record.name:
        raise access.missing(resume)
    first = earlier.resumes or earlier.name
    chain = [*papers.every(tx, Transfer, {"resumes": first}), *papers.every(tx, Transfer, {"name": first})]
    if len(chain) > RESUMES:
        raise SluicegateError(
            Reason.STATE_WRONG,
            f"{first} was resumed {RESUMES} times: acknowledge what arrived and ask for a new transfer",
            metadata={"transfer": first},
        )
    receipts = [papers.read(Receipt, Envelope.from_bytes(one.receipt)) for one in chain if one.receipt]
    intents = [papers.read(Intent, Envelope.from_bytes(one.intent)) for one in chain if one.intent]
    releases = [*(paper.release for paper in receipts), *(paper.release for paper in intents)]
    done = any(one.state == "ACKNOWLEDGED" for one in chain) and any(paper.complete for paper in receipts)
    if not releases or done:
        why = "was received and acknowledged whole" if releases else "never came to a release"
        raise SluicegateError(
            Reason.STATE_WRONG, f"{resume} {why}: ask for a new transfer instead", metadata={"state": earlier.state}
        )
    announced = [*(len(paper.parts) for paper in receipts), *(len(paper.parts) for paper in intents)]
    total = max(announced, default=0)
    if not set(wanted) <= set(range(total)):
        raise _wrong_parts(f"the release has parts 0 to {total - 1}")
    if wanted or not receipts:
        return _Missing(first, releases[0], tuple(sorted(set(wanted))) or None)
    left = set(range(total)).difference(*(paper.parts_sent for paper in receipts))
    return _Missing(first, releases[0], tuple(sorted(left)) or None)


def _wrong_parts(message: str) -> SluicegateError:
    return SluicegateError(Reason.INVALID_ARGUMENT, message, (Violation("parts", message),))


def _expire(tx: Tx, hall: Hall, agreement: str, now: int) -> None:
    """Settle some of the agreement's grants that nobody used in time. Whoever looks at one sees that it
    expired anyway, so a backlog may wait; the writer's turn must not."""
    unused = {"agreement": agreement, "state": "GRANTED", "grant_expires": Below(now + 1)}
    for run in tx.page(Transfer, where=unused, limit=SETTLED_AT_ONCE):
        state = lifecycle.move("transfer", run.state, "expire")
        tx.replace(replace(run, state=state, updated=now), expected_version=run.version)
        ledger.append(
            tx,
            hall,
            event="transfer.expired",
            resource=run.name,
            parties=(run.provider, run.consumer),
            actor="exchange",
            detail={"agreement": agreement},
        )


def _note(
    tx: Tx, hall: Hall, event: str, resource: str, record: Agreement, principal: Principal, detail: dict[str, object]
) -> None:
    ledger.append(
        tx,
        hall,
        event=event,
        resource=resource,
        parties=(record.provider, record.consumer),
        actor=principal.name,
        detail=detail,
    )
