"""What every use case of the exchange is given. Built once, in `exchange.app`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.envelope import SigningKey
from contracts.policy.engine import PolicyEngine
from contracts.standard import Standard
from contracts.trust import TrustFile

if TYPE_CHECKING:
    from exchange.store import Store

Clock = Callable[[], int]  # epoch seconds, UTC
Entropy = Callable[[int], bytes]  # that many random bytes


@dataclass(frozen=True)
class Hall:
    """Store, policy, clock, randomness and keys: use cases take it first and hold nothing else.

    `trust` holds the party roots the exchange itself verifies with; `standard` what contracts are
    held to. `grant_key` and `checkpoint_key` are the exchange's own.
    """

    store: Store
    policy: PolicyEngine
    standard: Standard
    trust: Callable[[], TrustFile]
    clock: Clock
    entropy: Entropy
    grant_key: SigningKey
    checkpoint_key: SigningKey
