"""A classifier of a small-world clip's attributes: shape, colour, size, motion, texture and background.

It was trained on real clips alone (`zoo/corpus.py`) and stands for a viewer who never tires. It errs: its accuracy on
real clips that it has not seen belongs beside every score.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from core.errors import ModelError
from core.files import read_json, write_json

Clips = NDArray[np.uint8]
"""(n, frame, height, width, 3), RGB, 0 to 255."""

WIDTHS = (24, 48, 64)
PER_FRAME, WHOLE = 128, 256
SETTINGS, WEIGHTS = "config.json", "model.safetensors"


class AttributeClassifier:
    """Reads the attributes of clips of one size.

    Parameters
    ----------
    attributes : the words of each attribute
    frame : frames, height and width of the clips
    """

    def __init__(
        self, net: torch.nn.Module, attributes: dict[str, tuple[str, ...]], frame: tuple[int, int, int]
    ) -> None:
        self.net, self.attributes, self.frame = net, attributes, frame

    @classmethod
    def load(cls, folder: Path) -> "AttributeClassifier":
        """Load what `save` wrote.

        Raises `ModelError`: the folder holds no such classifier, or its files are damaged.
        """
        try:
            settings = read_json(folder / SETTINGS)
            attributes = {name: tuple(words) for name, words in settings["attributes"]}
            frame = tuple(settings["frame"])
            net = AttributeNetwork(frame, attributes)
            net.load_state_dict({name: weight.float() for name, weight in load_file(folder / WEIGHTS).items()})
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"{folder}: holds no attribute classifier ({reason}); run 'python -m zoo train'"
            ) from error
        return cls(net.eval(), attributes, frame)

    def save(self, folder: Path) -> None:
        """Write `config.json` and, in float16, `model.safetensors`."""
        write_json(folder / SETTINGS, {"attributes": list(self.attributes.items()), "frame": list(self.frame)})
        save_file({name: weight.half() for name, weight in self.net.state_dict().items()}, folder / WEIGHTS)

    def read(self, clips: Clips, batch: int = 64) -> NDArray[np.int64]:
        """Return the index of the word read for each attribute, shape (n, attribute); raises as `scores` does."""
        heads = self.scores(clips, batch).values()
        return np.stack([head.argmax(axis=1) for head in heads], axis=1)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def scores(self, clips: Clips, batch: int = 64) -> dict[str, NDArray[np.float32]]:
        """Return the log-probability of every word, attribute to (n, word).

        Raises `ModelError`: clips of another size or type.
        """
        if clips.dtype != np.uint8 or clips.shape[1:] != (*self.frame, 3):
            expected = ", ".join(map(str, self.frame))
            raise ModelError(
                f"attribute classifier: expected clips uint8 (n, {expected}, 3), found {clips.dtype} {clips.shape}"
            )
        read: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.attributes}
        for start in range(0, len(clips), batch):
            heads = self.net(to_input(clips[start : start + batch]))
            for name, head in zip(self.attributes, heads, strict=True):
                read[name].append(head.log_softmax(1).numpy())
        empty = {name: np.empty((0, len(words)), np.float32) for name, words in self.attributes.items()}
        return {name: np.concatenate(parts) if parts else empty[name] for name, parts in read.items()}

    def classes(self, clips: Clips) -> NDArray[np.float32]:
        """Return the log-probability of every combination of words, (n, combination); raises as `scores` does.

        Attributes are taken to be independent, so that a combination's log-probability is the sum of its
        words'. The combinations are those of all words, in the attributes' order, the last one running fastest.
        """
        joined = np.zeros((len(clips), 1), np.float32)
        for head in self.scores(clips).values():
            joined = (joined[:, :, None] + head[:, None, :]).reshape(len(clips), -1)
        return joined

    def accuracy(self, clips: Clips, labels: NDArray[np.int64]) -> dict[str, float]:
        """Return the share of clips whose word is read right, by attribute; labels are (n, attribute)."""
        right = (self.read(clips) == labels).mean(axis=0)
        return dict(zip(self.attributes, right.tolist(), strict=True))


class AttributeNetwork(torch.nn.Module):  # type: ignore[misc]
    """Convolutions on every frame, then one layer over all frames, and one head an attribute."""

    def __init__(self, frame: tuple[int, ...], attributes: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        frames, height, width = frame
        layers: list[torch.nn.Module] = []
        for before, after in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [torch.nn.Conv2d(before, after, 3, stride=2, padding=1), torch.nn.ReLU()]
        cells = -(-height // 2 ** len(WIDTHS)) * -(-width // 2 ** len(WIDTHS))
        layers += [torch.nn.Flatten(), torch.nn.Linear(WIDTHS[-1] * cells, PER_FRAME), torch.nn.ReLU()]
        self.frame = torch.nn.Sequential(*layers)
        self.whole = torch.nn.Sequential(torch.nn.Linear(frames * PER_FRAME, WHOLE), torch.nn.ReLU())
        self.heads = torch.nn.ModuleDict(
            {name: torch.nn.Linear(WHOLE, len(words)) for name, words in attributes.items()}
        )

    def forward(self, clips: torch.Tensor) -> list[torch.Tensor]:
        """Return the scores of each attribute's words, of clips (n, frame, 3, height, width) in [-1, 1]."""
        seen = self.frame(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).flatten(1)
        joined = self.whole(seen)
        return [head(joined) for head in self.heads.values()]


def to_input(clips: Clips) -> torch.Tensor:
    """Return clips as the network's input, (n, frame, 3, height, width) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
