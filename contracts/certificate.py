"""The certificate of effectiveness: how its figures follow from each other, and from the contract.

After GB/T 42460-2023 as it is publicly quoted. What is measured on rows stands in
`connectors.measures.effectiveness`; what is computed from those figures stands here, so that whoever verifies a
receipt computes it again. Figures are the department's claim: `problems` tells a claim that contradicts
itself, the contract or the standard, not one that is untrue of the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from contracts.model import Effectiveness, SharingModel
from contracts.papers import Bounds, Certificate, Spread
from contracts.standard import Standard

CONTEXT_RISK = 1.0  # nobody has documented a lower one: an attack is taken to happen
SLACK = 1e-9  # what floating point may lose; far below any bound that somebody writes

NOBODY = "level 4 of 4: about no person"  # in words, where there is nothing to measure
DIRECT, RISKY, ACCEPTABLE, NOTHING = 1, 2, 3, 4  # the levels


def figure(value: float) -> float:
    """A figure as papers state it: twelve digits. With more, two spellings can be one number, and a signed
    paper could be bent where nobody notices.

    >>> figure(1 / 3)
    0.333333333333
    """
    return float(f"{value:.12g}")


def risk(model: SharingModel, dr_a: float, dr_b: float, dr_c: float, context: float = CONTEXT_RISK) -> float:
    """R: 1 where any class exceeds tau; else the highest risk of a class if public, the mean otherwise,
    times the context's.

    >>> risk(SharingModel.PUBLIC, 0.0, 0.05, 0.01), risk(SharingModel.CONTROLLED, 0.0, 0.05, 0.01)
    (0.05, 0.01)
    """
    if dr_a > 0:
        return 1.0
    return (dr_b if model is SharingModel.PUBLIC else dr_c) * context


def level(risk: float, tolerated: float, *, direct: bool = False, identifiers: bool = True) -> int:
    """The level: 1 a direct identifier leaves, 2 none but the risk is too high, 3 none and it is
    acceptable, 4 nothing that could identify leaves at all.

    >>> level(0.2, 0.05), level(0.05, 0.05), level(0.0, 0.05, identifiers=False)
    (2, 3, 4)
    """
    if direct:
        return DIRECT
    if not identifiers:
        return NOTHING
    return ACCEPTABLE if risk <= tolerated + SLACK else RISKY


def exceeds(found: Spread) -> str:
    """Which bound of a field is missed, in words; empty when none is."""
    distance = found.variational if found.ordered is None else found.ordered
    if found.t_required is not None and distance > found.t_required + SLACK:
        return f"t is {distance:.4f}, allowed {found.t_required:g}"
    if found.entropy_required is not None and found.entropy < found.entropy_required - SLACK:
        return f"entropy l is {found.entropy:.4f}, needed {found.entropy_required:g}"
    return ""


def problems(
    bounds: Bounds, demanded: Effectiveness, standard: Standard, types: Mapping[str, str], *, suppressed: float
) -> Iterator[str]:
    """What is wrong with the certificate of these bounds, a clause each; nothing is best.

    `types`: name -> type of the fields sent. `suppressed`: the share of rows that the paper's own counts
    give. Bounds without a certificate are wrong only where the contract demands what only one can say.
    """
    stated, require = bounds.certificate, demanded.require
    spread = {name for name in (*require.t, *require.entropy_l) if name in types}
    if stated is None:
        if spread or require.max_risk is not None:
            yield "the contract bounds t, entropy or risk, and no certificate is shown"
        return
    yield from _of_the_contract(stated, demanded, standard)
    yield from _of_itself(stated, bounds, suppressed)
    yield from _of_the_fields(stated, demanded, types, spread)


def _of_the_contract(stated: Certificate, demanded: Effectiveness, standard: Standard) -> Iterator[str]:
    model = demanded.sharing_model
    if stated.sharing_model is not model:
        yield f"risk was judged as for {stated.sharing_model} sharing; the contract says {model}"
    elif not _same(stated.tau, standard.tau(model)) or not _same(stated.risk_tolerated, standard.risk):
        yield "risk was judged by other thresholds than the standard's"
    if not _same(stated.context_risk, CONTEXT_RISK):
        yield f"a context risk of {stated.context_risk:g} is stated, and none is documented"
    most = demanded.require.max_risk
    if most is not None and (stated.risk_required is None or stated.risk_required > most + SLACK):
        yield f"the overall risk was held to {stated.risk_required}; the contract allows {most:g}"
    if stated.risk_required is not None and stated.risk > stated.risk_required + SLACK:
        yield f"the overall risk is {stated.risk:.4f}, allowed {stated.risk_required:g}"


def _of_itself(stated: Certificate, bounds: Bounds, suppressed: float) -> Iterator[str]:
    """Every figure that follows from others is computed again."""
    highest = 1 / bounds.k_met if bounds.k_met > 0 else 0.0
    follows = {
        "the highest risk": (stated.dr_b, highest),
        "the prosecutor's risk": (stated.prosecutor_risk, highest),
        "the overall risk": (
            stated.risk,
            risk(stated.sharing_model, stated.dr_a, stated.dr_b, stated.dr_c, stated.context_risk),
        ),
        "the average class": (stated.average_class, 1 / stated.marketer_risk if stated.marketer_risk > 0 else 0.0),
        "the share suppressed": (stated.suppressed, suppressed),
    }
    for what, (found, expected) in follows.items():
        if not _same(found, expected):
            yield f"{what} is stated as {found:.6g}, and follows to be {expected:.6g}"
    # The mean of 1/n lies between 1 over the mean of n and the highest 1/n.
    if not _rising(0.0, stated.marketer_risk, stated.dr_c, stated.dr_b, 1.0):
        yield "no classes have such highest, mean and marketer's risks together"
    if not 0 <= stated.dr_a <= 1 or (stated.dr_a > 0) != (stated.dr_b > stated.tau + SLACK):
        yield "the share of classes above tau does not go with the highest risk"
    if not 0 <= stated.uniques <= 1 or (stated.uniques > 0) != (bounds.k_met == 1):
        yield "the share of uniques does not go with k"
    if (stated.journalist_risk is not None) != bool(stated.register_columns):
        yield "a journalist's risk goes with the columns that a register was matched by"
    if not set(stated.register_columns) <= set(bounds.quasi_identifiers):
        yield "a register was matched by columns that form no classes"
    if stated.journalist_risk is not None and not 0 <= stated.journalist_risk <= stated.dr_b + SLACK:
        yield "a register cannot raise the risk above that of who knows the person is there"
    if stated.loss is not None and not _rising(stated.suppressed, stated.loss, 1.0):
        yield "less was lost than was suppressed, or more than all"
    if stated.level != level(stated.risk, stated.risk_tolerated):
        yield f"level {stated.level} does not follow from a risk of {stated.risk:.4f}"


def _of_the_fields(
    stated: Certificate, demanded: Effectiveness, types: Mapping[str, str], spread: Iterable[str]
) -> Iterator[str]:
    require = demanded.require
    if missing := sorted(set(spread) - stated.spread.keys()):
        yield f"the spread of {', '.join(missing)} was not measured"
    for name, found in sorted(stated.spread.items()):
        if name not in types:
            yield f"the spread of {name} is stated, which is not sent"
            continue
        if (found.ordered is not None) != ordered(types[name]):
            yield f"the distance of {name} is not the one for {types[name]}"
        most, least = require.t.get(name), require.entropy_l.get(name)
        if most is not None and (found.t_required is None or found.t_required > most + SLACK):
            yield f"t of {name} was held to {found.t_required}; the contract allows {most:g}"
        if least is not None and (found.entropy_required is None or found.entropy_required < least - SLACK):
            yield f"the entropy of {name} was held to {found.entropy_required}; the contract demands {least:g}"
        # Moving along an order costs at most what moving anywhere does.
        if not _rising(0.0, found.ordered or 0.0, found.variational, 1.0) or found.entropy < 1 - SLACK:
            yield f"no values have the distances and the entropy that are stated of {name}"
        # A release without rows has no class that could miss a bound.
        if stated.marketer_risk > 0 and (missed := exceeds(found)):
            yield f"{name}: {missed}"


def ordered(type: str) -> bool:
    """Whether values of a type, as it is spelled in receipts, have an order that distances can use.

    >>> [ordered(type) for type in ("int64", "decimal(10,2)", "date", "timestamp(us,Etc/UTC)", "string", "boolean")]
    [True, True, True, True, False, False]
    """
    return type.startswith(("int", "uint", "float", "decimal", "date", "timestamp"))


def text(stated: Certificate | None, *, at_least: bool) -> str:
    """The certificate in one line, for people; of papers without one, that there is none."""
    if stated is None:
        return "no certificate: made before there were any"
    most, least = ("at most ", "at least ") if at_least else ("", "")
    allowed = "" if stated.risk_required is None else f", allowed {stated.risk_required:g}"
    parts = [
        f"level {least}{stated.level} of 4 ({stated.sharing_model} sharing)",
        f"R {most}{stated.risk:.4f} (acceptable up to {stated.risk_tolerated:g}{allowed})",
        f"highest risk of a class {most}{stated.dr_b:.4f} (tau {stated.tau:.4f}), mean {most}{stated.dr_c:.4f}",
        f"marketer's {most}{stated.marketer_risk:.4f}",
        f"average class {least}{stated.average_class:.1f}",
        *(
            (f"journalist's {stated.journalist_risk:.4f} (by {', '.join(stated.register_columns)})",)
            if stated.journalist_risk is not None
            else ()
        ),
        *((f"loss {stated.loss:.4f}",) if stated.loss is not None else ()),
    ]
    for name, found in sorted(stated.spread.items()):
        distance = found.variational if found.ordered is None else found.ordered
        kind = "variational" if found.ordered is None else "ordered"
        bound = "" if found.t_required is None else f" (allowed {found.t_required:g})"
        need = "" if found.entropy_required is None else f" (needed {found.entropy_required:g})"
        parts.append(f"t of {name} {distance:.4f} {kind}{bound}, entropy l {found.entropy:.2f}{need}")
    return "; ".join(parts)


def _same(found: float, expected: float) -> bool:
    return abs(found - expected) <= SLACK * max(1.0, abs(expected))


def _rising(*values: float) -> bool:
    return all(low <= high + SLACK for low, high in pairwise(values))
