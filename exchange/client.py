"""The Python client of an exchange: find, request, approve, pull, verify.

    from exchange.client import connect

    with connect("planner") as exchange:
        for dataset in exchange.search("hospital"):
            print(dataset.name, dataset.purposes)
        request = exchange.request("health-bureau/hospital-visits", purpose="transport-planning",
                                   reason="night bus lines", duration="P90D")
        # ... the department approves ...
        agreement = exchange.request_status(request.name).agreement
        pulled = exchange.pull(agreement)            # masked, verified, acknowledged
        print(pulled.frame())                        # Polars; or .reader() for Arrow, or to="visits.parquet"

Every method is made of ordinary calls of the gRPC API (`exchange.calling`); every failure is a
`contracts.errors.SluicegateError` whose reason, violations and remedy say what to do. What has to be
signed is signed here, with the profile's keys, which never leave this machine. Evidence is verified
offline: `exchange.verify("visits.parquet.receipt.json", data="visits.parquet")`, or `verify` for who has
a trust file and no profile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from contracts.agreement import Approval, VerifiedAgreement, verify_bundle
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.evidence import EvidenceBundle
from contracts.instants import epoch
from contracts.trust import TrustFile
from exchange import evidence, home, signing, stopping, views
from exchange.calling import Calls, fresh_id
from exchange.config import Profile
from exchange.keyfiles import demand_vacant
from exchange.pulling import Pulled, pull
from exchange.stopping import Place, Told
from exchange.v1 import agreement_pb2 as ag
from exchange.v1 import catalog_pb2 as ca
from exchange.v1 import request_pb2 as rq
from exchange.v1 import transfer_pb2 as tr
from exchange.verifying import Verdict, verify

__all__ = ["Exchange", "Place", "Pulled", "Told", "Verdict", "connect", "verify"]


def connect(profile: str | Profile | None = None, *, root: Path | None = None) -> Exchange:
    """Connect as a profile: by name (as `--as`), by value, or the current one."""
    found = profile if isinstance(profile, Profile) else home.Home.find(root).profile(profile)
    return Exchange(found)


class Exchange(Calls):
    """An exchange, seen by one principal. Use as a context manager, or call `close`."""

    # --- sharing

    def publish(
        self, document: bytes, *, gateway: str, etag: str = "", signed: Envelope | None = None
    ) -> views.Dataset:
        """Sign and publish a contract of the caller's department, served by `gateway`. `signed` is a
        statement that a colleague signed before (`sluicegate contract sign`): a standing offer of highly
        private fields needs two signatures."""
        statement = signing.contract_statement(self.profile, document, signed)
        message = ca.PublishContractRequest(
            parent=self._mine,
            document=document,
            statement=statement.to_bytes(),
            gateway=gateway if "/" in gateway else f"{self._mine}/gateways/{gateway}",
            request_id=fresh_id(),
            etag=etag,
        )
        return self._call(self._catalog.PublishContract, message, views.Dataset)

    def request(
        self,
        dataset: str,
        *,
        purpose: str,
        reason: str,
        fields: tuple[str, ...] = (),
        duration: str = "P90D",
    ) -> views.Request:
        """Sign and send a request. No `fields` asks for all that the purpose offers; `duration` is ISO
        8601. Raises REQUEST_OUTSIDE_CONTRACT naming what would pass, POLICY_REFUSED, NOT_SHARED."""
        found = self.dataset(dataset)
        statement = signing.request(
            self.profile, found, purpose=purpose, fields=fields, duration=duration, reason=reason
        )
        message = rq.CreateRequestRequest(statement=statement.to_bytes(), request_id=fresh_id())
        return self._call(self._requests.CreateRequest, message, views.Request)

    def approve(self, request: str | views.Request, paper: Approval | None = None) -> views.Request:
        """Sign an approval; the last one needed also signs the agreement for the department.

        Given a request as it was read, just that is approved: should it have changed meanwhile, the
        exchange refuses (ETAG_MISMATCH). `paper` is the approval to sign, as it was shown to a person.
        """
        found = self.request_status(request) if isinstance(request, str) else request
        signed = signing.approval(self.profile, paper or signing.approval_payload(self.profile, found))
        message = rq.ApproveRequestRequest(
            name=found.name,
            approval=signed.to_bytes(),
            etag=found.etag,
            request_id=fresh_id(),
        )
        decided = self._call(self._requests.ApproveRequest, message, views.Request)
        if decided.agreement and self.profile.party in self.agreement(decided.agreement).unsigned_parties:
            self.sign(decided.agreement)
        return decided

    def sign(self, name: str) -> views.Agreement:
        """Verify that the agreement follows from signed papers, then add the caller's signature."""
        found = self.agreement(name)
        statement = signing.agreement(self.profile, found, self.bundle(found.name))
        message = ag.SignAgreementRequest(name=found.name, statement=statement.to_bytes(), request_id=fresh_id())
        return self._call(self._agreements.SignAgreement, message, views.Agreement)

    def ready(self, agreement: str) -> views.Agreement:
        """The agreement, signed by the caller first if only that was missing."""
        found = self.agreement(agreement)
        if found.state == "PENDING" and found.unsigned_parties == (self.profile.party,):
            return self.sign(found.name)
        return found

    # --- stopping

    def suspend(
        self,
        name: str,
        *,
        reason: str,
        until: str,
        place: Place | None = None,
        told: Callable[[Told], object] | None = None,
    ) -> views.Agreement:
        """Stop transfers until an instant (RFC 3339).

        Where the agreement is about the caller's own data, its gateway is told first, with an order that the
        caller signs: it obeys at once, whatever becomes of the exchange. `told` hears, before the exchange is
        asked, whether the gateway was reached; one that was not learns it from the exchange. `place` says
        where the gateway is, when the exchange is not to be asked that.
        """
        epoch(until)  # before anybody is told
        self._tell(name, told, reason=reason, until=until, place=place)
        return self.suspend_agreement(name, reason=reason, until=until)

    def resume(self, name: str, *, reason: str, told: Callable[[Told], object] | None = None) -> views.Agreement:
        """End a suspension before its time: at the exchange, then at the caller's own gateway."""
        resumed = self.resume_agreement(name, reason=reason)
        self._tell(name, told, reason=reason, until=None, lifted=True)
        return resumed

    def terminate(
        self,
        name: str,
        *,
        reason: str,
        place: Place | None = None,
        told: Callable[[Told], object] | None = None,
    ) -> views.Agreement:
        """End an agreement for good; the caller's own gateway is told first, as by `suspend`."""
        self._tell(name, told, reason=reason, until=None, place=place)
        return self.terminate_agreement(name, reason=reason)

    def destroy_keys(
        self, name: str, *, reason: str, place: Place | None = None, seconds: float = 30.0
    ) -> views.Agreement:
        """End an agreement for good, its gateway having destroyed its keys: only with the gateway at hand, else
        nothing at all is done. Waits up to so many seconds for the gateway's statement in the ledger; the
        agreement's `keys_destroyed` is empty if that comes later.

        Raises ROLE_MISSING for an agreement about another party's data, KEY_UNTRUSTED for a gateway that the
        department did not certify, UNAVAILABLE for one that cannot be reached.
        """
        heard = stopping.tell_gateway(self, name, reason=reason, until=None, place=place)
        if heard is None:
            told = f"only the department that provides the data of {name} destroys its keys"
            raise SluicegateError(Reason.ROLE_MISSING, told)
        if not heard.certified:
            told = f"the exchange names another TLS certificate for {heard.gateway} than your department certified"
            raise SluicegateError(Reason.KEY_UNTRUSTED, told, remedy="nothing was done; ask your admin")
        if not heard.reached:
            told = f"the gateway {heard.gateway} cannot be reached: no key was destroyed, and the agreement goes on"
            raise SluicegateError(Reason.UNAVAILABLE, told, remedy="start the gateway, then try again")
        try:
            found = self.terminate_agreement(name, reason=reason)
        except SluicegateError as error:
            if error.reason is not Reason.STATE_WRONG:
                raise
            found = self.agreement(name)  # it had ended before, with its keys alive
        end = time.monotonic() + seconds
        while not found.keys_destroyed and time.monotonic() < end:
            time.sleep(0.2)
            found = self.agreement(name)
        return found

    def _tell(
        self,
        name: str,
        told: Callable[[Told], object] | None,
        *,
        reason: str,
        until: str | None,
        lifted: bool = False,
        place: Place | None = None,
    ) -> None:
        heard = stopping.tell_gateway(self, name, reason=reason, until=until, lifted=lifted, place=place)
        if heard is not None and told is not None:
            told(heard)

    # --- pulling

    def pull(
        self,
        agreement: str,
        *,
        to: str | Path | None = None,
        format: Literal["parquet", "csv", "arrow"] | None = None,
        overwrite: bool = False,
        csv_safe: bool = False,
        progress: Callable[[int, int, int], None] | None = None,
    ) -> Pulled:
        """Fetch, verify and acknowledge one release.

        With `to` it is written there (Parquet, CSV or Arrow IPC by the ending, or `format`) and only
        appears once verified; without, it is kept in memory. `progress(rows, bytes, total_rows)` is
        called as batches arrive. A broken pull is resumed by calling again with the same `to`.
        `overwrite` lets an existing file be replaced, at the very end; `csv_safe` defuses cells that a
        spreadsheet would run as a formula, which changes the data.
        """
        return pull(
            self,
            agreement,
            to=Path(to) if to is not None else None,
            format=format,
            overwrite=overwrite,
            csv_safe=csv_safe,
            progress=progress,
        )

    def verified(self, agreement: str) -> VerifiedAgreement:
        """The agreement with everything it stands on, verified under the profile's trust file."""
        return verify_bundle(self.bundle(agreement), evidence.trust_of(self.profile), at=int(time.time()))

    def acknowledge(self, transfer: str, *, content_digest: str | None) -> views.Transfer:
        """Sign that what the receipt attests arrived, with the digest recomputed from the data. None
        accepts the receipt as it stands, and says so: what arrived was lost before it could be hashed."""
        found = self.transfer(transfer)
        attested = found.receipt.payload["contentDigest"] if found.receipt else ""
        statement = signing.acknowledgement(
            self.profile, found, content_digest or attested, recomputed=content_digest is not None
        )
        message = tr.AcknowledgeTransferRequest(
            name=found.name, acknowledgement=statement.to_bytes(), request_id=fresh_id()
        )
        return self._call(self._transfers.AcknowledgeTransfer, message, views.Transfer)

    def ticket(self, agreement: str) -> tuple[views.Transfer, bytes]:
        """A grant and the ticket that any Flight client can present for it during ten minutes."""
        granted = self.create_transfer(self.ready(agreement).name)
        return granted, self.sign_ticket(granted)

    def sign_ticket(self, granted: views.Transfer) -> bytes:
        """The ticket for a grant, signed by the profile's holder key. Raises KEY_UNTRUSTED when the exchange
        names a gateway whose TLS certificate its department did not certify."""
        return signing.ticket(self.profile, granted, self.verified(granted.agreement))

    # --- proving

    def verify(
        self,
        papers: str | Path | EvidenceBundle,
        *,
        data: str | Path | None = None,
        trust: str | Path | TrustFile | None = None,
        revocations: Sequence[str | Path | Envelope] = (),
        without_ledger: bool = False,
    ) -> Verdict:
        """Verify a receipt or evidence under the profile's trust file, or another. Offline: no call is made,
        and nothing of the exchange believed. See `exchange.verifying.verify`."""
        pinned = trust if trust is not None else evidence.trust_of(self.profile)
        return verify(papers, trust=pinned, data=data, revocations=revocations, without_ledger=without_ledger)

    def evidence(
        self,
        transfer: str,
        *,
        to: str | Path | None = None,
        overwrite: bool = False,
        checkpoint: Envelope | None = None,
    ) -> EvidenceBundle:
        """Every signed paper of a transfer with ledger proofs; written `to` a file, if that is named.

        `checkpoint` is an earlier one to prove it in: a key that was revoked since counts only there.
        Raises SINK_FAILED for a file that is there, unless `overwrite`; LEDGER_INVALID when the ledger does
        not extend what this profile saw before (what was collected is written nevertheless).
        """
        out = None if to is None else Path(to)
        if out is not None:
            demand_vacant(out, overwrite=overwrite)
        return evidence.witness(self, self.transfer(transfer).name, out=out, checkpoint=checkpoint)
