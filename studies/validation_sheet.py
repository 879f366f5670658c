"""A picture of held-out training stimuli as the chosen route renders them, so that trainings can be told apart by eye.

Test stimuli are not shown there: whoever promotes by looking would choose on them.
"""

import numpy as np

from core.errors import Brain2VideoError
from core.progress import report
from evaluation.sheet import contact_sheet, sheet_png
from feature_store import Store
from studies.render import Renderer, why_nothing_to_render
from studies.study import Study
from studies.validation import Validation

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
