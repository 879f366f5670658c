"""A result's code digest covers the files of the source that it was read from, and of no other source."""

import pytest

from core.code import modules_reached
from feature_store.sources.arrays import ArraysConfig
from feature_store.sources.bids.dataset import BidsConfig
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.digits69 import Digits69Config
from feature_store.sources.settings import SourceConfig
from feature_store.sources.splits import SplitConfig

SOURCES = "feature_store.sources."
SHARED = {"base", "splits", "tsv"}
OWN = {
    "arrays": {"arrays"},
    "digits69": {"digits69"},
    "bids": {"bids", "timeseries"},
    "bold_moments": {"bold_moments", "pickles"},
}
CONFIGS: list[SourceConfig] = [
    ArraysConfig(path="."),
    BidsConfig(path=".", split=SplitConfig(by="task", test=["a"])),
    BoldMomentsConfig(path="."),
    Digits69Config(path="."),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.kind))
def test_a_source_depends_on_its_own_files_and_on_no_other_source(config: SourceConfig) -> None:
    reached = {name.removeprefix(SOURCES).split(".")[0] for name in modules_reached(config) if name.startswith(SOURCES)}
    assert OWN[config.kind] <= reached
    assert reached <= OWN[config.kind] | SHARED


def test_bold_moments_depends_on_every_reader_but_not_on_what_only_downloads() -> None:
    prefix = f"{SOURCES}bold_moments."
    reached = {
        name.removeprefix(prefix) for name in modules_reached(BoldMomentsConfig(path=".")) if name.startswith(prefix)
    }
    assert reached == {"dataset", "events", "layout", "reader", "responses"}
