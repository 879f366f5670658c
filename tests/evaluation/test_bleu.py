"""BLEU against sacrebleu, captions' words against its tokeniser, and what a random other caption earns."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sacrebleu import sentence_bleu
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from evaluation.metrics import metric
from evaluation.metrics.captions import MAX_OTHERS, words

WORDS = ["a", "A", "the", "red", "dog", "runs", "over", "an", "old,", "log", "."]
sentences = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
some = sentences.filter(bool)
CAPTIONS = np.array(
    [
        "a large red ring moving left over a plain blue background",
        "a small red ring moving left over a striped blue background",
        "a small green star circling over a plain white background",
        "two people walk along a beach at sunset",
        "a dog runs after a ball",
    ],
    dtype=object,
)


def of_sacrebleu(said: str, wanted: list[str]) -> float:
    return sentence_bleu(said, wanted, smooth_method="exp", lowercase=True, use_effective_order=False).score / 100


def bleu(said: str, wanted: list[str]) -> float:
    return float(metric("bleu_4").per_stimulus(np.array([said], object), np.array([wanted], object))[0])


@settings(max_examples=300, deadline=None)
@given(sentences, st.lists(some, min_size=1, max_size=3))
@example("the dog", ["the dog"])
@example("a red dog runs", ["an old log over"])
@example("the dog runs over", ["dog the over runs"])
@example("a a a a a", ["a a", "a a a a a a a a"])  # equally near: the shorter one counts
def test_is_sacrebleus_sentence_bleu(said, wanted):
    assert bleu(said, wanted) == pytest.approx(of_sacrebleu(said, wanted), abs=1e-9)


@pytest.mark.parametrize("said", CAPTIONS)
@pytest.mark.parametrize("wanted", CAPTIONS)
def test_is_sacrebleus_over_captions(said: str, wanted: str):
    assert bleu(said, [wanted]) == pytest.approx(of_sacrebleu(said, [wanted]), abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "A man's dog, well-trained, runs.",
        "It covers 3.5 miles (or 1,000 steps); really!",
        '"Yes" -- says he: no?',
        "  one\ttwo \n three ",
        "",
    ],
)
def test_words_are_those_of_the_13a_tokeniser(text: str):
    assert list(words(text.replace("--", "- -"))) == Tokenizer13a()(text.lower().replace("--", "- -")).split()


def test_itself_earns_1_case_and_space_aside_and_absent_references_do_not_count():
    np.testing.assert_allclose(metric("bleu_4").per_stimulus(CAPTIONS, CAPTIONS), 1.0, rtol=1e-12)
    loud = np.array([f"  {caption.upper()} " for caption in CAPTIONS], object)
    np.testing.assert_allclose(metric("bleu_4").per_stimulus(loud, CAPTIONS), 1.0, rtol=1e-12)
    padded = np.stack([np.roll(CAPTIONS, 1), CAPTIONS, np.full(5, "")], axis=1)
    np.testing.assert_allclose(metric("bleu_4").per_stimulus(CAPTIONS, padded), 1.0, rtol=1e-12)
    as_str = CAPTIONS.astype(str)
    np.testing.assert_allclose(metric("bleu_4").per_stimulus(as_str, as_str), 1.0, rtol=1e-12)


def test_short_and_empty_captions_earn_0_and_what_is_no_text_has_no_value():
    said = np.array(["a dog runs", "", "a dog runs after a ball", np.nan, None], object)
    truth = np.repeat(CAPTIONS[4:], 5)
    np.testing.assert_allclose(metric("bleu_4").per_stimulus(said, truth), [0, 0, 1, np.nan, np.nan])


@pytest.mark.parametrize("truth", [CAPTIONS, np.stack([CAPTIONS, "we see " + CAPTIONS], axis=1)])
def test_chance_is_what_another_stimulus_first_caption_earns(truth: np.ndarray):
    first = truth.reshape(5, -1)[:, 0]
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    wanted = np.mean([of_sacrebleu(first[j], list(truth.reshape(5, -1)[i])) for i, j in pairs])
    assert metric("bleu_4").chance_of(truth) == pytest.approx(wanted, abs=1e-9)


def test_captions_dealt_at_random_land_on_chance(rng: np.random.Generator):
    nouns, verbs = np.array(["dog", "cat", "man", "bird"]), np.array(["runs", "sits", "sleeps", "sings"])
    drawn = zip(nouns[rng.integers(0, 4, 400)], verbs[rng.integers(0, 4, 400)], strict=True)
    truth = np.array([f"a small {noun} {verb} on the old road" for noun, verb in drawn], object)
    assert len(truth) > MAX_OTHERS
    values = metric("bleu_4").per_stimulus(truth[rng.permutation(400)], truth)
    assert metric("bleu_4").chance_of(truth) == pytest.approx(values.mean(), abs=4 * values.std() / 20)


def test_a_stimulus_without_a_caption_has_no_value_and_is_dealt_to_none():
    truth = np.array([["a dog runs in a field", ""], ["", " "], ["a cat sits on the mat", ""]], object)
    values = metric("bleu_4").per_stimulus(truth[:, 0], truth)
    np.testing.assert_array_equal(values, [1.0, np.nan, 1.0])
    np.testing.assert_array_equal(metric("bleu_4").defined(truth), [True, False, True])
    assert metric("bleu_4").chance_of(truth) == metric("bleu_4").chance_of(truth[[0, 2]])
