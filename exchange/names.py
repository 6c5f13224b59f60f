"""Resource names (AIP-122), and the short forms that people type."""

from __future__ import annotations

import re

from contracts.errors import Reason, SluicegateError

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def full(name: str, collection: str) -> str:
    """`a-...` or `agreements/a-...`, as the full name in that collection. Only completes: whether there
    is such a thing is for the exchange to say."""
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


def dataset_name(text: str) -> str:
    """`health-bureau/hospital-visits` or the full `parties/.../datasets/...`, as the full name.

    Raises INVALID_ARGUMENT for anything else.
    """
    parts = text.split("/")
    if len(parts) == 2:
        parts = ["parties", parts[0], "datasets", parts[1]]
    if len(parts) != 4 or (parts[0], parts[2]) != ("parties", "datasets") or not all(map(ID.fullmatch, parts[1::2])):
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, "a dataset is named party/dataset, for example health-bureau/hospital-visits"
        )
    return "/".join(parts)


def short_dataset(name: str) -> str:
    """`parties/p/datasets/d` as people type it: `p/d`."""
    parts = name.split("/")
    return f"{parts[1]}/{parts[3]}" if len(parts) >= 4 else name


def owner(name: str) -> str:
    """The party of `parties/{party}/...`; empty for another name."""
    parts = name.split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "parties" else ""


def last(name: str) -> str:
    """The id at the end of a resource name."""
    return name.rsplit("/", 1)[-1]
