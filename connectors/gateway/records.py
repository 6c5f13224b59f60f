"""What a gateway's state is made of: frozen values, one for each thing that must not be forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339

PaperKind = Literal["statement", "revocation"]
ReportKind = Literal["intent", "receipt", "refusal", "destruction", "revealed"]


@dataclass(frozen=True, slots=True)
class StoredTransfer:
    """A transfer as remembered. `draft` is the receipt before it is finished (JSON), `receipt` the
    signed one; `refusal` the reason it ended without an intent; instants are epoch seconds."""

    transfer: str
    grant_id: str
    agreement: str
    consumer: str
    release: str | None
    resumed: bool
    expires: int
    intent: bytes | None
    intent_reported: bool
    draft: bytes | None
    receipt: bytes | None
    refusal: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing can be served under it any more."""
        return self.receipt is not None or self.refusal is not None


class PartsLeft(NamedTuple):
    """Parts of a release that left: whole, and perhaps in part, because their stream broke off."""

    sent: tuple[int, ...]
    begun: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One entry of the outbox, oldest first; `attempts` so far."""

    id: int
    transfer: str
    kind: ReportKind
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """A report that the exchange took at `delivered`. `mark` is what its ledger must name: the digest of
    the paper, or the reason of a refusal."""

    id: int
    transfer: str
    kind: ReportKind
    mark: str
    delivered: int


@dataclass(frozen=True, slots=True)
class LocalSuspension:
    """What the department's own approver last ordered for one agreement. `until` None is for good."""

    agreement: str
    at: int
    until: int | None
    lifted: bool

    def stops(self, now: int) -> bool:
        """Whether it forbids serving at this instant."""
        return not self.lifted and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class Interval:
    """What a consumer has of a dataset for a purpose until an instant: this one release, under this agreement, and
    no other, not even after a restart or under a later agreement. Where it stands `alone`, it has no release for
    another purpose either, as nothing would compare the two. No purpose: for whichever."""

    consumer: str
    dataset: str
    agreement_digest: str
    purpose: str
    alone: bool
    release: str
    content_digest: str
    until: int


@dataclass(frozen=True, slots=True)
class RefusedRelease:
    """A release that could not be made, and will not be until an instant: for whom, from what (`making` and
    `source`: digests of the plan and of the source's state), and the refusal, whose figures are for the
    department only."""

    consumer: str
    dataset: str
    making: str
    source: str
    reason: Reason
    message: str
    metadata: dict[str, str]
    until: int


def held(running: Iterable[Interval], agreement_digest: str, purpose: str, *, alone: bool) -> Interval | None:
    """Of a consumer's intervals on a dataset that run, the one that a release would be of; None for a new one. Raises
    REFRESH_PENDING where one of another agreement forbids it."""
    mine = None
    for one in running:
        if one.agreement_digest == agreement_digest:
            mine = one
        elif alone or one.alone or one.purpose in ("", purpose):
            raise refresh_pending(one)
    return mine


def refresh_pending(held: Interval) -> SluicegateError:
    """Why no other release may be made while this interval lasts."""
    message = (
        f"{held.release} of {held.dataset} stands for {held.consumer} until {rfc3339(held.until)}; "
        "another release before then could be subtracted from it"
    )
    return SluicegateError(Reason.REFRESH_PENDING, message, metadata={"until": rfc3339(held.until)})
