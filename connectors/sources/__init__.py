"""Where rows come from: one class a kind of source, opened by its settings.

source = sources.open(SourceSettings(path="/data/visits/*.parquet", format="parquet"))
source.schema(); source.scan(["citizen_id", "sex"])
"""

from connectors.sources.base import Format, Source, SourceSettings
from connectors.sources.files import FileSource, matching

__all__ = ["FileSource", "Format", "Source", "SourceSettings", "matching", "open"]


def open(settings: SourceSettings) -> Source:
    """The source that the settings describe. Looks at nothing yet.

    Raises CONFIG_INVALID for a URL, an unknown column type or a path without a name.
    """
    return FileSource(settings)
