"""What a purpose may say of its whole release, without looking at data and with the source's types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from contracts.dtypes import DType
from contracts.errors import Violation, nearest

if TYPE_CHECKING:
    from contracts.plan_rules import Case


def violations(case: Case) -> Iterator[Violation]:
    """Every rule that the sample and the small classes of a purpose break."""
    yield from _sample(case)
    yield from _small(case)


def _sample(case: Case) -> Iterator[Violation]:
    """A sample is of persons where there are persons: of anything smaller, it would thin out what they are
    counted by; of anything larger, a few would decide about all."""
    sample, judged = case.purpose.whole_release.sample, case.purpose.effectiveness
    if sample is None:
        return
    path = f"{case.path}.wholeRelease.sample.entity"
    if case.contract.field(sample.entity) is None:
        hint = nearest(sample.entity, [field.name for field in case.contract.fields])
        yield Violation(path, f"the schema has no field {sample.entity[:64]!r}", hint, code="SAMPLE_FIELD_UNKNOWN")
    elif judged is not None and sample.entity != judged.entity:
        message = f"a sample of {sample.entity[:64]!r}; persons are told apart by {judged.entity!r}"
        yield Violation(path, message, f"entity: {judged.entity}", code="SAMPLE_ENTITY")


def _small(case: Case) -> Iterator[Violation]:
    small = case.purpose.whole_release.suppress_small
    if small is None:
        return
    path = f"{case.path}.wholeRelease.suppress_small"
    if case.purpose.effectiveness is not None:
        message = "data with bounds is suppressed by its bounds, which count persons"
        hint = "raise require.k, and say onViolation: suppress with a maxSuppression"
        yield Violation(path, message, hint, code="SMALL_WITH_BOUNDS")
        return
    sent = {field.name: mask for field, mask in case.sent}
    if len(set(small.fields)) != len(small.fields):
        yield Violation(f"{path}.fields", "a field is named twice", code="FIELD_TWICE")
    for name in small.fields:
        mask = sent.get(name)
        if mask is None:
            message = f"{name[:64]!r} is not sent: rows are alike in what leaves"
            yield Violation(f"{path}.fields", message, nearest(name, sent), code="SMALL_FIELD_NOT_SENT")
        elif mask.randomised or mask.draws:
            message = f"{name} leaves as {mask.id}, which chance goes into: no two rows need be alike"
            yield Violation(f"{path}.fields", message, "name other fields", code="SMALL_FIELD_RANDOM")


def unfit(case: Case, schema: Mapping[str, DType]) -> Iterator[Violation]:
    """What stands in a sample's way in the source's types."""
    sample = case.purpose.whole_release.sample
    dtype = None if sample is None else schema.get(sample.entity)
    if sample is not None and dtype is not None:
        for problem in sample.problems(dtype):
            yield Violation(f"{case.path}.wholeRelease.sample.entity", problem, code="ENTITY_UNFIT")
