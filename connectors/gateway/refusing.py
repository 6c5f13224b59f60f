"""A release that was refused is not made again from the same rows: the refusal is remembered.

Making one reads, masks and measures the whole source. Without a memory, whoever has an agreement whose
bounds cannot be met makes a gateway do that as often as he asks, and keeps others waiting for a maker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from connectors.gateway.records import RefusedRelease
from connectors.gateway.state import GatewayState
from connectors.releases.release import Recipient
from connectors.sources import Source
from contracts import canonical
from contracts.errors import Reason, SluicegateError
from contracts.instants import duration
from contracts.plan import Plan

# What follows from the plan and the rows alone, so that another look finds the same.
LASTING = frozenset({Reason.BOUNDS_NOT_MET, Reason.RESIDUAL_IDENTIFIERS, Reason.DATA_INVALID, Reason.REFRESH_PENDING})


class Refusals:
    """Remembers releases that could not be made, for one gateway, across restarts. Thread-safe."""

    def __init__(self, state: GatewayState, clock: Callable[[], int]) -> None:
        self._state, self._clock = state, clock

    @contextmanager
    def remembered(self, recipient: Recipient, plan: Plan, *read: Source) -> Iterator[None]:
        """Make a release in this context, unless the same one was refused within its refresh interval.

        The same is: one consumer's, of one dataset, by a plan that does the same (under whichever agreement),
        from sources (all that are `read`) whose state did not change. Raises that refusal again, or what the context
        raises; what is lasting of it is remembered, unless a source changed meanwhile.
        """
        making, seen = _making(plan), _states(read)
        refused = self._state.refused_release(recipient.consumer, recipient.dataset, making)
        if refused is not None and refused.source == seen:
            raise SluicegateError(refused.reason, refused.message, (), refused.metadata)
        try:
            yield
        except SluicegateError as error:
            if error.reason in LASTING and _unchanged(read, seen):
                self._state.release_refused(
                    RefusedRelease(
                        recipient.consumer,
                        recipient.dataset,
                        making,
                        seen,
                        error.reason,
                        error.message,
                        dict(error.metadata),
                        self._until(recipient, plan, error.reason),
                    )
                )
            raise

    def _until(self, recipient: Recipient, plan: Plan, reason: Reason) -> int:
        """The end of the interval that another release has to wait for, else of one that begins now."""
        running = self._state.intervals(recipient.consumer, recipient.dataset)
        mine = [one for one in running if one.agreement_digest == recipient.agreement_digest]
        if reason is Reason.REFRESH_PENDING and running:
            return min(one.until for one in mine or running)
        return duration(plan.refresh).after(self._clock())


def _making(plan: Plan) -> str:
    """What a plan does to the rows, whichever agreement it is for: the next one could be asked for at once."""
    return canonical.digest(msgspec.to_builtins(msgspec.structs.replace(plan, agreement_digest="")))


def _states(read: Sequence[Source]) -> str:
    return " ".join(source.state() for source in read)


def _unchanged(read: Sequence[Source], seen: str) -> bool:
    with contextlib.suppress(SluicegateError):
        return _states(read) == seen
    return False
