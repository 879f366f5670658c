"""METEOR against nltk's, without its stems and synonyms."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.translate.meteor_score import meteor_score

from evaluation.metrics import metric

WORDS = ["a", "the", "red", "dog", "runs", "over", "an", "old", "log"]
sentences = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
CAPTIONS = np.array(
    [
        "a red ring moving left over a blue wall",
        "over a blue wall a red ring is moving left",
        "a dog runs after a ball",
    ],
    dtype=object,
)


class Without:
    """Stands for nltk's stemmer and WordNet, and knows neither stems nor synonyms."""

    def stem(self, word: str) -> str:
        return word

    def synsets(self, word: str) -> list[str]:
        return []


def of_nltk(said: str, wanted: list[str]) -> float:
    return float(meteor_score([one.split() for one in wanted], said.split(), stemmer=Without(), wordnet=Without()))


def meteor(said: str, wanted: list[str]) -> float:
    return float(metric("meteor").per_stimulus(np.array([said], object), np.array([wanted], object))[0])


@settings(max_examples=300, deadline=None)
@given(sentences, st.lists(sentences.filter(bool), min_size=1, max_size=3))
@example("the dog the dog", ["dog the dog the"])
@example("a red dog", ["an old log"])
def test_is_nltks_without_stems_and_synonyms(said, wanted):
    assert meteor(said, wanted) == pytest.approx(of_nltk(said, wanted), abs=1e-9)


def test_the_example_of_nltks_documentation():
    said = "It is a guide to action which ensures that the military always obeys the commands of the party"
    wanted = "It is a guide to action that ensures that the military will forever heed Party commands"
    assert meteor(said, [wanted]) == pytest.approx(of_nltk(said, [wanted]), abs=1e-12)
    assert meteor(said, [wanted]) == pytest.approx(0.6944, abs=5e-5)


def test_by_hand():
    # 3 of 3 words in 2 chunks; 3 of the reference's 4
    mean = 0.75 / (0.9 + 0.1 * 0.75)
    assert meteor("runs a dog", ["a dog runs fast"]) == pytest.approx(mean * (1 - 0.5 * (2 / 3) ** 3))


def test_order_counts_case_and_punctuation_do_not():
    straight, turned = meteor(CAPTIONS[0], [CAPTIONS[0]]), meteor(CAPTIONS[1], [CAPTIONS[0]])
    assert straight == pytest.approx(1 - 0.5 / 9**3)
    assert turned < 0.95
    assert meteor("A red ring, moving LEFT (over a blue wall).", [CAPTIONS[0]]) == straight
    assert meteor("a red ring moving left over a blue wall", ["...", CAPTIONS[0]]) == straight


def test_an_empty_caption_earns_0_and_what_is_no_text_has_no_value():
    said = np.array(["", "!", None], object)
    np.testing.assert_array_equal(metric("meteor").per_stimulus(said, CAPTIONS), [0.0, 0.0, np.nan])


def test_chance_is_what_another_stimulus_first_caption_earns():
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    wanted = np.mean([of_nltk(CAPTIONS[j], [CAPTIONS[i]]) for i, j in pairs])
    assert metric("meteor").chance_of(CAPTIONS) == pytest.approx(wanted, abs=1e-9)
    several = np.stack([CAPTIONS, "we see " + CAPTIONS], axis=1)
    wanted = np.mean([of_nltk(CAPTIONS[j], list(several[i])) for i, j in pairs])
    assert metric("meteor").chance_of(several) == pytest.approx(wanted, abs=1e-9)


def test_a_stimulus_without_a_caption_has_no_value():
    truth = np.array(["", "a dog runs"], object)
    values = metric("meteor").per_stimulus(np.array(["a", "a dog runs"], object), truth)
    np.testing.assert_array_equal(np.isfinite(values), metric("meteor").defined(truth))
    np.testing.assert_array_equal(np.isfinite(values), [False, True])
