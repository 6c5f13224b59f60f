"""From a verified agreement to a release: source, plan, decision, and the release that stands or is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from connectors import sources
from connectors.gateway.admission import Admitted
from connectors.gateway.refusing import Refusals
from connectors.gateway.shelf import Shelf, Standing
from connectors.gateway.state import GatewayState
from connectors.keys import KeyRing
from connectors.measures.population import Population
from connectors.releases import aggregating
from connectors.releases import release as releases
from connectors.releases.budget import Budgets
from connectors.releases.release import Recipient, Release
from connectors.sent.gains import Earlier
from connectors.sources import Source, SourceSettings
from contracts import plan as plans
from contracts.agreement import VerifiedAgreement
from contracts.canonical import canonical
from contracts.errors import Reason, SluicegateError
from contracts.instants import duration
from contracts.plan import Plan
from contracts.policy import inputs
from contracts.policy.engine import Action, Decision, PolicyEngine
from contracts.receipt import Grant
from contracts.standard import Standard
from contracts.trust import TrustFile


class Releasing:
    """Makes releases for one gateway. Thread-safe when called under `Shelf.one_at_a_time`."""

    def __init__(
        self,
        shelf: Shelf,
        state: GatewayState,
        refusals: Refusals,
        budgets: Budgets,
        datasets: Mapping[str, SourceSettings],
        *,
        trust: Callable[[], TrustFile],
        standard: Standard,
        policy: PolicyEngine,
        keyring: KeyRing,
        clock: Callable[[], int],
        content_hash: Literal["sha-256", "blake3"],
        make_wait: float,
        memory_limit: int,
        part_bytes: int,
    ) -> None:
        self._shelf, self._state, self._refusals, self._budgets = shelf, state, refusals, budgets
        self._datasets, self._trust = datasets, trust
        self._standard, self._policy, self._keyring = standard, policy, keyring
        self._clock, self._content_hash, self._make_wait = clock, content_hash, make_wait
        self._memory_limit, self._part_bytes = memory_limit, part_bytes

    @contextmanager
    def release(self, admitted: Admitted) -> Iterator[tuple[Standing, Decision]]:
        """The release to serve, and the decision to serve it. The release stays at least as long as the
        context: whoever serves it afterwards says so to the shelf before it ends.

        1. Within the refresh interval of its purpose it is the one that stands, by the plan that made it: a
           new one could be subtracted from it. A resumed transfer gets the release it began with, or nothing.
           After a restart that one release is made again, under its own name, or none is.
        2. Otherwise the plan is compiled against the live schema, where drift surfaces.
        3. The department's own policy decides on that plan, every time.
        4. The release is made, unless the same rows were refused to the same consumer within the interval; one
           at a time for one consumer and dataset, so that each is compared with all that were made before.

        Raises NOT_FOUND, REFRESH_PENDING, SOURCE_UNAVAILABLE, PLAN_REFUSED, POLICY_REFUSED, POLICY_UNAVAILABLE,
        TOO_MANY_TRANSFERS, and what `release.make` and `aggregating.make` raise.
        """
        # 1
        grant, verified = admitted.grant, admitted.verified
        standing = self._shelf.take(verified.digest)
        try:
            held = self._shelf.held(_recipient(verified)) if standing is None else None
            current = standing.release.id if standing else held.release if held else None
            if grant.release is not None and grant.release != current:
                raise SluicegateError(
                    Reason.NOT_FOUND, "the release that this grant resumes is gone; ask for a new transfer"
                )
            if standing is not None:
                decision = self._decide(verified, standing.plan)
            else:
                standing, decision = self._made(verified)
            yield standing, decision
        finally:
            if standing is not None:
                self._shelf.done(standing)

    def _made(self, verified: VerifiedAgreement) -> tuple[Standing, Decision]:
        # 2
        source = self._source(verified)
        plan = self._plan(verified, source)
        # 3
        decision = self._decide(verified, plan)
        # 4
        register = self._register(verified, plan)
        recipient, read = _recipient(verified), (source,) if register is None else (source, register)
        with (
            self._shelf.one_for_whom(recipient, wait=self._make_wait),
            self._refusals.remembered(recipient, plan, *read),
        ):
            gone = self._gone(verified, plan)

            def maker(folder: Path, name: str) -> Release:
                return self._make(verified, plan, source, register, folder, name, gone)

            return self._shelf.make(recipient, plan, maker, wait=self._make_wait, gone=gone), decision

    def _make(
        self,
        verified: VerifiedAgreement,
        plan: Plan,
        source: Source,
        register: Source | None,
        folder: Path,
        name: str,
        gone: int,
    ) -> Release:
        recipient = _recipient(verified)
        consumer, dataset, digest, _ = recipient
        secrets = self._keyring.secrets(digest)
        if plan.lots:  # only now: lots of nobody who has a secret are forgotten
            secrets = self._keyring.secrets(digest, lots=self._state.draw_lots(consumer, dataset, digest))
        if plan.aggregate is not None:
            return aggregating.make(
                plan,
                source,
                secrets,
                recipient,
                self._budgets,
                spool=folder,
                release_id=name,
                clock=self._clock,
                hash=self._content_hash,
            )
        earlier = self._earlier(recipient, gone) if plan.entity is not None else None
        return releases.make(
            plan,
            source,
            secrets,
            population=_population(register, plan),
            spool=folder,
            release_id=name,
            clock=self._clock,
            hash=self._content_hash,
            memory_limit=self._memory_limit,
            part_bytes=self._part_bytes,
            earlier=earlier,
        )

    def _gone(self, verified: VerifiedAgreement, plan: Plan) -> int:
        """When a release that is made now is to be gone: it may be kept for the purpose's retention from its last
        pull on."""
        retention = verified.contract.purposes[plan.purpose].retention
        return duration(retention).after(duration(plan.refresh).after(self._clock()))

    def _earlier(self, recipient: Recipient, gone: int) -> Earlier:
        """What the consumer was sent of this dataset before, under whichever agreement."""
        consumer, dataset, *_ = recipient
        # Not an agreement's salt, which goes with it; no digest of an agreement looks like this.
        secrets = self._keyring.secrets(canonical(["sent", consumer, dataset]).decode())
        return Earlier(
            folder=self._shelf.sent,
            records=partial(self._state.sent_records, consumer, dataset),
            now=self._clock(),
            until=gone,
            key=secrets.key("sent"),
        )

    def _source(self, verified: VerifiedAgreement) -> Source:
        return sources.open(self._bound(verified.agreement.dataset), verified.contract.fields)

    def _bound(self, dataset: str) -> SourceSettings:
        settings = self._datasets.get(dataset)
        if settings is None:
            raise SluicegateError(Reason.SOURCE_UNAVAILABLE, f"this gateway has no source for the dataset {dataset}")
        return settings

    def _register(self, verified: VerifiedAgreement, plan: Plan) -> Source | None:
        """The register that people of the release are looked up in, where one is bound."""
        register = self._bound(verified.agreement.dataset).register
        if register is None or plan.entity is None:
            return None
        return sources.open(self._bound(register), verified.contract.fields)

    def _plan(self, verified: VerifiedAgreement, source: Source) -> Plan:
        if verified.agreement.standard_digest != self._standard.digest:
            raise SluicegateError(
                Reason.PLAN_REFUSED, "the agreement is held to another standard than this gateway has"
            )
        return plans.compile(plans.terms_of(verified.agreement), verified.contract, source.schema(), self._standard)

    def _decide(self, verified: VerifiedAgreement, plan: Plan) -> Decision:
        """Ask the department's own policy engine. Raises POLICY_REFUSED or POLICY_UNAVAILABLE."""
        if self._policy.bundle_digest not in self._trust().policies:
            raise SluicegateError(
                Reason.POLICY_UNAVAILABLE, "the trust file does not accept this gateway's policy bundle"
            )
        document = verified.agreement
        subject = inputs.Subject(
            party=document.consumer,
            kind=self._trust().parties[document.consumer].kind,
            subject=verified.request.requester,
            roles=("requester",),
        )
        question = inputs.transfer(subject, verified.contract, document, "ACTIVE", plan, self._clock())
        decision = self._policy.decide(Action.TRANSFER, question)
        if not decision.allow:
            raise decision.refusal()
        return decision


def _population(register: Source | None, plan: Plan) -> Population | None:
    if register is None or plan.entity is None:
        return None
    return Population.of(register, plan, {field.name: field.technique for field in plan.fields}, plan.entity)


def _recipient(verified: VerifiedAgreement) -> Recipient:
    agreed = verified.agreement
    return Recipient(agreed.consumer, agreed.dataset, verified.digest, agreed.purpose)


def granted_parts(grant: Grant, standing: Standing) -> frozenset[int]:
    """The parts of the release that a grant covers. Raises GRANT_INVALID for parts it has not."""
    every = frozenset(range(len(standing.release.parts)))
    if grant.parts is None:
        return every
    granted = frozenset(grant.parts)
    if not granted or not granted <= every:
        raise SluicegateError(Reason.GRANT_INVALID, f"the release has parts 0 to {len(every) - 1}")
    return granted
