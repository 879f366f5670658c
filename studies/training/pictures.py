"""Pictures of a training: loss curves, and masked brain rows beside what the network fills in.

A picture of held-out training stimuli as the chosen route renders them, so that trainings can be told apart by eye.

Test stimuli are not shown there: whoever promotes by looking would choose on them.
"""

from collections.abc import Mapping

import numpy as np

from core.errors import Brain2VideoError
from core.progress import report
from evaluation.report.charts.style import save_figure
from evaluation.report.sheet import contact_sheet, sheet_png
from feature_store import Store
from models.decoders.build import Encoder
from models.decoders.rows import BrainRows
from models.encoders.mbm.encoder import Mbm
from models.training.loop import History
from studies.decoding.render import Renderer, why_nothing_to_render
from studies.study import Study
from studies.training.validation import Validation

ROWS = 6
"""Trials in a picture of filling in."""
COLUMNS = 3
SMOOTH = 25
"""Steps that a training loss is averaged over."""
TRAINING, VALIDATION = "#8fb6d9", "#b3470f"


def curves_png(curves: Mapping[str, History]) -> bytes:
    """Return a PNG of every stage's training loss over its steps, and of its validation loss where it had one."""
    from matplotlib.figure import Figure

    lines = -(-len(curves) // COLUMNS)
    figure = Figure(figsize=(12, 2.4 * lines), layout="constrained")
    for index, (stage, history) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(lines, COLUMNS, index)
        losses = np.asarray(history.losses)
        width = max(1, min(SMOOTH, len(losses) // 4))
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.plot(np.arange(len(smooth)) + width, smooth, color=TRAINING, linewidth=1.4, label="training")
        if history.validation:
            axes.plot(*zip(*history.validation, strict=True), color=VALIDATION, linewidth=1.4, label="held out")
        if history.best:
            axes.axvline(history.best, color=VALIDATION, linewidth=0.8, linestyle=":")
        axes.set_title(stage, fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        axes.set_xlabel("step", fontsize=7)
        axes.legend(fontsize=7, frameon=False)
    return save_figure(figure, dpi=100)


def filled_in_png(encoder: Encoder, subject: str, brain: BrainRows, seed: int) -> bytes | None:
    """Return a PNG of training trials, what of them was visible, and what the network made of it; None for others.

    Trials are rows and voxels, in ROI order, columns.
    """
    if not isinstance(encoder, Mbm) or encoder.config.pretraining is None:
        return None
    from matplotlib.figure import Figure

    made = encoder.fill_in(subject, brain.responses[:ROWS], seed)
    visible = np.where(made["hidden"], np.nan, made["truth"])
    filled = np.where(made["hidden"], made["made"], made["truth"])
    shown = {"recorded": made["truth"], "visible": visible, "visible, and what was filled in": filled}
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for index, (title, rows) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(3, 1, index)
        axes.set_facecolor("#d9dce0")
        image = axes.imshow(rows, aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-2.5, vmax=2.5)
        axes.set_title(f"{subject}: {title}", fontsize=9, loc="left")
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
    axes.set_xlabel("voxel, region by region", fontsize=8)
    figure.colorbar(image, ax=figure.axes, label="standard deviations", fraction=0.02)
    return save_figure(figure, dpi=100)


LABELS = ("true z, decoded", "reconstructed")


def validation_sheet(study: Study, store: Store, validation: Validation) -> bytes | None:
    """Return a PNG of the first held-out stimuli: their true z decoded, above what the brain's predictions give.

    None where the study renders nothing, or what renders cannot be had here, which is reported and ends no training.
    """
    if why_nothing_to_render(study) is not None or not validation.shown_stimuli:
        return None
    try:
        renderer = Renderer(study, store)
        made = renderer.render_row(validation.shown, validation.shown_stimuli)
    except Brain2VideoError as error:
        report(f"no picture of held-out stimuli: {error}", 1, 1)
        return None
    values, names = store.target(study.roles.z or "").values("train")
    row_of = {name: row for row, name in enumerate(names)}
    truth = values[np.array([row_of[name] for name in validation.shown_stimuli])].astype(np.float32)
    return sheet_png(contact_sheet(renderer.decoder.decode(truth), made.clips, labels=LABELS))
