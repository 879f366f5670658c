"""From predicted z and b to clips: by a video generator where there is one, else z is decoded directly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.errors import ConfigError
from core.files import read_json, write_json
from core.seeds import seed_for
from feature_store import Store
from models.captioners.settings import BlipCaptionerConfig, NearestCaption, NearestCaptionerConfig
from models.classifiers.judges import resized
from models.extractors.base import Decoder
from models.extractors.settings import LatentsConfig, PixelsConfig
from studies.stores.kept import NOTHING_KEPT, Kept, digest_array
from studies.study import Study

if TYPE_CHECKING:
    from models.captioners.blip import BlipCaptioner
    from models.generator.base import VideoGenerator


RoleArrays = dict[str, NDArray[Any]]
"""Role to what was predicted for it, (stimulus, …)."""


@dataclass(frozen=True)
class Rendered:
    """What a row of predictions became.

    Attributes
    ----------
    clips : (stimulus, frame, height, width, 3) uint8
    captions : decoded captions, empty where there is no b
    nearest : captions of the nearest training stimuli, beside those that are written
    together : for each stimulus, all that the generator rendered in one batch with it, in order; empty where there is
        no generator. How many are rendered together may show in a clip's last bit
    """

    clips: NDArray[np.uint8]
    captions: list[str]
    nearest: list[str]
    together: list[list[str]]

    def write(self, folder: Path) -> None:
        """Write all of it into an empty folder."""
        np.savez_compressed(folder / "clips.npz", clips=self.clips)
        words = {"captions": self.captions, "nearest": self.nearest, "together": self.together}
        write_json(folder / "words.json", words)

    @classmethod
    def read(cls, folder: Path) -> "Rendered":
        """Return what `write` has written."""
        with np.load(folder / "clips.npz", allow_pickle=False) as kept:
            return cls(kept["clips"], **read_json(folder / "words.json"))


class Renderer:
    """Turns z and b into clips and captions; a clip's noise depends on the seed and the stimulus's name alone.

    Parameters
    ----------
    decoder : turns z into clips where there is no generator
    frame : frames, height and width of all clips, those of the study's; what is decoded at another size is resized
    by_states : whether the generator is conditioned on b itself; else on captions
    nearest : answers b with the caption of the training stimulus whose b is nearest
    writer : writes captions of its own; without it, `nearest` answers
    kept : rows that earlier runs rendered of the same; by default every row is rendered
    """

    def __init__(
        self,
        decoder: Decoder,
        frame: tuple[int, int, int],
        *,
        generator: "VideoGenerator | None" = None,
        by_states: bool = False,
        nearest: NearestCaption | None = None,
        writer: "BlipCaptioner | None" = None,
        seed: int = 0,
        kept: Kept = NOTHING_KEPT,
    ) -> None:
        self._decoder, self._frame, self._kept = decoder, frame, kept
        self._generator, self._by_states = generator, by_states
        self._nearest, self._writer, self._seed = nearest, writer, seed

    @property
    def generates(self) -> bool:
        """Whether clips come of a generator; else z is decoded directly."""
        return self._generator is not None

    def decode(self, z: NDArray[Any]) -> NDArray[np.uint8]:
        """Return clips (stimulus, frame, height, width, 3) of z (stimulus, …), without the generator."""
        return resized(self._decoder.decode(z), self._frame)

    def render_row(self, roles: RoleArrays, stimuli: Sequence[str], *, direct: bool = False, row: str = "") -> Rendered:
        """Return clips and captions for z (stimulus, …) and, where there is one, b (stimulus, …).

        Parameters
        ----------
        roles : "z" and "b" to what was predicted
        stimuli : a name for each; the noise of its clip is drawn by it
        direct : whether z is decoded without the generator, which takes most of the time
        row : its name, for the progress
        """
        of: dict[str, Any] = {"roles": {role: digest_array(values) for role, values in roles.items()}, "direct": direct}
        return self._once(
            row, stimuli, of, lambda: self._render(roles, slice(0, len(stimuli)), list(stimuli), direct=direct)
        )

    def render_again(self, roles: RoleArrays, stimuli: Sequence[str], stimulus: str, together: list[str]) -> Rendered:
        """Return one stimulus as `render_row` made it of the same predictions: in the batch that it was rendered in.

        Parameters
        ----------
        together : the stimulus's entry in `Rendered.together`
        """
        batch = together or [stimulus]
        first, at = list(stimuli).index(batch[0]), batch.index(stimulus)
        whole, only = self._render(roles, slice(first, first + len(batch)), batch), slice(at, at + 1)
        return Rendered(whole.clips[only], whole.captions[only], whole.nearest[only], whole.together[only])

    def _render(self, roles: RoleArrays, rows: slice, names: list[str], *, direct: bool = False) -> Rendered:
        """Render some rows, of these names, as if with all."""
        z, b, together = roles["z"][rows], roles.get("b"), list[list[str]]()
        nearest = self._nearest.caption(b)[rows] if self._nearest is not None and b is not None else []
        captions = _written(self._writer, b, rows) if self._writer is not None and b is not None else nearest
        if self._generator is None or direct:
            return Rendered(self.decode(z), captions, nearest, together)

        def note(made: slice) -> None:
            together.extend([names[made]] * len(names[made]))

        states = b[rows] if self._by_states and b is not None else None
        clips = self._generator.render(z, captions, self._seeds(names), states=states, on_batch=note)
        return Rendered(clips, captions, nearest, together)

    def _seeds(self, stimuli: Sequence[str]) -> list[int]:
        return [seed_for(self._seed, "render", stimulus) for stimulus in stimuli]

    def render_prior(self, shape: tuple[int, ...], stimuli: Sequence[str], *, row: str = "") -> Rendered | None:
        """Return what the generator makes of noise alone, under no caption; None where there is no generator.

        Parameters
        ----------
        shape : of z, (stimulus, …)
        stimuli : a name for each; the noise of its clip is the one that its reconstruction starts from
        row : its name, for the progress
        """
        if self._generator is None:
            return None
        z = np.zeros(shape, np.float32)
        return self._once(row, stimuli, {"noise": list(shape)}, lambda: self._uncaptioned(z, stimuli, strength=1.0))

    def render_without_caption(self, z: NDArray[Any], stimuli: Sequence[str], *, row: str = "") -> Rendered:
        """Return clips of z (stimulus, …) under an empty caption; there is a generator."""
        return self._once(row, stimuli, {"uncaptioned": digest_array(z)}, lambda: self._uncaptioned(z, stimuli))

    def _uncaptioned(self, z: NDArray[Any], stimuli: Sequence[str], strength: float | None = None) -> Rendered:
        assert self._generator is not None
        # Guidance would weigh the empty caption against itself.
        captions, seeds = [""] * len(stimuli), self._seeds(stimuli)
        return Rendered(self._generator.render(z, captions, seeds, strength=strength, guidance=1.0), [], [], [])

    def _once(self, row: str, stimuli: Sequence[str], of: dict[str, Any], render: Callable[[], Rendered]) -> Rendered:
        """Return a row as an earlier run rendered it of the same, else render it."""
        inputs = {"stimuli": list(stimuli), **of}
        return self._kept.once(f"the row {row}", inputs, render, lambda folder, made: made.write(folder), Rendered.read)


def _written(writer: "BlipCaptioner", b: NDArray[Any], rows: slice) -> list[str]:
    """Return the captions of some rows, written in the same batches as when all rows are captioned."""
    batch = writer.decoding.batch
    start, stop = rows.start // batch * batch, -(-rows.stop // batch) * batch
    return writer.caption(b[start:stop])[rows.start - start : rows.stop - start]


def without_caption(study: str, stimuli: Sequence[str], captions: Sequence[Sequence[str]]) -> str:
    """Return, in one line, which training stimuli have no caption for the captioner `nearest` to answer with."""
    missing = [name for name, own in zip(stimuli, captions, strict=True) if not own]
    return (
        f"{study}: captioner: answers with the nearest training caption, and {len(missing)} training stimuli have "
        f"none, such as '{missing[0]}'; add captions to the source, or take captioner.kind: blip with a target 'blip'"
    )


def renderer_of(study: Study, store: Store, kept: Kept = NOTHING_KEPT) -> Renderer:
    """Build a study's renderer, with the training captions of its store; the study renders videos.

    Parameters
    ----------
    kept : rows that earlier runs rendered; by default every row is rendered

    Raises `ConfigError` where training captions are to be answered with, and one is missing.
    """
    root, generator, captioner = project_root(), study.generator, study.captioner_of_b()
    z = study.targets[study.roles.z or ""]
    assert isinstance(z, PixelsConfig | LatentsConfig)  # else `Study.why_nothing_to_render` names a reason
    nearest = None
    if captioner is not None:
        target = store.target(study.roles.b or "")
        captions = list(target.stimuli("train")["caption"])
        if all(captions):
            nearest = NearestCaption(target.values("train")[0], [several[0] for several in captions])
        elif isinstance(captioner, NearestCaptionerConfig):
            raise ConfigError(without_caption(study.study, list(target.stimuli("train")["stimulus"]), captions))
    return Renderer(
        z.build(root),
        study.frame,
        generator=None if generator is None else generator.build(root),
        by_states=generator is not None and generator.conditioning == "states",
        nearest=nearest,
        writer=captioner.build(root) if isinstance(captioner, BlipCaptionerConfig) else None,
        seed=study.seed,
        kept=kept,
    )
