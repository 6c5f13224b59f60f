"""Coordinates, cells of the earth and networks."""

from __future__ import annotations

import ipaddress
import math
import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.masks.masking import masked, polars_type
from contracts import dtypes as d
from tests.connectors.masks.trying import Keys, Words, mask, plan_of, quick


@quick
@given(values=st.lists(st.floats(-360, 360), min_size=1, max_size=40), decimals=st.integers(0, 4))
def test_a_coordinate_is_the_float_that_is_written_so(values: list[float], decimals: int) -> None:
    for value in mask(values, {"mask": "geo_round", "decimals": decimals}, d.FLOAT64).to_list():
        assert value == float(f"{value:.{decimals}f}")


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_coordinate_that_is_the_same_in_every_row_leaves_as_it_does_alone(engine: Any) -> None:
    """The engine keeps such a column as one value, and divides by one value otherwise than by many."""
    chance = random.Random(5)
    plan = plan_of(("v", {"mask": "geo_round", "decimals": 1}, d.FLOAT64))
    for value in [*(chance.uniform(-180, 180) for _ in range(200)), float("inf"), float("-inf")]:
        alone = mask([value], {"mask": "geo_round", "decimals": 1}, d.FLOAT64)[0]
        assert math.isinf(value) or alone == float(f"{alone:.1f}")
        for frame in (
            pl.LazyFrame({"n": range(5)}).select(pl.lit(value).alias("v"), "n"),
            pl.LazyFrame({"v": [value] * 5}),
            pl.LazyFrame({"v": [value, None] * 3}),
        ):
            assert set(masked(frame, plan, Keys()).collect(engine=engine)["v"].drop_nulls()) == {alone}


@quick
@given(
    addresses=st.lists(st.ip_addresses() | st.ip_addresses(network="10.0.0.0/8"), min_size=1, max_size=8),
    v4=st.integers(8, 28),
    v6=st.integers(16, 56),
)
def test_the_network_of_an_address_is_that_of_the_standard_library(
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address], v4: int, v6: int
) -> None:
    def network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return str(ipaddress.ip_network((address, v4 if address.version == 4 else v6), strict=False))

    words: Words = {"mask": "ip_prefix", "v4": v4, "v6": v6}
    assert mask([str(address) for address in addresses], words, d.STRING).to_list() == [*map(network, addresses)]


def test_what_is_no_address_never_passes() -> None:
    spelled = {
        " 203.0.113.77\t": "203.0.113.0/24", "::ffff:203.0.113.77": "203.0.113.0/24",
        "2001:DB8:0:1::5": "2001:db8::/48", "fe80::1%eth0": "fe80::/48",
    }  # fmt: skip
    others = ["", "203.0.113", "203.0.113.256", "203.0.113.07", "203.0.113.7/24", "203.0.113.7:80", "3405803853", ":",
              "1.2.3.4.5", "2001:db8::g", "王", "[::1]"]  # fmt: skip
    result = mask([*spelled, *others, None], {"mask": "ip_prefix"}, d.STRING).to_list()
    assert result == [*spelled.values(), *["other"] * len(others), None]


def cells(places: list[tuple[float | None, float | None]], precision: int, dtype: d.DType = d.FLOAT64) -> list[str]:
    words = {"mask": "geohash", "precision": precision, "longitude": "lon"}
    plan = plan_of(("lat", words, dtype))
    kind = polars_type(dtype)
    columns = {"lat": [lat for lat, _ in places], "lon": [lon for _, lon in places]}
    frame = pl.DataFrame(columns, schema={"lat": pl.Float64, "lon": pl.Float64}).cast(kind)
    return masked(frame.lazy(), plan, Keys()).collect(engine="streaming")["lat"].to_list()


def by_definition(lat: float, lon: float, precision: int) -> str:
    """Halve the earth, longitude first; of five bits make a letter."""
    bits, spans = [], [[-180.0, 180.0], [-90.0, 90.0]]
    for index in range(5 * precision):
        span, value = spans[index % 2], (lon, lat)[index % 2]
        middle = (span[0] + span[1]) / 2
        bits.append(value >= middle)
        span[0 if value >= middle else 1] = middle
    letters = "0123456789bcdefghjkmnpqrstuvwxyz"
    return "".join(
        letters[sum(bit << 4 - at for at, bit in enumerate(bits[first : first + 5]))]
        for first in range(0, len(bits), 5)
    )


def test_known_cells_of_the_earth() -> None:
    known = {(42.605, -5.603): "ezs42", (57.64911, 10.40744): "u4pruydqqvj"[:8], (-25.382708, -49.265506): "6gkzwgjz"}
    for place, cell in known.items():
        assert cells([place], len(cell)) == [cell]
    assert cells([(31.23, 121.47)], 5, d.DType("decimal", precision=8, scale=4)) == [by_definition(31.23, 121.47, 5)]


@quick
@given(
    places=st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=6),
    precision=st.integers(1, 8),
)
def test_cells_are_those_of_the_definition(places: list[tuple[float, float]], precision: int) -> None:
    # Within a rounding error of a cell's border either side is right: such places are moved to its middle.
    width = 360 / 2 ** ((5 * precision + 1) // 2)
    height = 180 / 2 ** (5 * precision // 2)
    middles = [
        (((lat + 90) // height + 0.5) * height - 90, ((lon + 180) // width + 0.5) * width - 180) for lat, lon in places
    ]
    inside = [(lat, lon) for lat, lon in middles if lat < 90 and lon < 180]  # not beyond the last cell's border
    assert cells(list(inside), precision) == [by_definition(*place, precision) for place in inside]


def test_the_ends_of_the_earth_and_what_lies_beyond() -> None:
    assert cells([(90, 180), (-90, -180), (90, -180)], 3) == ["zzz", "000", "bpb"]
    beyond = [(90.1, 0.0), (0.0, -180.1), (float("nan"), 0.0), (0.0, float("inf"))]
    assert cells([*beyond, (None, 1.0), (1.0, None)], 3) == ["other"] * 4 + [None] * 2
