"""The types a column can have, said without any dataframe library.

Sources translate their own types into these, techniques declare what they accept and produce in
them, the content digest hashes their names. `str(dtype)` is the one spelling: `string`, `int64`,
`decimal(10,2)`, `timestamp(us)`, `timestamp(us,Asia/Shanghai)`, `list(string)`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal[
    "string", "boolean", "integer", "float", "decimal", "date", "timestamp", "time", "binary", "list", "other"
]  # fmt: skip


class DType(Struct, frozen=True, omit_defaults=True):
    """A logical column type. `bits` and `signed` for numbers, `unit` (s, ms, us, ns) and `zone` for
    timestamps and times, `precision` and `scale` for decimals, `name` for what is not supported. The elements of
    a list are texts."""

    kind: Kind
    bits: int = 0
    signed: bool = True
    unit: str = ""
    zone: str | None = None
    precision: int = 0
    scale: int = 0
    name: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "integer":
                return f"{'' if self.signed else 'u'}int{self.bits}"
            case "float":
                return f"float{self.bits}"
            case "decimal":
                return f"decimal({self.precision},{self.scale})"
            case "timestamp":
                return f"timestamp({self.unit},{self.zone})" if self.zone else f"timestamp({self.unit})"
            case "time":
                return f"time({self.unit})"
            case "list":
                return "list(string)"
            case "other":
                return f"other({self.name})"
            case _:
                return self.kind

    @property
    def numeric(self) -> bool:
        """Whether arithmetic makes sense on it."""
        return self.kind in ("integer", "float", "decimal")

    @property
    def temporal(self) -> bool:
        """Whether it is a date or a timestamp."""
        return self.kind in ("date", "timestamp")


STRING = DType("string")
BOOLEAN = DType("boolean")
DATE = DType("date")
BINARY = DType("binary")
LIST = DType("list")
INT8, INT16, INT32, INT64 = (DType("integer", bits=bits) for bits in (8, 16, 32, 64))
UINT8, UINT16, UINT32, UINT64 = (DType("integer", bits=bits, signed=False) for bits in (8, 16, 32, 64))
FLOAT32, FLOAT64 = DType("float", bits=32), DType("float", bits=64)


def timestamp(unit: str = "us", zone: str | None = None) -> DType:
    """A timestamp of that unit, with or without zone."""
    return DType("timestamp", unit=unit, zone=zone)


# Column name -> type, in the source's order.
Schema = dict[str, DType]
