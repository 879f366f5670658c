"""What a simulated study is made of: how many clips and subjects, how noisy, which world, and one seed."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from core.config import Config

WorldName = Literal["easy", "full"]
Space = Literal["rois", "MNI152", "fsLR32k", "fsaverage", "windows"]
"""The kinds of responses that the source `bold_moments` reads."""

LATE_SETTINGS = {"spaces", "annotations", "rest", "rest_signal"}
"""Settings that datasets already written do not name; their defaults are what those datasets hold."""


PUBLISHED_NCSNR = (0.1, 1.3)
"""A range for `SimulationConfig.ncsnr` whose best voxel is as good as the best one published for BOLD Moments.

The noise ceiling of its best voxel is 63.4 % of one trial's variance (sub-01, test, MNI152) or 60.8 % (sub-01, 1,000
videos of three repeats, fsLR32k), as the authors' notebooks print it: an ncsnr of 1.32 or 1.25. The notebooks are
``bmd_noiseceiling_versionB_MNI152`` and ``noiseceiling_versionB`` in the examples of
github.com/blahner/BOLDMomentsDataset. Other voxels are shown there as pictures only, so the lower end is our own.
"""


class SimulatedClips(Config):
    """The video files that are written: square, H.264, `frames` at `fps`."""

    frames: int = Field(24, ge=2)
    side: int = Field(128, ge=16)
    fps: float = Field(8.0, gt=0)


class SimulationConfig(Config):
    """A dataset in BOLD Moments' layout, of the small world seen by simulated brains."""

    world: WorldName = "easy"
    n_train: int = Field(400, ge=2)
    n_test: int = Field(48, ge=2)
    subjects: int = Field(2, ge=1, le=99)
    train_repeats: int = Field(3, ge=1)
    test_repeats: int = Field(10, ge=1)
    voxels: int = Field(1500, ge=46)
    """Voxels per subject, about: each region's size varies between subjects."""
    ncsnr: tuple[float, float] = (0.1, 1.0)
    """Lowest and highest noise-ceiling SNR of a voxel: signal sd over the noise sd of one trial."""
    shared_noise: float = Field(0.3, ge=0, le=1)
    """Part of the noise variance that lies in few spatially smooth patterns."""
    silent: float = Field(0.1, ge=0, le=1)
    """Part of every region's voxels that hold noise only."""
    rest: int = Field(0, ge=0)
    """Rows of rest per subject: activity without a stimulus, which re-enacts mixtures of what was never shown. They are
    written by region, and read where a source's responses are ``rois``."""
    rest_signal: float = Field(0.7, ge=0)
    """Standard deviation of what is re-enacted at rest, in that of the responses to training stimuli."""
    clips: SimulatedClips = SimulatedClips()
    spaces: tuple[Space, ...] = Field(("rois",), min_length=1)
    """Which kinds of responses are written. ``MNI152`` brings masks, ROI indices and the pickles of BMDgeneral and WB;
    every whole space brings its noise ceilings."""
    annotations: Literal["early", "newer"] = "early"
    """Which release's form the annotations have; the newer one names MiT, THINGS and PLACES365 ids."""
    seed: int = 0

    def recorded(self) -> dict[str, Any]:
        """Return the settings as a dataset's description holds them, without `LATE_SETTINGS` at their defaults."""
        defaults = {name for name in LATE_SETTINGS if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude=defaults)

    @model_validator(mode="after")
    def _ncsnr_is_a_range(self) -> Self:
        low, high = self.ncsnr
        if not 0 < low <= high:
            raise ValueError(f"ncsnr must be two numbers with 0 < low ≤ high, found {low} and {high}")
        return self

    @model_validator(mode="after")
    def _spaces_are_named_once(self) -> Self:
        if len(set(self.spaces)) != len(self.spaces):
            raise ValueError(f"spaces must name each kind once, found {', '.join(self.spaces)}")
        return self

    @model_validator(mode="after")
    def _rest_has_a_place(self) -> Self:
        if self.rest and "rois" not in self.spaces:
            raise ValueError(f"rest is written by region: add rois to spaces, found {', '.join(self.spaces)}")
        return self

    @model_validator(mode="after")
    def _numbers_fit_the_names(self) -> Self:
        if self.n_train + self.n_test > 9999:
            raise ValueError("n_train + n_test must be at most 9999: clips are named by four digits")
        return self
