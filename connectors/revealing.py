"""Carrying out an order to open values: verified, stated, stored, and only then answered."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from connectors import attest
from connectors.admission import Admission
from connectors.gateway_state import GatewayState
from connectors.keys import KeyRing
from connectors.mask_reversible import turned_back
from connectors.outbox import Outbox
from connectors.sealing import seal
from contracts.envelope import Envelope, SigningKey
from contracts.revealing import technique_of, verify_order
from contracts.trust import Keys


class Revealing:
    """Opens values for the department's own people. Thread-safe."""

    def __init__(
        self,
        *,
        party: str,
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
        self._party = party
        self._admission, self._keyring, self._state, self._outbox = admission, keyring, state, outbox
        self._key, self._keys, self._clock, self._entropy = key, keys, clock, entropy

    def reveal(self, raw: bytes) -> bytes:
        """What the values of an order stand for: a JSON list in the order's order, sealed to its key.

        1. The order is one, signed by two people of the department (`contracts.revealing.verify_order`): nothing
           is fetched for anybody else.
        2. It is about an agreement of this gateway, and a field that can be turned back.
        3. The agreement's keys are not destroyed, and made every value.
        4. The order is used up and the statement of it is in the outbox, durably.

        Raises what the order and the agreement fail with, AGREEMENT_NOT_LIVE for destroyed keys, DATA_INVALID for
        a value that this agreement did not make, STATE_WRONG for an order that was carried out.
        """
        envelope, now = Envelope.from_bytes(raw), self._clock()
        # 1
        ordered = verify_order(envelope, self._party, self._keys(), at=now)
        asked = ordered.order
        # 2
        verified = self._admission.agreed(asked.agreement, asked.agreement_digest)
        technique = technique_of(asked, verified)
        # 3
        self._state.demand_secret(verified.digest)
        secrets = self._keyring.secrets(verified.digest)
        found = [turned_back(technique, value, secrets) for value in asked.values]
        answer = seal(msgspec.json.encode(found), to=ordered.answer_key, order=envelope.digest, entropy=self._entropy)
        # 4
        stated = attest.revealed(ordered, envelope, self._key, now=now)
        self._state.reveal(verified.digest, asked.agreement, envelope, stated)
        self._outbox.wake()
        return answer
