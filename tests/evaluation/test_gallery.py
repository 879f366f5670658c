"""The page: well-formed, escaped, self-contained, the same for the same inputs; what it says of gaps and of doubts."""

import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from core.clips import read_frames
from evaluation.report.gallery.cards import LONGER_SIDE, marked_words, preview
from evaluation.report.gallery.page import GalleryFigure, GalleryItem, doubts, render_gallery
from evaluation.report.gallery.panels import MARKERS, by_space, first_metrics, marker, panels
from evaluation.report.wording import FOLDED, ROW_MEANINGS, row_label, row_meaning
from evaluation.statistics.scores import REFERENCES, ROWS, per_stimulus, report, summarise

VOID = {"meta", "link", "img", "br", "input"}
NASTY = "<script>alert(1)</script> & \"quotes\" 'too'"


class Page(HTMLParser):
    """Notes every element, and fails on a tag that closes what is not open."""

    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.text, self.media = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.media += [data] if self.seen[-1][1].get("type") == "application/json" else []
        else:
            self.text.append(data)

    def all(self, tag, **wanted):
        found = [attributes for name, attributes in self.seen if name == tag]
        return [one for one in found if wanted.items() <= one.items()]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def clip(seed, frames=4, height=8, width=8):
    return np.random.default_rng(seed).integers(0, 256, size=(frames, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def whole():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, size=(4, 2, 8, 8, 3), dtype=np.uint8)
    rows = {"reconstruction": {"pixels": truth ^ 31}, "oracle": {"pixels": truth}, "mean_predictor": {}}
    scored = summarise(per_stimulus(rows, {"pixels": truth}, metrics=["two_way", "ssim", "psnr"]))
    return report("demo", "run-1", 4, scored, commit="3f2a91c", models={"encoder": NASTY})


@pytest.fixture
def items():
    scores = [0.25, float("nan"), 1.0, 0.5]
    return [
        GalleryItem(
            f"{NASTY}-{k}",
            clip(k),
            clip(9 + k),
            f"seen/{k:04d}.mp4",
            f"videos/{k:04d}.mp4",
            NASTY,
            f"{NASTY} more",
            {"pixels.two_way": score},
            {NASTY: NASTY},
        )
        for k, score in enumerate(scores)
    ]


def render(whole, items, **more):
    return render_gallery(
        **{"title": NASTY, "verdict": "It works.", "report": whole, "items": items, "fps": 4.0} | more
    )


def picture(width=40, height=20):
    buffer = BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_page_is_well_formed_and_every_text_is_escaped(whole, items):
    doubtful = {
        "notes": [NASTY],
        "diagnoses": {"leaks": {"captions": {"count": 1, "examples": [NASTY]}}, "dimension": {NASTY: {}}},
    }
    html = render({**whole, **doubtful}, items, figures=[GalleryFigure(NASTY, picture(), NASTY, NASTY)])
    page = Page(html)
    assert len(page.all("script")) == 2 + len(items)
    assert "<script>alert" not in html
    assert "".join(page.text).count(NASTY) >= 1 + 4 * len(items)
    assert "It works." in page.words


def test_the_page_needs_nothing_from_outside(whole, items):
    html = render(whole, items, figures=[GalleryFigure("A chart", picture(), "A line that rises.")])
    page = Page(html)
    assert not re.search(
        r"https?:|url\(|@import|src=\"(?!data:)|srcset|<(link|iframe|object)(?! rel=\"icon\" href=\"data:)", html
    )
    links = {link["href"] for link in page.all("a") if not link["href"].startswith("#")}
    assert links == {f"{folder}/{k:04d}.mp4" for folder in ("seen", "videos") for k in range(4)}
    assert all(
        page.all(tag, id=link["href"][1:]) for link in page.all("a") if link["href"] == "#clips" for tag in ["h2"]
    )


def test_a_link_leads_to_the_file_whatever_its_name(whole):
    item = GalleryItem("a", clip(1), clip(2), "seen/a #1 50%.mp4", "javascript:alert(1)")
    links = [link["href"] for link in Page(render(whole, [item])).all("a")]
    assert {"seen/a%20%231%2050%25.mp4", "javascript%3Aalert%281%29"} <= set(links)


def test_the_same_inputs_give_the_same_bytes(whole, items):
    assert render(whole, items) == render(whole, items)


def test_every_clip_has_a_still_of_its_size_and_a_video_that_is_no_element_yet(whole, tmp_path):
    item = GalleryItem("a", clip(1, 6, 20, 36), clip(2, 6, 20, 36))
    page = Page(render(whole, [item]))
    assert page.all("video") == []
    stills = page.all("img")
    assert [(one["width"], one["height"], one["alt"]) for one in stills] == [
        ("36", "20", "Seen: a"),
        ("36", "20", "Reconstructed: a"),
    ]
    with Image.open(BytesIO(base64.b64decode(stills[0]["src"].partition(",")[2]))) as still:
        np.testing.assert_array_equal(np.asarray(still.convert("RGB")), item.seen[3])
    media = json.loads(page.media[0])
    (tmp_path / "seen.mp4").write_bytes(base64.b64decode(media[0]))
    frames = list(read_frames(tmp_path / "seen.mp4"))
    assert (len(frames), frames[0].shape) == (6, (80, 144, 3))
    assert np.abs(frames[2][::4, ::4].astype(int) - item.seen[2]).mean() < 12


def test_a_clip_in_which_nothing_moves_is_an_image(whole):
    still = clip(1, 1, 28, 28)
    page = Page(render(whole, [GalleryItem("a cup", still, still.repeat(5, axis=0))]))
    assert len(page.all("img")) == 2
    assert page.media == []
    assert "Play clip" not in render(whole, [GalleryItem("a cup", still, still)])
    half = Page(render(whole, [GalleryItem("a cup", still, clip(2, 3, 28, 28))]))
    assert [video is None for video in json.loads(half.media[0])] == [True, False]


def test_a_large_clip_is_reduced_by_area_and_keeps_its_proportions(tmp_path):
    board = np.zeros((2, 320, 576, 3), dtype=np.uint8)
    board[:, ::2, ::2] = 255
    board[:, 1::2, 1::2] = 255
    board[1] //= 2
    made = preview(board, 8.0)
    assert (made.width, made.height, made.crisp) == (576, 320, False)
    with Image.open(BytesIO(base64.b64decode(made.poster.partition(",")[2]))) as still:
        assert still.size == (LONGER_SIDE, 106)
        assert np.asarray(still.convert("RGB"))[10:-10, 10:-10].std() < 12, "grey, not a pattern that is not there"
    assert preview(clip(1, 1, 32, 32), 8.0).crisp


@pytest.mark.parametrize("wrong", [np.zeros((2, 8, 8, 3)), clip(1)[0], clip(1)[..., :1], clip(1)[:0]])
def test_what_is_no_clip_is_refused(wrong):
    with pytest.raises(ValueError, match=r"gallery: found .*; expected uint8 \(frame, height, width, 3\)"):
        preview(wrong, 4.0)


def test_a_hundred_small_clips_make_a_small_page(whole):
    moving = np.zeros((102, 8, 32, 32, 3), dtype=np.uint8)
    for k in range(102):
        for frame in range(8):
            moving[k, frame, 4 + frame : 20 + frame, k % 12 : k % 12 + 16] = (k, 255 - k, 90)
    items = [GalleryItem(f"{k}", one, one[::-1], None, None, "a square", "a square") for k, one in enumerate(moving)]
    html = render(whole, items)
    assert len(html) < 2_500_000
    assert len(Page(html).media) == 102


def test_right_words_are_marked_each_as_often_as_it_is_there():
    words = marked_words("A dog, a DOG and a cat — don't", "the dog. A cat DON’T see a bird")
    assert [(word.text, word.right) for word in words] == [
        *[("A", True), ("dog,", True), ("a", True), ("DOG", False), ("and", False), ("a", False), ("cat", True)],
        *[("—", False), ("don't", True)],
    ]


def test_marks_are_said_as_well_as_shown(whole):
    one = GalleryItem("x", clip(1), clip(2), true_caption="a red ball", decoded_caption="A red, red box!")
    page = Page(render(whole, [one]))
    assert len(page.all("span", **{"class": "right"})) == 2 + 1  # and one in the legend
    assert "2 of 4 words right" in page.words
    assert "Right words: A, red,. Other words: red, box!." in page.words
    alone = Page(render(whole, [GalleryItem("x", clip(1), clip(2), decoded_caption="a box")]))
    assert "words right" not in alone.words
    assert "a box" in alone.words


def test_what_has_no_score_is_called_missing(whole, items):
    page = Page(render(whole, items))
    cards = page.all("li", **{"class": "clip"})
    assert [card["data-scores"] for card in cards] == ["[0.25]", "[null]", "[1.0]", "[0.5]"]
    assert page.words.count("– missing") == 1
    more = [items[0], GalleryItem("other", clip(3), clip(4), scores={"frames.psnr": float("inf")})]
    cards = Page(render(whole, more)).all("li", **{"class": "clip"})
    assert [card["data-scores"] for card in cards] == ["[0.25, null]", "[null, null]"]


def test_a_score_of_an_unknown_metric_can_be_sorted_by(whole):
    item = GalleryItem("x", clip(1), clip(2), scores={"pixels.two_way": 1.0, "z.loss": 3.0})
    options = [option for option in Page(render(whole, [item])).all("option") if "data-higher" in option]
    assert [(option["value"], option["data-higher"]) for option in options] == [("0", "1"), ("1", "1")]


def test_a_report_without_rows_or_clips_is_still_a_page(items):
    Page(render(report("s", "r", 0, {}), []))
    Page(render(report("s", "r", 4, {}), items))
    assert "Can it be believed?" not in Page(render(report("s", "r", 0, {}, diagnoses={}, notes=[]), [])).words


def compared_by(value, ci95, p_adjusted, *, higher=True):
    return {"value": value, "ci95": ci95, "p": p_adjusted / 3, "p_adjusted": p_adjusted, "higher_is_better": higher}


def test_the_table_holds_values_intervals_gaps_and_p_values(whole):
    compared = {"oracle": {"frames.psnr": compared_by(-1.0, [-2.0, -0.5], 0.0123)}}
    page = Page(render({**whole, "comparisons": compared}, []))
    low, high = (f"{bound:.1f}" for bound in whole["rows"]["reconstruction"]["frames.psnr"]["ci95"])
    table = page.words.partition("The same as a table")[2]
    row = rf"frames, PSNR \(dB\) [\d.]+ {low} to {high} – 58\.9 [\d.]+ to [\d.]+ "
    assert re.search(row + r"worse, p = \.012 ", table)
    described = [svg["aria-label"] for svg in page.all("svg", role="img")]
    assert any("oracle 58.9 (reconstruction worse, adjusted p = .012)" in one for one in described)


def test_the_page_says_that_it_is_utf8(whole, items):
    page = render_gallery(title="Öl", verdict="v", report=whole, items=items, fps=4.0)
    assert "<h1>Öl</h1>" in page
    assert 'charset="utf-8"' in page[: page.index("Öl")]


def test_every_row_has_a_shape_of_its_own_and_is_explained(whole):
    assert set(MARKERS) >= set(REFERENCES)
    assert set(MARKERS) | {"reconstruction"} == set(ROW_MEANINGS)
    assert len({marker(row) for row in ROW_MEANINGS}) == len(ROW_MEANINGS)
    entry = {"value": 0.5, "ci95": [0.4, 0.6], "chance": 0.5, "higher_is_better": True}
    rows = {row: {"pixels.two_way": entry} for row in ROWS}
    page = Page(render({**whole, "rows": rows, "permutations": 20}, []))
    for row in ROWS:
        assert f"{row_label(row)} {' '.join(row_meaning(row).split()[:4])}" in page.words
    assert "averaged over 20 permutations" in page.words


def test_panels_show_all_rows_within_the_axis(whole):
    drawn = {panel.name: panel for panel in panels(whole["rows"])}
    assert list(drawn) == ["pixels.two_way", "frames.ssim", "frames.psnr"]
    for panel in drawn.values():
        assert [mark.row for mark in panel.marks] == ["reconstruction", "oracle"]
        assert [mark.main for mark in panel.marks] == [True, False]
        assert all(132 <= x <= 254 for mark in panel.marks for x in (mark.x, mark.low, mark.high))
    assert drawn["pixels.two_way"].chance_text == ".50"
    assert drawn["frames.psnr"].chance is None


def test_p_values_stand_beside_the_controls_that_have_one():
    entry = {"value": 0.5, "ci95": [0.4, 0.6], "chance": 0.5, "higher_is_better": True}
    rows = {row: {"pixels.two_way": entry} for row in ("reconstruction", "prior", "shuffled_brain", "mean_predictor")}
    ps = {"prior": 0.0002, "shuffled_brain": 0.31, "mean_predictor": None}
    panel = panels(rows, {row: {"pixels.two_way": {"p": p}} for row, p in ps.items()})[0]
    assert [(mark.row, mark.p_text) for mark in panel.marks] == [
        *[("reconstruction", ""), ("prior", "<.001"), ("mean_predictor", ""), ("shuffled_brain", ".31")]
    ]
    assert panel.tested
    assert not panels(rows)[0].tested


def test_the_adjusted_p_is_shown_with_its_direction():
    entry = {"value": 0.5, "ci95": [0.4, 0.6], "chance": 0.5, "higher_is_better": True}
    rows = {row: {"pixels.two_way": entry} for row in ("reconstruction", "prior", "shuffled_brain", "oracle")}
    tested = {
        "prior": compared_by(0.1, [0.05, 0.15], 0.012),
        "shuffled_brain": compared_by(0.1, [-0.05, 0.15], 0.31),
        "oracle": compared_by(-0.1, [-0.15, -0.05], 0.0003),
    }
    panel = panels(rows, {row: {"pixels.two_way": one} for row, one in tested.items()})[0]
    assert {mark.row: mark.p_text for mark in panel.marks} == {
        "reconstruction": "", "prior": ".012", "shuffled_brain": ".31", "oracle": "<.001↓",
    }  # fmt: skip
    assert "prior .50 (reconstruction better, adjusted p = .012)" in panel.described
    assert "shuffled brain .50 (no difference shown, adjusted p = .31)" in panel.described
    assert "oracle .50 (reconstruction worse, adjusted p < .001)" in panel.described


def test_many_rows_are_grouped_and_the_secondary_ones_folded(whole):
    entry = {"value": 0.5, "ci95": [0.4, 0.6], "chance": 0.5, "higher_is_better": True}
    rows = {row: {"pixels.two_way": entry} for row in ROW_MEANINGS}
    open_, clear = compared_by(0.0, [-0.1, 0.1], 1.0), compared_by(0.2, [0.1, 0.3], 0.01)
    tested = {row: {"pixels.two_way": open_ if row == "z_only" else clear} for row in rows if row != "reconstruction"}
    report = {**whole, "rows": rows, "comparisons": tested, "intervals": "Intervals are Student's t over clips."}
    page = Page(render(report, []))
    heads = page.all("th", scope="colgroup")
    assert [int(head["colspan"]) for head in heads] == [1, 6, 2, 1, len(FOLDED)]
    title = f"{len(FOLDED)} more controls (reconstruction not shown to be above: z alone)"
    first, found, more = page.words.partition(title)
    assert found
    assert "caption alone" not in first
    assert all(row_label(row) in more for row in FOLDED)
    assert all(row_label(row) in first for row in ROW_MEANINGS if row not in FOLDED)
    drawn = {mark.row for panel in panels(rows, tested) for mark in panel.marks}
    assert drawn == set(ROW_MEANINGS) - set(FOLDED)
    assert f"{len(tested)} paired tests against {len(tested)} rows; p is adjusted over the metrics" in page.words
    assert "Means over the test clips. Intervals are Student's t over clips. The" in page.words


def test_centred_is_explained_where_a_space_is(whole):
    entry = {"value": 0.5, "ci95": [0.4, 0.6], "chance": 0.0, "higher_is_better": True}
    rows = {"reconstruction": {"latents_centred.r2": entry}}
    assert "Centred: less the training mean" in Page(render({**whole, "rows": rows}, [])).words
    assert "Centred" not in Page(render(whole, [])).words


def test_trials_that_are_near_in_time_are_reported(whole):
    time = {"count": 40, "of": 48, "within_s": 8.0, "dense": True, "allowed": True, "note": f"40 of 48 {NASTY}"}
    page = Page(render({**whole, "diagnoses": {"time": time}}, []))
    assert f"40 of 48 {NASTY}. The study allows this." in page.words
    assert len(page.all("span", **{"class": "found"})) == 1
    far = {**time, "count": 0, "dense": False, "allowed": False, "note": ""}
    page = Page(render({**whole, "diagnoses": {"time": far}}, []))
    assert "0 of 48 test trials lie within 8 s of a training trial of the same run or movie." in page.words
    assert page.all("span", **{"class": "found"}) == []
    unknown = doubts({"diagnoses": {"time": {**far, "count": None, "note": "onsets are not known"}}}, [])["time"]
    assert (unknown["found"], unknown["text"], unknown["grade"].word) == (False, "Onsets are not known.", "unknown")


def test_an_axis_ends_at_1_where_a_bound_is_1_but_for_rounding():
    entry = {"value": 0.99, "ci95": [0.9, 1.0 + 1e-12], "chance": 0.5, "higher_is_better": True}
    assert panels({"reconstruction": {"pixels.two_way": entry}})[0].ends[1] == "1.00"


def test_a_panel_without_values_can_be_drawn(whole):
    nothing = {"value": None, "ci95": [None, None], "chance": None, "higher_is_better": False}
    panel = panels({"reconstruction": {"x.new": nothing}})[0]
    assert (panel.marks[0].x, panel.marks[0].text, panel.lower_is_better) == (None, "–", True)
    assert "lower is better" in Page(render({**whole, "rows": {"reconstruction": {"x.new": nothing}}}, [])).words


def test_a_long_name_is_cut_in_the_chart_alone(whole):
    entry = {"value": 0.5, "ci95": [0.4, 0.6], "chance": None, "higher_is_better": True}
    words = Page(render({**whole, "rows": {"a_route_whose_name_is_long": {"pixels.ssim": entry}}}, [])).words
    assert "a route whose name is…" in words
    assert "a route whose name is long another model" in words


def test_one_metric_of_each_telling_space_is_shown_first_and_the_rest_by_space():
    names = ["pixels.two_way", "pixels.correlation", "frames.ssim", "frames.psnr", "latents.two_way"]
    names += [
        "latents_centred.r2",
        "clip.two_way",
        "blip.two_way",
        "captions.bleu_4",
        "caption_attributes.all_attributes",
    ]
    names += ["video_attributes.all_attributes", "video_classes.top_1_of_50"]
    chosen = first_metrics({"reconstruction": {name: {} for name in names}})
    assert chosen == [
        *("pixels.two_way", "frames.ssim", "latents.two_way", "clip.two_way", "video_attributes.all_attributes"),
        "video_classes.top_1_of_50",
    ]
    assert first_metrics({}) == []
    assert first_metrics({"reconstruction": {"z_centred.r2": {}}}) == ["z_centred.r2"]
    assert by_space(["latents.two_way", "latents_centred.r2", "frames.psnr", "loss"]) == [
        *[("Latents", ["latents.two_way", "latents_centred.r2"]), ("Frames", ["frames.psnr"]), ("Others", ["loss"])]
    ]


DIAGNOSES = {
    "dimension": {
        "latents": {"prediction": 11.2, "target": 20.9, "ratio": 0.54, "components_90": [12, 25], "n": 48},
        "clip": {"prediction": None, "target": None, "ratio": None, "components_90": [None, None], "n": 2},
    },
    "distance": {
        "space": "latents_centred",
        "metrics": {
            name: {
                "parts": [
                    {"name": part, "n": 16, "distance": [0.1, 0.2], "value": 0.9, "ci95": [0.8, 0.95], "chance": chance}
                    for part in ("near", "middle", "far")
                ],
                "rank_correlation": {"value": -0.4, "ci95": [-0.6, -0.1]},
            }
            for name, chance in (("pixels.two_way", 0.5), ("frames.psnr", None))
        },
    },
    "leaks": {
        "stimuli": {"count": 0, "examples": []},
        "clips": {
            **{"count": 1, "threshold": 0.2, "nearest": 0.12},
            "examples": [{"test": "0401", "train": "0007", "distance": 0.12}],
        },
        "captions": {"count": 2, "examples": ["a dog runs"]},
    },
}


def test_doubts_are_put_in_plain_words(whole):
    words = Page(render({**whole, "diagnoses": DIAGNOSES}, [])).words
    assert "latents 11.2 20.9 .54 12 / 25 48" in words
    assert "CLIP – – – – / – 2" in words
    assert "centred latents" in words
    assert re.search(r"near \.10 to \.20, 16 clips", words)
    assert re.search(
        r"pixels, two-way identification (\.90 \.80 to \.95 ){3}\.50 −\.40 −\.60 to −\.10 worse the farther", words
    )
    assert "No test stimulus has the name of a training stimulus." in words
    assert "1 test clip is as good as a training clip in another file (up to .20 apart): look at the pairs." in words
    assert "0401 ~ 0007 (.12 apart)" in words
    captions = "2 test clips share a caption with a training clip: scores of captions are partly recall."
    assert f"{captions} doubtful (doubtful from one on) “a dog runs”" in words
    assert "No test stimulus has the name of a training stimulus. fine (bad from one on)" in words
    assert "A ratio is fine from 0.3, bad below 0.1." in words


def test_scores_by_distance_begin_with_the_telling_ones():
    found = doubts({"diagnoses": DIAGNOSES}, ["pixels.two_way"])["distance"]
    assert [row["label"] for row in found["rows"]] == ["pixels, two-way identification"]
    assert [row["label"] for row in found["more"]] == ["frames, PSNR (dB)"]
    assert found["more"][0]["chance"] == "–"
    assert len(doubts({"diagnoses": DIAGNOSES}, [])["distance"]["rows"]) == 2


def test_what_was_not_looked_into_is_left_out(whole):
    for key in DIAGNOSES:
        Page(render({**whole, "diagnoses": {key: DIAGNOSES[key]}}, []))
    assert doubts({}, []) == {"worst": None, "dimension": [], "distance": None, "leaks": [], "time": None}
    nothing = {"clips": {"count": 0, "threshold": 0.2, "nearest": None, "examples": []}}
    said = doubts({"diagnoses": {"leaks": nothing}}, [])["leaks"]
    assert "there were no clips to compare" in said[0]["text"]


def test_figures_are_within_the_page(whole):
    page = Page(render(whole, [], figures=[GalleryFigure("Recall?", picture(40, 20), "Two curves.", "See the text.")]))
    image = page.all("img")[0]
    assert (image["alt"], image["width"], image["height"]) == ("Two curves.", "40", "20")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == picture(40, 20)
    assert "See the text." in page.words
