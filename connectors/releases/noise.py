"""Noise of the discrete Laplace distribution, drawn by OpenDP: the one place that knows that library.

It is an option (`sluicegate[dp]`), brought in when it is needed first. Its random numbers come from the
operating system and cannot be made again. Everything is whole numbers, so that no rounding of floating
point tells anything. What a mechanism costs is asked of the library too, and must not be more than what
was paid: nothing is drawn otherwise.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any

from contracts.aggregate import MICRO, PICO
from contracts.errors import Reason, SluicegateError

MOST = 2**62  # of a true figure: totals are clamped to it, which adds nothing to what one person can change


def demand() -> None:
    """Raises CONFIG_INVALID when the library is not installed."""
    if importlib.util.find_spec("opendp") is None:
        message = "this gateway cannot make differentially private aggregates: the library OpenDP is not installed"
        raise SluicegateError(Reason.CONFIG_INVALID, message, remedy="install sluicegate[dp] at the gateway")


@cache
def _library() -> Any:
    demand()
    import opendp.prelude as dp

    dp.enable_features("contrib")
    return dp


def noisy(figures: Sequence[int], *, sensitivity: int, micro_epsilon: int) -> list[int]:
    """The figures with noise. `sensitivity` is the most by which one person changes them, added up over all.

    Raises INTERNAL when the mechanism would cost more than `micro_epsilon`, CONFIG_INVALID as `demand`."""
    dp = _library()
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    scale = _scale(sensitivity, micro_epsilon)
    mechanism = dp.m.make_laplace(*space, scale=scale)
    _check(mechanism.map(sensitivity), micro_epsilon)
    return [int(value) for value in mechanism([max(-MOST, min(MOST, figure)) for figure in figures])]


def crowded(persons: Sequence[int], *, groups: int, micro_epsilon: int, pico_delta: int, threshold: int) -> list[int]:
    """The places of the groups whose noisy number of persons reaches the threshold, where one person is in at
    most so many `groups` and counts once in each. Groups of nobody must not be among them.

    Raises INTERNAL when the mechanism would cost more, CONFIG_INVALID as `demand`."""
    dp = _library()
    domain = dp.map_domain(dp.atom_domain(T="i64"), dp.atom_domain(T="i64"))
    metric = dp.l01inf_distance(dp.absolute_distance(T="i64"))
    mechanism = dp.m.make_laplace_threshold(domain, metric, scale=_scale(groups, micro_epsilon), threshold=threshold)
    epsilon, delta = mechanism.map((groups, groups, 1))
    _check(epsilon, micro_epsilon)
    if delta * PICO > pico_delta:
        raise SluicegateError(Reason.INTERNAL, "the threshold would cost more delta than was paid; nothing was drawn")
    return sorted(int(place) for place in mechanism(dict(enumerate(persons))))


def _scale(sensitivity: int, micro_epsilon: int) -> float:
    """The scale that costs at most so much, a hair above the exact one: the library rounds costs up."""
    return sensitivity * MICRO / micro_epsilon * (1 + 1e-12)


def _check(epsilon: float, micro_epsilon: int) -> None:
    if epsilon * MICRO > micro_epsilon:
        raise SluicegateError(Reason.INTERNAL, "the noise would cost more epsilon than was paid; nothing was drawn")
