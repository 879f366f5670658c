"""What a simulated study is made of: how many clips and subjects, how noisy, which world, and one seed."""

from typing import Literal, Self

from pydantic import Field, model_validator

from core.config import Config

WorldName = Literal["easy", "full"]


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
    clips: SimulatedClips = SimulatedClips()
    seed: int = 0

    @model_validator(mode="after")
    def _ncsnr_is_a_range(self) -> Self:
        low, high = self.ncsnr
        if not 0 < low <= high:
            raise ValueError(f"ncsnr must be two numbers with 0 < low ≤ high, found {low} and {high}")
        return self

    @model_validator(mode="after")
    def _numbers_fit_the_names(self) -> Self:
        if self.n_train + self.n_test > 9999:
            raise ValueError("n_train + n_test must be at most 9999: clips are named by four digits")
        return self
