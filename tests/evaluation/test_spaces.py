"""Skipped metrics: one line for each reason, with what was needed and what was found."""

import numpy as np

from evaluation.statistics.spaces import NEEDS_OF_A_FOLDER, why_skipped


def test_each_reason_is_one_line_with_what_is_needed_and_found() -> None:
    clips = np.zeros((12, 1, 6, 8, 3), np.uint8)
    truth = {"pixels": clips, "pixels_centred": clips.astype(np.float32), "video_classes": np.zeros((12, 4))}
    metrics = (
        *("two_way", "ssim", "epe", "retrieval_10", "retrieval_50", "top_1_of_50", "clip_frames.similarity", "bleu_4"),
        *("two_way_within_class", "latents.two_way", "top_1_of_2"),
    )
    scored = ("pixels.two_way", "pixels_centred.retrieval_10")
    assert why_skipped(metrics, scored, truth, NEEDS_OF_A_FOLDER) == [
        "skipped ssim: needs frames of 7 pixels a side, found 6",
        "skipped epe: needs 2 frames a clip, found 1",
        "skipped retrieval_50: needs 50 stimuli, found 12",
        "skipped top_1_of_50: needs 50 classes, found 4",
        "skipped clip_frames.similarity: needs a CLIP model (--clip)",
        "skipped bleu_4: needs captions, decoded and seen (--captions)",
        "skipped two_way_within_class: needs classes of stimuli, which a folder does not have",
        "skipped latents.two_way: needs the space 'latents'",
        "skipped top_1_of_2: needs a classifier (--video-classifier, --frame-classifier or --judge)",
        "skipped epe_512, epe_512_luma: computed only where it is named",
    ]
