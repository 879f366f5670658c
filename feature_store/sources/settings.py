"""The source that a study's config names by `source.kind`, whichever it is.

No source imports this module, so that a result's code digest covers the files of its own source and of no other.
"""

from typing import Annotated

from pydantic import Field

from feature_store.sources.arrays import ArraysConfig
from feature_store.sources.bids.dataset import BidsConfig
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.digits69 import Digits69Config

SourceConfig = Annotated[ArraysConfig | BidsConfig | BoldMomentsConfig | Digits69Config, Field(discriminator="kind")]
"""Any source; to add one, write its file with a config that has `kind` and `build`, and name it here."""
