"""Extraction: clips read ahead arrive in order, errors arrive where they belong, captions that are cut are counted."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.checkout import project_root as home_folder
from core.clips import ClipConfig
from core.errors import SourceError
from core.progress import listening
from feature_store.reader import open_group
from studies.stores.clip_reading import AHEAD, read_ahead
from studies.stores.responses import simulate_source
from studies.stores.targets import extract
from studies.study import load_study

from .test_simulated import CONFIG, TINY, tiny  # noqa: F401 - a fixture


class Slow:
    """A source whose first clips take longest, and which remembers how many were read at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.read: list[str] = []
        self._lock = threading.Lock()

    def clip(self, stimulus: str, config: ClipConfig) -> Any:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.read.append(stimulus)
        time.sleep(0.02 if int(stimulus) % 3 == 0 else 0.001)
        with self._lock:
            self.now -= 1
        if stimulus == "13":
            raise SourceError("13.mp4: not a video that can be decoded; replace the file")
        return np.full((1, 2, 2, 3), int(stimulus), dtype=np.uint8)


def test_clips_come_in_order_though_several_are_read_at_once() -> None:
    source, names = Slow(), [str(index) for index in range(12)]
    came = [int(clip[0, 0, 0, 0]) for clip in read_ahead(source, names, ClipConfig())]  # type: ignore[arg-type]
    assert came == list(range(12))
    assert source.most > 1
    assert sorted(source.read, key=int) == names


def test_a_bad_clip_ends_it_where_it_stands_and_nothing_more_is_read() -> None:
    source, names, came = Slow(), [str(index) for index in range(40)], list[int]()
    clips = read_ahead(source, names, ClipConfig())  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"13\.mp4: not a video"):
        came.extend(int(clip[0, 0, 0, 0]) for clip in clips)
    assert came == list(range(13))
    assert len(source.read) <= 14 + AHEAD


def test_captions_beyond_the_tokenizer_are_counted_and_said(home: Path, tiny: Any) -> None:  # noqa: F811
    text = "targets.blip={extractor: text, weights: models/small_world/text_to_video}"
    study = load_study(CONFIG, [*TINY, text])
    simulate_source(study)
    annotations = home_folder() / study.source.path / "derivatives/stimuli_metadata/annotations.json"
    long = annotations.read_text().replace("we see a", "we see " + "a very " * 20)
    annotations.write_text(long)
    heard = []
    with listening(lambda what, done, total, note: heard.append(what)):
        reference = extract(study, "blip")
    cut = open_group(home_folder() / reference.path).attributes["captions_cut"]
    assert cut >= 16, "one of five captions of 16 stimuli, and some in words that the tiny tokenizer spells out"
    assert f"{cut} of 80 captions are longer than the text encoder takes and are cut" in heard
