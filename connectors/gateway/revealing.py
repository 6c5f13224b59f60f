"""Carrying out an order to open values: verified, stated to the ledger, and only then answered."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from connectors.gateway import attest
from connectors.gateway.admission import Admission
from connectors.gateway.outbox import Outbox
from connectors.gateway.readiness import Readiness
from connectors.gateway.sealing import seal
from connectors.gateway.state import GatewayState
from connectors.keys import KeyRing
from connectors.masks.reversible import turned_back
from contracts.envelope import Envelope, SigningKey
from contracts.revealing import openable, verify_order
from contracts.trust import Keys

log = logging.getLogger("sluicegate.gateway")


class Revealing:
    """Opens values for the department's own people. Thread-safe."""

    def __init__(
        self,
        *,
        party: str,
        readiness: Readiness,
        admission: Admission,
        keyring: KeyRing,
        state: GatewayState,
        outbox: Outbox,
        key: SigningKey,
        keys: Callable[[], Keys],
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
    ) -> None:
        """`keys`: those of the department, as known here now."""
        self._party, self._readiness, self._admission = party, readiness, admission
        self._keyring, self._state, self._outbox = keyring, state, outbox
        self._key, self._keys, self._clock, self._entropy = key, keys, clock, entropy

    def reveal(self, raw: bytes) -> bytes:
        """What the values of an order stand for: a JSON list in the order's order, sealed to its key.

        1. The gateway may serve at all: it hears the exchange, whose ledger grew honestly.
        2. The order is one, signed by two people of the department: nothing is fetched for anybody else.
        3. It is about an agreement that was served here and a field that these two may have opened. With the
           agreement comes which keys were taken back, so step 2 is repeated.
        4. This agreement's keys made every value.
        5. The order and the statement of it are stored; the exchange took the statement.
        6. The order is used up. One that failed in step 5 may be sent again.

        Raises the reason of the step that failed: what order and agreement fail with, AGREEMENT_NOT_LIVE for
        destroyed keys, DATA_INVALID for a value that they did not make, STATE_WRONG for an order that was answered.
        """
        envelope, now = Envelope.from_bytes(raw), self._clock()
        # 1
        self._readiness.demand_serving()
        # 2
        asked = verify_order(envelope, self._party, self._keys(), at=now).order
        # 3
        verified = self._admission.served(asked.agreement, asked.agreement_digest)
        signed = verify_order(envelope, self._party, self._keys(), at=now)
        technique = openable(asked.field, signed.people, verified)
        # 4
        secrets = self._keyring.secrets(verified.digest)
        found = [turned_back(technique, value, secrets) for value in asked.values]
        answer = seal(msgspec.json.encode(found), to=signed.answer_key, order=envelope.digest, entropy=self._entropy)
        # 5
        stated = attest.revealed(signed, envelope, verified.agreement.gateway, self._key, now=now)
        self._state.state_reveal(asked.agreement, envelope, stated)
        self._outbox.deliver(asked.agreement)
        # 6
        self._state.use_reveal(verified.digest, envelope)
        log.warning("opened: agreement=%s field=%s values=%d", asked.agreement, asked.field, len(found))
        return answer
