"""The rows rendered beside the reconstruction: what the generator, the training set and the mean can do alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.progress import report
from evaluation.diagnoses.distance import nearest_training
from evaluation.statistics.controls import with_test_noise
from evaluation.statistics.scores import MEAN, NEAREST, NOISE_CEILING, ORACLE, PRIOR, RECONSTRUCTION
from feature_store import Store
from studies.decoding.predictions import Predictions
from studies.decoding.render import Rendered, Renderer, Roles
from studies.stores.clip_reading import read_clips
from studies.study import Study

Array = NDArray[Any]


@dataclass(frozen=True)
class Nearest:
    """The training stimulus that is most like a prediction, or most like the truth, for every test stimulus.

    Attributes
    ----------
    stimuli : list of str
    captions : the first caption of each, empty where it has none
    distance : (n,) 1 − Pearson's r in z less the training mean
    """

    stimuli: list[str]
    captions: list[str]
    distance: NDArray[np.float64]


class ControlRows:
    """Renders the rows of a report one after the other; what cannot be had is left out, and a note says why.

    Parameters
    ----------
    study : Study
    store : Store
    renderer : Renderer
    made : by role, the predictions of the test stimuli, with their halves
    training : the stimuli that the models were trained on
    """

    def __init__(
        self, study: Study, store: Store, renderer: Renderer, made: dict[str, Predictions], training: set[str]
    ) -> None:
        self._study, self._renderer, self._made = study, renderer, made
        self.stimuli = made["z"].stimuli
        self.notes: list[str] = []
        values, names = store.target(study.roles.z or "").values("train")
        rows = np.array([row for row, name in enumerate(names) if name in training])
        self._training = values[rows]
        self._names = [names[row] for row in rows]
        told = store.target(study.roles.z or "").stimuli("train").set_index("stimulus")["caption"]
        self._captions = {name: (told[name][0] if told[name] else "") for name in self._names}
        self.of_prediction = self.nearest(made["z"].predicted)

    @property
    def training_captions(self) -> list[str]:
        """The first caption of every training stimulus that has one."""
        return [caption for caption in self._captions.values() if caption]

    def nearest(self, values: Array) -> Nearest:
        """Return the nearest training stimulus of values of z, (n, …)."""
        index, distance = nearest_training(values, self._training)
        names = [self._names[row] for row in index]
        return Nearest(names, [self._captions[name] for name in names], distance)

    def roles(self) -> dict[str, Roles]:
        """Return z and b of the rows that are rendered as the reconstruction is, without clips yet."""
        rows: dict[str, Roles] = {
            RECONSTRUCTION: {role: one.predicted for role, one in self._made.items()},
            MEAN: {role: one.mean for role, one in self._made.items()},
            ORACLE: {role: one.truth for role, one in self._made.items()},
        }
        noisy = {role: self._noisy(one) for role, one in self._made.items()}
        there = {role: values for role, values in noisy.items() if values is not None}
        if len(there) == len(noisy):
            rows[NOISE_CEILING] = there
        else:
            self.notes.append(
                "no noise ceiling: " + ("a test stimulus was shown once, so its noise cannot be told from it"
                                        if self._made["z"].halves is None else
                                        "the predictions agree no better between repetitions than noise does")
            )  # fmt: skip
        return rows

    def _noisy(self, one: Predictions) -> Array | None:
        return None if one.halves is None else with_test_noise(one.truth, one.predicted, one.halves, one.mean)

    def rendered(self) -> Iterator[tuple[str, Rendered]]:
        """Yield every row with its clips and captions, the reconstruction first."""
        for row, roles in self.roles().items():
            report(f"rendering the row {row}", 0, 1)
            yield row, self._renderer.render_row(roles, self.stimuli)
        prior = self._renderer.render_prior(self._made["z"].predicted.shape, self.stimuli)
        if prior is None:
            self.notes.append("no prior: z is decoded directly, without a generator that could invent something")
        else:
            yield PRIOR, prior
        found = self.of_prediction
        clips = read_clips(self._study.source.build(project_root()), found.stimuli, self._study.clips)
        yield NEAREST, Rendered(clips, found.captions if all(found.captions) else [], [], [])
