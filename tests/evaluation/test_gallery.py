"""The page: well-formed, escaped, self-contained, and sorted by a browser where one is installed."""

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from evaluation.chart import panels
from evaluation.gallery import GalleryItem, render_gallery, write_gallery
from evaluation.scores import report, score_rows

VOID = {"meta", "link", "img", "br", "input"}
NASTY = "<script>alert(1)</script> & \"quotes\" 'too'"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Notes every element, and fails on a tag that closes what is not open."""

    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
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
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


@pytest.fixture(scope="module")
def whole():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, size=(4, 2, 8, 8, 3), dtype=np.uint8)
    rows = {"reconstruction": {"pixels": truth ^ 31}, "oracle": {"pixels": truth}, "mean_predictor": {}}
    scored = score_rows(rows, {"pixels": truth}, metrics=["two_way", "ssim", "psnr"], seed=0)
    return report("demo", "run-1", 4, scored, commit="3f2a91c", models={"encoder": NASTY})


@pytest.fixture
def items():
    scores = [0.25, float("nan"), 1.0, 0.5]
    return [
        GalleryItem(f"clip-{k}", f"seen/{k:04d}.mp4", f"videos/{k:04d}.mp4", NASTY, None, {"pixels.two_way": score})
        for k, score in enumerate(scores)
    ]


def render(whole, items):
    return render_gallery(title=NASTY, verdict="It works.", report=whole, items=items)


def test_the_page_is_well_formed_and_every_text_is_escaped(whole, items):
    html = render(whole, items)
    page = Page(html)
    assert len(page.all("script")) == 1
    assert "<script>alert" not in html
    assert "".join(page.text).count(NASTY) >= 1 + len(items)
    assert "It works." in "".join(page.text)


def test_the_page_needs_nothing_from_outside(whole, items):
    html = render(whole, items)
    page = Page(html)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html.replace("// ", ""))
    assert [video["src"] for video in page.all("video")][:2] == ["seen/0000.mp4", "videos/0000.mp4"]
    for video in page.all("video"):
        assert {"muted", "loop", "autoplay", "playsinline"} <= video.keys()


def test_stills_are_images(whole):
    item = GalleryItem("still", "seen/a.PNG", "data:image/png;base64,AAAA", None, "a cup")
    page = Page(render(whole, [item]))
    assert [image["src"] for image in page.all("img")] == ["seen/a.PNG", "data:image/png;base64,AAAA"]
    assert page.all("video") == []


def test_a_report_without_rows_or_clips_is_still_a_page(items):
    Page(render(report("s", "r", 0, {}), []))
    Page(render(report("s", "r", 4, {}), items))


def test_the_table_holds_values_intervals_and_gaps(whole):
    text = re.sub(r"<[^>]+>|\s+", " ", render(whole, []))
    low, high = (f"{bound:.1f}" for bound in whole["rows"]["reconstruction"]["frames.psnr"]["ci95"])
    assert f"{low} to {high}" in text
    assert re.search(r"frames, PSNR \(dB\) +[\d.]+ +[\d.]+ to [\d.]+ +– +58\.9 ", text)


def test_the_page_is_written_as_utf8(tmp_path, whole, items):
    path = tmp_path / "run" / "gallery.html"
    write_gallery(path, title="Öl", verdict="v", report=whole, items=items)
    assert "<h1>Öl</h1>" in path.read_text(encoding="utf-8")


def test_panels_show_all_rows_within_the_axis(whole):
    drawn = {panel.name: panel for panel in panels(whole["rows"])}
    assert list(drawn) == ["pixels.two_way", "frames.ssim", "frames.psnr"]
    for panel in drawn.values():
        assert [mark.row for mark in panel.marks] == ["reconstruction", "oracle"]
        assert all(112 <= x <= 288 for mark in panel.marks for x in (mark.x, mark.low, mark.high))
    assert drawn["pixels.two_way"].chance_text == ".50"
    assert drawn["frames.psnr"].chance is None


def test_a_panel_without_values_can_be_drawn():
    nothing = {"value": None, "ci95": [None, None], "chance": None, "higher_is_better": False}
    panel = panels({"reconstruction": {"x.new": nothing}})[0]
    assert (panel.marks[0].x, panel.marks[0].text, panel.lower_is_better) == (None, "–", True)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to run the page's script")
@pytest.mark.parametrize(("clicks", "order"), [("", "2 3 0 1"), ("turn.click();", "0 3 2 1")])
def test_a_browser_sorts_the_clips(tmp_path, whole, items, clicks, order):
    script = f"sort.value = '0'; sort.dispatchEvent(new Event('change')); {clicks}"
    html = render(whole, items).replace("</body>", f"<script>{script}</script></body>")
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'user'}"]
    dumped = subprocess.run(
        [str(CHROMIUM), *flags, "--dump-dom", (tmp_path / "page.html").as_uri()],
        env={**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        timeout=120,
        check=True,
    ).stdout.decode()
    assert re.findall(r"\d · clip-(\d)", dumped) == order.split()
    assert ("worst first" if clicks else "best first") in dumped
