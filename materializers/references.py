"""Keeps a reference as JSON in ZenML's artifact store, and shows it as a page."""

import html
import json
from pathlib import Path
from typing import Any, ClassVar

from zenml.enums import ArtifactType, VisualizationType
from zenml.materializers.base_materializer import BaseMaterializer
from zenml.metadata.metadata_types import MetadataType

from core.checkout import project_root
from core.config import Config
from models.registry.sets import ModelSet
from studies.registry.decision import PromotionDecision
from studies.runs import BRAIN, GALLERY, REGIONS_CHART, SHEET, GroupRef, ReconstructionRef, RegionsRef, TrainingRef

FILE = "reference.json"


class ReferenceMaterializer(BaseMaterializer):
    """Materializes the references of `studies.runs`, registered model sets, and decisions on their promotion."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (
        GroupRef,
        TrainingRef,
        ReconstructionRef,
        RegionsRef,
        ModelSet,
        PromotionDecision,
    )
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def load(self, data_type: type[Any]) -> Config:
        """Read the reference back."""
        with self.artifact_store.open(f"{self.uri}/{FILE}", "r") as file:
            loaded: Config = data_type.model_validate_json(file.read())
        return loaded

    def save(self, data: Config) -> None:
        """Write the reference as JSON."""
        with self.artifact_store.open(f"{self.uri}/{FILE}", "w") as file:
            file.write(data.model_dump_json(indent=2))

    def extract_metadata(self, data: Config) -> dict[str, MetadataType]:
        """Return the reference's short fields, which ZenML lists beside the artifact."""
        return {name: value for name, value in data.model_dump(mode="json").items() if isinstance(value, str | bool)}

    def save_visualizations(self, data: Config) -> dict[str, VisualizationType]:
        """Write the reference as a table, with the pictures of a store or a reconstruction's gallery beside it."""
        page = f"{self.uri}/reference.html"
        with self.artifact_store.open(page, "w") as file:
            file.write(_table(data))
        shown = {page: VisualizationType.HTML}
        for picture in _pictures(data):
            if picture.is_file():
                kind = VisualizationType.HTML if picture.suffix == ".html" else VisualizationType.IMAGE
                shown[_copy(self, picture)] = kind
        return shown


def _pictures(data: Config) -> list[Path]:
    if isinstance(data, GroupRef):
        return [project_root() / picture for picture in data.pictures]
    if isinstance(data, ReconstructionRef) and data.run:
        return [project_root() / data.folder / name for name in (GALLERY, SHEET)]
    if isinstance(data, RegionsRef) and data.run:
        return [project_root() / data.folder / name for name in (REGIONS_CHART, BRAIN)]
    return []


def _copy(materializer: BaseMaterializer, picture: Path) -> str:
    uri = f"{materializer.uri}/{picture.name}"
    with materializer.artifact_store.open(uri, "wb") as file:
        file.write(picture.read_bytes())
    return uri


def _table(data: Config) -> str:
    rows = "".join(
        f"<tr><th align=left>{html.escape(name)}</th><td><code>{html.escape(_plain(value))}</code></td></tr>"
        for name, value in data.model_dump(mode="json").items()
    )
    return f"<table>{rows}</table>"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
