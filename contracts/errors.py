"""Every way Sluicegate says no: one closed list of reasons, one exception, one kind of finding.

    SluicegateError(reason, message, violations, metadata, remedy)

`Reason` is the contract with callers: it travels as `google.rpc.ErrorInfo.reason` over gRPC, as the
first word of a Flight error, and decides the exit code of the command line. `TRAITS` says what each
reason means to a machine. Nothing else crosses a process boundary; an unexpected exception becomes
INTERNAL with a request id, its text stays in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused or failed. `TRAITS` holds the code, the exit code and the remedy. New ones
    stand last: their places are numbers on the wire."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_REQUIRED = "DEADLINE_REQUIRED"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"  # noqa: S105 - a name, not a secret
    TOO_LARGE = "TOO_LARGE"
    CONTRACT_INVALID = "CONTRACT_INVALID"
    DATA_INVALID = "DATA_INVALID"
    CONFIG_INVALID = "CONFIG_INVALID"
    CONFIG_UNSAFE = "CONFIG_UNSAFE"
    TOKEN_MISSING = "TOKEN_MISSING"  # noqa: S105
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105
    PRINCIPAL_UNKNOWN = "PRINCIPAL_UNKNOWN"
    ROLE_MISSING = "ROLE_MISSING"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    STATE_WRONG = "STATE_WRONG"
    RATE_LIMITED = "RATE_LIMITED"
    REQUEST_OUTSIDE_CONTRACT = "REQUEST_OUTSIDE_CONTRACT"
    NOT_SHARED = "NOT_SHARED"
    POLICY_REFUSED = "POLICY_REFUSED"
    POLICY_UNAVAILABLE = "POLICY_UNAVAILABLE"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    KEY_UNTRUSTED = "KEY_UNTRUSTED"
    TRUST_MISSING = "TRUST_MISSING"
    AGREEMENT_NOT_LIVE = "AGREEMENT_NOT_LIVE"
    RECEIPT_OUTSTANDING = "RECEIPT_OUTSTANDING"
    GRANT_INVALID = "GRANT_INVALID"
    GRANT_EXPIRED = "GRANT_EXPIRED"
    GRANT_USED = "GRANT_USED"
    PLAN_REFUSED = "PLAN_REFUSED"
    BOUNDS_NOT_MET = "BOUNDS_NOT_MET"
    REFRESH_PENDING = "REFRESH_PENDING"
    SOURCE_UNAVAILABLE = "SOURCE_UNAVAILABLE"
    SPOOL_FULL = "SPOOL_FULL"
    SINK_FAILED = "SINK_FAILED"
    TOO_MANY_TRANSFERS = "TOO_MANY_TRANSFERS"
    TRANSFER_STOPPED = "TRANSFER_STOPPED"
    CONTROL_PLANE_SILENT = "CONTROL_PLANE_SILENT"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    RECEIPT_INVALID = "RECEIPT_INVALID"
    LEDGER_INVALID = "LEDGER_INVALID"
    LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"
    RESIDUAL_IDENTIFIERS = "RESIDUAL_IDENTIFIERS"
    BUDGET_SPENT = "BUDGET_SPENT"


@dataclass(frozen=True, slots=True)
class Traits:
    """What a reason means to a machine, and what a person should do about it.

    `code` is the name of the gRPC status code. `exit_code` is what the command line returns:
    2 bad input, 3 not found, 4 not allowed, 5 refused by contract, policy or bounds, 6 wrong state or
    conflict, 7 try again later, 8 evidence does not verify, 9 our own fault.
    """

    code: str
    exit_code: int
    meaning: str
    remedy: str
    retryable: bool = False


_BAD, _FIND, _AUTH, _NO, _STATE, _LATER, _PROOF, _OURS = 2, 3, 4, 5, 6, 7, 8, 9

# A table is read by its rows.
# fmt: off
TRAITS: Mapping[Reason, Traits] = {
    Reason.INVALID_ARGUMENT: Traits("INVALID_ARGUMENT", _BAD, "a value in the call is not allowed", "correct the fields that are named"),
    Reason.DEADLINE_REQUIRED: Traits("INVALID_ARGUMENT", _BAD, "the call has no deadline, or one too far away", "set a deadline of at most the stated seconds"),
    Reason.PAGE_TOKEN_INVALID: Traits("INVALID_ARGUMENT", _BAD, "the page token is not one of ours or belongs to other arguments", "start again without a page token"),
    Reason.TOO_LARGE: Traits("INVALID_ARGUMENT", _BAD, "a document or message is larger than its limit", "send less; the limit is named"),
    Reason.CONTRACT_INVALID: Traits("INVALID_ARGUMENT", _BAD, "the contract breaks a rule of the format or the standard", "mend what is listed, then run contract lint"),
    Reason.DATA_INVALID: Traits("FAILED_PRECONDITION", _BAD, "the data does not fit the contract or cannot be read", "mend the data or the contract, then run contract test"),
    Reason.CONFIG_INVALID: Traits("FAILED_PRECONDITION", _BAD, "a configuration or profile value is missing or wrong", "mend the value, then run config check"),
    Reason.CONFIG_UNSAFE: Traits("FAILED_PRECONDITION", _BAD, "a secret lies open or a setting weakens protection", "tighten it as the message says"),
    Reason.TOKEN_MISSING: Traits("UNAUTHENTICATED", _AUTH, "the call carries no bearer token", "choose a profile, or set a token"),
    Reason.TOKEN_INVALID: Traits("UNAUTHENTICATED", _AUTH, "the token cannot be trusted", "get a new token from your party's issuer for this exchange"),
    Reason.TOKEN_EXPIRED: Traits("UNAUTHENTICATED", _AUTH, "the token is outside its validity", "get a new token; check the clock"),
    Reason.PRINCIPAL_UNKNOWN: Traits("PERMISSION_DENIED", _AUTH, "nobody of that name is registered by that party", "ask your party's admin to register the person"),
    Reason.ROLE_MISSING: Traits("PERMISSION_DENIED", _AUTH, "the caller has not the role that this needs", "ask your party's admin for the role"),
    Reason.NOT_FOUND: Traits("NOT_FOUND", _FIND, "there is no such thing, or you may not see it", "check the name with the matching list command"),
    Reason.ALREADY_EXISTS: Traits("ALREADY_EXISTS", _STATE, "that name is taken", "choose another name, or change the existing one"),
    Reason.ETAG_MISMATCH: Traits("ABORTED", _STATE, "it changed since you read it", "read it again, then repeat"),
    Reason.REQUEST_ID_REUSED: Traits("ALREADY_EXISTS", _STATE, "the request id was used for another call", "use a fresh UUID"),
    Reason.STATE_WRONG: Traits("FAILED_PRECONDITION", _STATE, "its state does not allow this move", "look at its state; the allowed moves are named"),
    Reason.RATE_LIMITED: Traits("RESOURCE_EXHAUSTED", _LATER, "too many calls", "wait as long as stated, then repeat", retryable=True),
    Reason.REQUEST_OUTSIDE_CONTRACT: Traits("INVALID_ARGUMENT", _NO, "the contract does not offer what was asked", "ask for what the message says would pass"),
    Reason.NOT_SHARED: Traits("FAILED_PRECONDITION", _NO, "the dataset is not shared, on the named legal basis", "ask the department"),
    Reason.POLICY_REFUSED: Traits("PERMISSION_DENIED", _NO, "the policy refuses", "each reason is listed; ask for what they allow"),
    Reason.POLICY_UNAVAILABLE: Traits("UNAVAILABLE", _LATER, "no policy decision could be had, so nothing is allowed", "repeat later", retryable=True),
    Reason.SIGNATURE_INVALID: Traits("INVALID_ARGUMENT", _PROOF, "a signature does not verify", "get the document from its source again"),
    Reason.KEY_UNTRUSTED: Traits("FAILED_PRECONDITION", _PROOF, "a key is unknown, revoked, expired or not certified for this use", "check key list and the trust file"),
    Reason.TRUST_MISSING: Traits("FAILED_PRECONDITION", _BAD, "nothing can be verified without a trust file", "name one with --trust"),
    Reason.AGREEMENT_NOT_LIVE: Traits("FAILED_PRECONDITION", _NO, "the agreement is not active now", "see agreements for its state and who can change it"),
    Reason.RECEIPT_OUTSTANDING: Traits("FAILED_PRECONDITION", _STATE, "an earlier receipt is neither acknowledged nor disputed", "verify it, then acknowledge it"),
    Reason.GRANT_INVALID: Traits("PERMISSION_DENIED", _AUTH, "the ticket does not entitle to this", "ask for a new transfer at the right gateway with the holder key"),
    Reason.GRANT_EXPIRED: Traits("PERMISSION_DENIED", _AUTH, "the grant's ten minutes are over", "ask for a new transfer"),
    Reason.GRANT_USED: Traits("PERMISSION_DENIED", _AUTH, "this part was already served under this grant", "resume the transfer for missing parts"),
    Reason.PLAN_REFUSED: Traits("FAILED_PRECONDITION", _NO, "the agreement cannot be carried out on this data", "every violation is listed; the department mends contract or source"),
    Reason.BOUNDS_NOT_MET: Traits("FAILED_PRECONDITION", _NO, "the re-identification bounds were not met", "the department sees the figures; ask for coarser fields"),
    Reason.RESIDUAL_IDENTIFIERS: Traits("FAILED_PRECONDITION", _NO, "the rows hold identifiers or images that no mask removes", "the department sees columns, kinds and counts, and masks them; contract test shows the same"),
    Reason.BUDGET_SPENT: Traits("FAILED_PRECONDITION", _NO, "the privacy budget that you have of this dataset does not cover another release", "use the releases that you have; the department would have to raise the budget in its contract"),
    Reason.REFRESH_PENDING: Traits("FAILED_PRECONDITION", _LATER, "a release of this dataset still stands for you, and another one could be subtracted from it", "pull again when the contract's refresh interval is over"),
    Reason.SOURCE_UNAVAILABLE: Traits("UNAVAILABLE", _LATER, "the department's source cannot be read", "tell the department; repeat later", retryable=True),
    Reason.SPOOL_FULL: Traits("RESOURCE_EXHAUSTED", _LATER, "the gateway has no room for the release", "tell the department; repeat later", retryable=True),
    Reason.SINK_FAILED: Traits("FAILED_PRECONDITION", _BAD, "the file could not be written", "make room or choose another place, then pull again"),
    Reason.TOO_MANY_TRANSFERS: Traits("RESOURCE_EXHAUSTED", _LATER, "your party's transfer slots are taken", "wait for a running transfer", retryable=True),
    Reason.TRANSFER_STOPPED: Traits("ABORTED", _LATER, "the gateway stopped the running stream", "see the agreement's state, then resume"),
    Reason.CONTROL_PLANE_SILENT: Traits("UNAVAILABLE", _LATER, "the gateway has not heard from the exchange and serves nothing", "repeat later", retryable=True),
    Reason.DIGEST_MISMATCH: Traits("DATA_LOSS", _PROOF, "the data is not what was attested", "delete it and pull again; keep the receipt as evidence"),
    Reason.RECEIPT_INVALID: Traits("DATA_LOSS", _PROOF, "the receipt does not verify", "keep it as evidence and open a dispute"),
    Reason.LEDGER_INVALID: Traits("DATA_LOSS", _PROOF, "the ledger shown is not an extension of the one seen before", "keep both checkpoints as evidence"),
    Reason.LEDGER_UNAVAILABLE: Traits("UNAVAILABLE", _LATER, "the ledger cannot be written, so nothing is granted", "repeat later", retryable=True),
    Reason.DEADLINE_EXCEEDED: Traits("DEADLINE_EXCEEDED", _LATER, "the deadline passed", "repeat with more time", retryable=True),
    Reason.UNAVAILABLE: Traits("UNAVAILABLE", _LATER, "the other side cannot be reached", "check that it is up, then repeat", retryable=True),
    Reason.CANCELLED: Traits("CANCELLED", _LATER, "the caller gave up", "repeat"),
    Reason.INTERNAL: Traits("INTERNAL", _OURS, "our own fault", "report the request id"),
}
# fmt: on


def printable(text: str) -> str:
    """The text with a question mark for every character that is not shown as itself."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with an input, precise enough to mend it.

    `path` is where in the input (`customProperties.purposes.transport-planning.fields.sex`), `line`
    the line of the file where known (1-based), `hint` what to do. `message` says what was found and
    what is allowed; it never quotes a cell value or a secret.
    """

    path: str
    message: str
    hint: str = ""
    line: int | None = None
    code: str = ""

    def __post_init__(self) -> None:
        for name in ("path", "message", "hint"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def __str__(self) -> str:
        where = self.path if self.line is None else f"line {self.line}: {self.path}"
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


@dataclass(slots=True)
class SluicegateError(Exception):
    """The one exception of this product.

    `message` is one sentence for a person; `violations` every single finding; `metadata` short facts
    for machines (limits, states, ids). `remedy` says what to do where more is known than the reason's own
    remedy says; it stays in the process. Raise it with the narrowest reason there is. Whatever they quote of
    an input, no terminal or log obeys it: control and format characters are replaced here.
    """

    reason: Reason
    message: str
    violations: tuple[Violation, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""

    def __post_init__(self) -> None:
        self.message = printable(self.message)
        self.violations = tuple(self.violations)
        self.metadata = {name: printable(value) for name, value in self.metadata.items()}
        self.remedy = self.remedy or self.traits.remedy
        Exception.__init__(self, self.message)

    @property
    def traits(self) -> Traits:
        """Code, exit code, meaning and remedy of this error's reason."""
        return TRAITS[self.reason]

    def __str__(self) -> str:
        return "\n".join([f"{self.reason}: {self.message}", *(f"  - {v}" for v in self.violations)])


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A hint naming the closest allowed words, or all of them when few: `did you mean 'week'?`"""
    from difflib import get_close_matches

    names = sorted(set(allowed))
    close = get_close_matches(word, names, n=2, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(f"'{name}'" for name in close) + "?"
    return "allowed: " + ", ".join(names) if 0 < len(names) <= 12 else ""
