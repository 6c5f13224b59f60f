"""Where rows come from: one class a kind of source, opened by its settings.

source = sources.open(SourceSettings(path="/data/visits/*.parquet", format="parquet"), contract.fields)
source.schema(); source.scan(["citizen_id", "sex"])
"""

from collections.abc import Iterable

from connectors.sources.base import Format, Source, SourceSettings, explaining
from connectors.sources.files import FileSource, matching
from contracts.model import Field

__all__ = ["FileSource", "Format", "Source", "SourceSettings", "explaining", "matching", "open"]


def open(settings: SourceSettings, fields: Iterable[Field] = ()) -> Source:
    """The source that the settings describe. Looks at nothing yet. `fields` are those of the contract:
    their logical types decide how a CSV or NDJSON is read, where the settings state nothing.

    Raises CONFIG_INVALID for a URL, an unknown column type or a path without a name.
    """
    return FileSource(settings, fields)
