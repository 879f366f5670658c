"""The gallery in a real browser: watched, sorted, filtered, walked by keyboard, measured; pictures of it are kept.

The pictures lie in `.state/screenshots/gallery/` of the checkout: look at them.
"""

import html
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from evaluation.report.gallery.page import render_gallery

from ..servers import CHECKOUT
from .gallery_content import LAST, MISSING, N, content

PICTURES = CHECKOUT / ".state" / "screenshots" / "gallery"


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    return content()


@pytest.fixture(scope="module")
def address(whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the page and nothing else."""
    path = tmp_path_factory.mktemp("gallery") / "gallery.html"
    path.write_text(render_gallery(**whole), encoding="utf-8")
    shutil.copy(path, PICTURES / "gallery.html")
    return path.as_uri()


@contextmanager
def opened(browser: Browser, address: str, **settings: Any) -> Iterator[Page]:
    """Open the page; whatever goes wrong on it fails the test."""
    context = browser.new_context(viewport=settings.pop("viewport", {"width": 1280, "height": 900}), **settings)
    wrong: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"{request.url[:80]}: {request.failure}"))
    page.add_init_script(
        """window.shifts = [];
        new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((entry) => entry.value)))
            .observe({type: "layout-shift", buffered: true});"""
    )
    page.goto(address)
    yield page
    context.close()
    # A video that leaves the screen while it is still read is a request that was given up, and no fault.
    assert [line for line in wrong if not (line.startswith("blob:") and "ERR_ABORTED" in line)] == []


def numbers(page: Page) -> list[int]:
    """The clips that are shown, by their numbers in test order."""
    found: list[int] = page.evaluate(
        "[...document.querySelectorAll('.clip')].filter((one) => !one.hidden).map((one) => Number(one.id.slice(5)))"
    )
    return found


def scroll_through(page: Page) -> None:
    height = page.evaluate("document.documentElement.scrollHeight")
    for top in range(0, height, 700):
        page.evaluate("(top) => window.scrollTo(0, top)", top)
        page.wait_for_timeout(40)


def expected(whole: dict[str, Any], name: str, *, best_first: bool = True) -> list[int]:
    scores = [item.scores[name] for item in whole["items"]]
    known = [k for k in range(N) if np.isfinite(scores[k])]
    known.sort(key=lambda k: (-scores[k] if best_first else scores[k], k))
    return [k + 1 for k in known] + [k + 1 for k in range(N) if not np.isfinite(scores[k])]


def choose(page: Page, label: str) -> None:
    page.get_by_label("Sort by").select_option(label=label)


def test_it_opens_from_a_file_and_nothing_shifts(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        expect(page.locator(".clip")).to_have_count(N)
        expect(page.locator("#status")).to_have_text(f"{N} clips in test order.")
        page.screenshot(path=PICTURES / "top.png")
        scroll_through(page)
        assert sum(page.evaluate("window.shifts")) < 0.02
        page.evaluate("document.getElementById('belief').scrollIntoView()")
        page.screenshot(path=PICTURES / "belief.png")
        page.evaluate("document.getElementById('clips').scrollIntoView()")
        page.wait_for_timeout(300)
        page.screenshot(path=PICTURES / "clips.png")


FIRST = {"laptop": ({"width": 1280, "height": 800}, 3, "bottom"), "phone": ({"width": 390, "height": 844}, 1, "top")}
"""A screen, how many clips are on it, and by which edge: a laptop's are whole, a phone's begins."""


@pytest.mark.parametrize("screen", FIRST)
def test_the_first_clips_are_on_the_first_screen_and_the_scores_come_after(
    browser: Browser, address: str, screen: str
) -> None:
    viewport, count, edge = FIRST[screen]
    edges = """(edge) => [...document.querySelectorAll('.clip .pair .screen')]
        .map((one) => one.getBoundingClientRect()[edge])"""
    with opened(browser, address, viewport=viewport) as page:
        assert all(place < viewport["height"] for place in page.evaluate(edges, edge)[: 2 * count])
        page.screenshot(path=PICTURES / f"first-{screen}.png")
        ends = (
            "['verdict', 'clips', 'scores', 'belief'].map((name) => (document.getElementById(name) "
            "|| document.querySelector('.' + name)).getBoundingClientRect().top)"
        )
        assert page.evaluate(ends) == sorted(page.evaluate(ends))


def test_pairs_play_in_step_and_only_near_the_screen(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}#clip-50") as page:
        page.wait_for_function("document.querySelectorAll('#clip-50 video.live').length === 2")
        for wait_ms in (1000, 2600):  # within the first round, and in the second
            page.wait_for_timeout(wait_ms)
            times = page.evaluate("[...document.querySelectorAll('#clip-50 video')].map((one) => one.currentTime)")
            assert abs(times[0] - times[1]) < 0.15, times
        assert page.evaluate("document.querySelectorAll('#clip-50 video')[0].paused") is False
        far = """[...document.querySelectorAll('video')].filter((one) => {
            const {top, bottom} = one.getBoundingClientRect();
            return one.src && (bottom < -700 || top > innerHeight + 700); }).length"""
        assert 0 < page.locator("video").count() <= 40
        assert page.evaluate(far) == 0
        scroll_through(page)
        page.wait_for_timeout(300)
        assert page.evaluate(far) == 0
        assert page.locator("#clip-50 video").count() == 0
        assert page.locator("#clip-50 img").count() == 2


def test_play_and_pause(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}#clip-10") as page:
        playing = (
            "document.querySelectorAll('#clip-10 video').length && [...document.querySelectorAll('#clip-10 video')]"
        )
        page.wait_for_function(f"{playing}.every((one) => !one.paused)")
        page.get_by_role("button", name="Pause all").click()
        page.wait_for_function(f"{playing}.every((one) => one.paused)")
        page.get_by_role("button", name="Play clip 10", exact=True).click()
        page.wait_for_function(f"{playing}.every((one) => !one.paused)")
        assert page.evaluate("[...document.querySelectorAll('#clip-11 video')].every((one) => one.paused)")
        page.get_by_role("button", name="Play all").click()
        page.wait_for_function("[...document.querySelectorAll('#clip-11 video')].every((one) => !one.paused)")


def test_nothing_moves_by_itself_where_that_is_unwanted(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}#clip-1", reduced_motion="reduce") as page:
        page.wait_for_function("document.querySelectorAll('#clip-1 video').length === 2")
        page.wait_for_timeout(500)
        assert page.evaluate("[...document.querySelectorAll('video')].every((one) => one.paused)")
        assert page.locator("video.live").count() == 0
        page.get_by_role("button", name="Play clip 1", exact=True).click()
        page.wait_for_function("document.querySelectorAll('video.live').length === 2")


def test_sorting(browser: Browser, address: str, whole: dict[str, Any]) -> None:
    with opened(browser, f"{address}#clips") as page:
        choose(page, "frames PSNR")
        assert numbers(page) == expected(whole, "frames.psnr")
        expect(page.locator("#status")).to_have_text(f"{N} clips by frames PSNR, best first.")
        page.get_by_role("combobox", name="Order").select_option("worst")
        assert numbers(page) == expected(whole, "frames.psnr", best_first=False)
        first = page.locator(".clip").first
        expect(first.locator(".chosen")).to_contain_text("frames PSNR")
        choose(page, "captions METEOR")
        assert numbers(page) == expected(whole, LAST, best_first=False)
        assert numbers(page)[-3:] == [k + 1 for k in MISSING]
        expect(page.locator("#status")).to_contain_text("3 clips have no value of this score")
        expect(page.locator(f"#clip-{MISSING[0] + 1} .chosen")).to_contain_text("missing")
        choose(page, "test order")
        assert numbers(page) == list(range(1, N + 1))
        page.wait_for_function("[...document.querySelectorAll('#clip-1 video')].some((one) => !one.paused)")


def test_best_median_and_worst(browser: Browser, address: str, whole: dict[str, Any]) -> None:
    with opened(browser, f"{address}#clips") as page:
        choose(page, "captions METEOR")
        page.get_by_role("button", name="Best, median and worst").click()
        order = expected(whole, LAST)[: N - len(MISSING)]
        assert numbers(page) == [order[0], order[(len(order) - 1) // 2], order[-1]]
        assert page.locator(".clip:not([hidden]) .chosen b").all_text_contents() == ["best", "median", "worst"]
        expect(page.locator("#status")).to_contain_text("3 clips have no value of this score")
        page.wait_for_timeout(600)
        page.screenshot(path=PICTURES / "best-median-worst.png")
        page.get_by_role("button", name="Back to all clips").click()
        assert len(numbers(page)) == N


def test_filtering(browser: Browser, address: str, whole: dict[str, Any]) -> None:
    with opened(browser, f"{address}#clips") as page:
        page.get_by_label("Filter").fill("Blue, circle")
        matching = [
            k + 1
            for k, item in enumerate(whole["items"])
            if all(word in f"{item.true_caption} {item.decoded_caption}" for word in ("blue", "circle"))
        ]
        assert 0 < len(matching) < N
        assert numbers(page) == matching
        expect(page.locator("#status")).to_have_text(f"{len(matching)} of {N} clips match “blue circle”; test order.")
        page.get_by_label("Filter").fill("circ")
        assert len(numbers(page)) > len(matching), "the beginning of a word is enough"
        page.get_by_label("Filter").fill("0407")
        assert numbers(page) == [7]
        page.get_by_label("Filter").fill("zebra")
        expect(page.locator("#status")).to_contain_text(f"0 of {N} clips match")
        page.get_by_role("button", name="Best, median and worst").click()
        page.get_by_label("Filter").fill("")
        assert len(numbers(page)) == 3


def test_the_keyboard_is_enough(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        focused = "document.activeElement.id || document.activeElement.closest('.clip')?.id"
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="To the clips")).to_be_focused()
        page.keyboard.press("Enter")
        assert page.evaluate(focused) == "clips"
        met = []
        for _ in range(12):
            page.keyboard.press("Tab")
            met.append(page.evaluate(focused))
        assert met[:5] == ["sort", "filter", "three", "play", "clip-1"]
        assert "clip-2" in met
        page.locator("#clip-1").focus()
        for key, reached in (
            ("ArrowRight", 2),
            ("ArrowDown", 5),
            ("ArrowLeft", 4),
            ("ArrowUp", 1),
            ("End", N),
            ("Home", 1),
        ):
            page.keyboard.press(key)
            assert page.evaluate(focused) == f"clip-{reached}", key
        still = "[...document.querySelectorAll('#clip-1 video')].every((one) => one.paused)"
        page.wait_for_function(f"document.querySelector('#clip-1 video') && !{still}")
        page.keyboard.press("Space")
        page.wait_for_function(still)
        page.keyboard.press("Enter")
        page.wait_for_function(f"!{still}")


def test_deep_links(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}#clip-77") as page:
        assert page.evaluate("document.activeElement.id") == "clip-77"
        page.wait_for_timeout(200)
        top = page.evaluate("document.getElementById('clip-77').getBoundingClientRect().top")
        assert 0 <= top < 500
        page.get_by_label("Filter").fill("zebra")
        page.evaluate("location.hash = '#clip-12'")
        page.wait_for_function("document.activeElement.id === 'clip-12'")
        assert len(numbers(page)) == N


NAMED = "a, button, input, select, img, video, svg[role], [role=region], form, nav, .clip"
NAMELESS = """(named) => [...document.querySelectorAll(named)]
    .filter((one) => {
        const labelled = (one.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean);
        const text = [one.getAttribute("aria-label"), one.alt,
            ...labelled.map((id) => document.getElementById(id)?.textContent),
            ...[...(one.labels || [])].map((label) => label.textContent)];
        if (one.matches("a, button")) text.push(one.textContent);
        return !text.some((words) => words && words.trim());
    }).map((one) => one.outerHTML.slice(0, 120))"""
CONTRASTS = """() => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (value) => { const c = value / 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
    const luminance = ([r, g, b]) => .2126 * light(r) + .7152 * light(g) + .0722 * light(b);
    const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const found = channels(getComputedStyle(one).backgroundColor);
            if (found.length === 3 || found[3] > 0) return found;
        }
        return [255, 255, 255];
    };
    const low = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || element.closest("script, style")) continue;
        const style = getComputedStyle(element);
        const ink = luminance(channels(element.closest("svg") ? style.fill : style.color));
        const paper = luminance(behind(element));
        const ratio = (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
        if (ratio < 4.5) low.push(`${walker.currentNode.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    return low;
}"""
STRUCTURE = """() => ({
    headings: [...document.querySelectorAll("h1, h2, h3, h4")].map((one) => Number(one.tagName[1])),
    landmarks: ["header", "nav", "main", "footer"].filter((one) => !document.querySelector(one)),
    lang: document.documentElement.lang,
    ids: [...document.querySelectorAll("[id]")].every((one) => document.getElementById(one.id) === one),
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_a_name_and_can_be_read(browser: Browser, address: str, scheme: Any) -> None:
    with opened(browser, address, color_scheme=scheme) as page:
        page.screenshot(path=PICTURES / f"{scheme}-top.png")
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        page.evaluate("document.getElementById('clip-1').scrollIntoView()")
        page.wait_for_function("document.querySelectorAll('video.live').length > 3")
        assert page.evaluate(NAMELESS, NAMED) == []
        assert page.evaluate(CONTRASTS) == []
        choose(page, "frames SSIM")
        page.get_by_role("button", name="Best, median and worst").click()
        assert page.evaluate(CONTRASTS) == []
        found = page.evaluate(STRUCTURE)
        assert found["landmarks"] == []
        assert found["lang"] == "en"
        assert found["ids"]
        assert found["headings"][0] == 1
        assert found["headings"].count(1) == 1
        assert all(after - before <= 1 for before, after in zip(found["headings"], found["headings"][1:], strict=False))
        page.screenshot(path=PICTURES / f"{scheme}-whole.png", full_page=True)


def test_the_focus_is_seen(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.locator("#clip-1").focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


def test_a_phone(browser: Browser, address: str) -> None:
    phone = {"viewport": {"width": 375, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
    with opened(browser, address, **phone) as page:
        page.screenshot(path=PICTURES / "phone-top.png")
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        assert page.evaluate("document.body.scrollWidth") <= 375
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = false; })")
        for where in ("belief", "clips", "clip-3"):
            page.evaluate("(id) => document.getElementById(id).scrollIntoView()", where)
            page.wait_for_timeout(400)
            page.screenshot(path=PICTURES / f"phone-{where}.png")


def test_a_frame_without_origin_or_neighbours(
    browser: Browser, address: str, whole: dict[str, Any], tmp_path: Path
) -> None:
    page_text = render_gallery(**{**whole, "items": whole["items"][:12]})
    frame = f'<iframe sandbox="allow-scripts" width="1200" height="800" srcdoc="{html.escape(page_text)}"></iframe>'
    outer = tmp_path / "frame.html"
    outer.write_text(f"<!doctype html><title>frame</title>{frame}", encoding="utf-8")
    with opened(browser, outer.as_uri()) as page:
        inner = page.frame_locator("iframe")
        inner.get_by_role("link", name="Seen and reconstructed").click()
        expect(inner.locator("#clip-1 video.live")).to_have_count(2)
        inner.get_by_label("Sort by").select_option(label="frames SSIM")
        expect(inner.locator("#status")).to_have_text("12 clips by frames SSIM, best first.")
        inner.locator("#clip-5 h3 a").click()
        expect(inner.locator("#clip-5")).to_be_focused()
        expect(inner.locator("#clip-5 video.live")).to_have_count(2)


def test_without_a_script_all_is_there_but_motion(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}#clips", java_script_enabled=False) as page:
        expect(page.locator("#clip-1 img").first).to_be_visible()
        expect(page.locator("#clip-1 .captions")).to_be_visible()
        expect(page.locator("#bar")).to_be_hidden()
        expect(page.locator("#clip-1 .toggle")).to_be_hidden()
        page.screenshot(path=PICTURES / "no-script.png")
