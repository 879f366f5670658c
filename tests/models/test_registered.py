"""A new encoder, regressor or extractor that lacks a method is refused where it is registered, not after training."""

from typing import Any, Literal

import pytest

from core.config import Config
from core.errors import ModelError
from core.protocols import require_members
from models.decoders.build import ENCODERS, REGRESSORS, Encoder, Regressor, registered
from models.encoders.linear import Standardise
from models.encoders.settings import EncoderConfig
from models.extractors.settings import Extracts, PixelsConfig
from models.regressors.settings import RegressorConfig


class NoWidths:
    """An encoder as a newcomer writes it."""

    subjects: list[str]

    @classmethod
    def fit(cls, config: Any, rows: Any, context: Any) -> Any: ...

    @classmethod
    def from_state(cls, config: Any, tensors: Any) -> Any: ...

    def encode(self, subject: str, responses: Any) -> Any: ...


class NoRevision(Config):
    extractor: Literal["mine"] = "mine"

    def build(self, root: Any) -> Any: ...

    def shape(self, root: Any) -> Any: ...


def test_an_encoder_without_a_method_is_refused_by_its_name() -> None:
    with pytest.raises(ModelError, match=r"encoder 'mine' \(.*NoWidths\) lacks widths, state; add them"):
        registered("encoder", Encoder, {**ENCODERS, "mine": NoWidths}, EncoderConfig)


def test_a_regressor_without_a_method_is_refused_by_its_name() -> None:
    bare = type("Bare", (), {"fit": None, "from_state": None})
    with pytest.raises(ModelError, match="regressor 'mine' .* lacks subjects, widths, state, target, shape, predict"):
        registered("regressor", Regressor, {**REGRESSORS, "mine": bare}, RegressorConfig)


def test_settings_without_a_class_are_refused() -> None:
    with pytest.raises(ModelError, match="encoder 'pca': has settings .PcaConfig. and no class"):
        registered("encoder", Encoder, {"standardise": Standardise}, EncoderConfig)


def test_an_extractor_s_settings_are_whole() -> None:
    require_members(PixelsConfig, "extractor 'pixels'", [Extracts])
    with pytest.raises(ModelError, match="extractor 'mine' .* lacks revision; add it"):
        require_members(NoRevision, "extractor 'mine'", [Extracts])
