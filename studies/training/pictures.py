"""The pictures of a training: curves of losses, what a network fills in, held-out stimuli as they are reconstructed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core.errors import Brain2VideoError
from core.files import write_bytes, write_json
from core.progress import report
from evaluation.report.charts.training import curves_png, filled_in_png
from evaluation.report.sheet import contact_sheet, sheet_png
from feature_store import Store
from models.decoders.build import Encoder
from models.encoders.mbm import Mbm
from models.training.loop import History
from studies.decoding.render import renderer_of
from studies.decoding.training_data import TrainingData
from studies.runs import CURVES, PICTURES
from studies.study import Study
from studies.training.routes import Validation

FILLED_IN = 6
"""Trials in a picture of filling in."""
HELD_OUT = ("true z, decoded", "reconstructed")


def write_curves(folder: Path, curves: Mapping[str, History]) -> None:
    """Write the losses of every stage, and draw them."""
    losses = {stage: vars(history) for stage, history in curves.items()}
    write_json(folder / CURVES, losses)
    if curves:
        write_bytes(folder / PICTURES / "curves.png", curves_png(losses))


def write_filled_in(file: Path, encoder: Encoder, data: TrainingData, seed: int) -> None:
    """Draw what a masked brain network fills into the first subject's first trials; nothing for other encoders."""
    if isinstance(encoder, Mbm) and encoder.config.pretraining is not None:
        subject, brain = next(iter(data.brains.items()))
        filled = encoder.fill_in(subject, brain.responses[:FILLED_IN], seed)
        write_bytes(file, filled_in_png(subject, filled["truth"], filled["made"], filled["hidden"]))


def held_out_sheet(study: Study, store: Store, validation: Validation) -> bytes | None:
    """Return a picture of the first held-out stimuli: their true z decoded, above what the brain's predictions give."""
    if study.why_nothing_to_render() is not None or not validation.shown_stimuli:
        return None
    try:
        renderer = renderer_of(study, store)
        rendered = renderer.render_row(validation.shown, validation.shown_stimuli)
    except Brain2VideoError as error:
        report(f"no picture of held-out stimuli: {error}", 1, 1)
        return None
    values, names = store.target(study.roles.z or "").values("train")
    row_of = {name: row for row, name in enumerate(names)}
    truth = values[np.array([row_of[name] for name in validation.shown_stimuli])].astype(np.float32)
    return sheet_png(contact_sheet(renderer.decode(truth), rendered.clips, labels=HELD_OUT))
