"""Every table of every command on a screen of 80 columns, with long names: nothing is cut, nothing is left out."""

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from brain2video.cli.tables import drawing
from brain2video.cli.tables.closing import MAX_ROWS
from brain2video.cli.tables.evaluation import show_evaluation, show_run_comparison
from brain2video.cli.tables.layout import laid_out, text_of
from brain2video.cli.tables.outcomes import show_decision, show_download_plan, show_weights
from brain2video.cli.tables.plan import show_plan
from brain2video.cli.tables.regions import show_regions
from brain2video.cli.tables.scores import print_catalogue, show_reconstruction, show_training
from evaluation.report.wording import row_label
from evaluation.statistics.scores import RECONSTRUCTION, ROWS, SHUFFLED
from studies.planning.memory import Peak
from studies.status.status import Line

WIDTH = 80
LONG = "a-name-of-exactly-thirty-chars"
METRICS = ("pixels.two_way", "frames.ssim", "clip_frames.consistency_adjacent", "latents_centred.r2",
           f"{LONG}_centred.correlation", "video_classes.published_50_way")  # fmt: skip
BORDERS = re.compile(r"[\s│┃┏┓┗┛┡┩├┤┴┬┼┳╇━─└┘┌┐]+")


class Screen:
    """What was printed on 80 columns, and the tables that it came from."""

    def __init__(self) -> None:
        self.console = Console(width=WIDTH, record=True, force_terminal=True, file=io.StringIO())
        self.tables: list[Table] = []

    def check(self) -> str:
        """Return what was printed; every word of every cell is there, and no line is longer than the screen."""
        text = self.console.export_text()
        lines = text.splitlines()
        assert all(len(line) <= WIDTH or len(line.split()) == 1 for line in lines), [x for x in lines if len(x) > WIDTH]
        there = {word for line in lines for word in BORDERS.split(line)}
        assert self.tables
        for table in self.tables:
            for column in table.columns:
                for cell in (*([column.header] if table.show_header else []), *column.cells):
                    missing = [word for word in text_of(cell).plain.split() if not {word, f"{word}:"} & there]
                    assert not missing, (missing, text)
        return text


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    kept = Screen()

    def noted(table: Table, width: int) -> list[Table]:
        kept.tables.append(table)
        return laid_out(table, width)

    monkeypatch.setattr(drawing, "stdout_console", lambda: kept.console)
    monkeypatch.setattr(drawing, "laid_out", noted)
    return kept


def entry(value: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "ci95": [value - 0.123, value + 0.123], "chance": 0.5, "higher_is_better": True, **more}


def compared(value: float, p: float) -> dict[str, Any]:
    return {"value": value, "ci95": [value - 0.1, value + 0.1], "higher_is_better": True, "p": p, "p_adjusted": p}


@pytest.fixture
def metrics() -> dict[str, Any]:
    rows = {row: {name: entry(0.5 + 0.01 * k) for name in METRICS} for k, row in enumerate(ROWS)}
    tests = {row: {name: compared(0.4, 0.001) for name in METRICS} for row in ROWS if row != RECONSTRUCTION}
    tests["nuisance"]["pixels.two_way"] = compared(0.01, 0.7)
    rows[RECONSTRUCTION]["frames.ssim"] |= {"value": None, "undefined": 1, "ci95": [None, None]}
    notes = [f"skipped x: needs {LONG}", f"reconstruction: missing, since the prediction of {LONG} is not finite"]
    folds = {"folds": 5, "n": 90, "targets": {"z": {"target": LONG, "rows": rows}}}
    return {"study": LONG, "run": "r", "n_test": 48, "subject": LONG, "rows": rows, "comparisons": tests,
            "intervals": "Intervals are of a jackknife.", "notes": notes, "cross_validation": folds}  # fmt: skip


@pytest.fixture
def scores() -> dict[str, Any]:
    routes = ["ridge", f"route-{LONG}", *(f"route-{k}" for k in range(6))]
    names = [f"{LONG}_centred.{short}" for short in ("correlation", "two_way", "retrieval_10", "r2")]
    rows = {row: {name: entry(0.6) for name in names} for row in (*routes, "mean_predictor", SHUFFLED, "category")}
    tests = {row: {name: compared(0.3, 0.001) for name in names} for row in ("mean_predictor", SHUFFLED, "category")}
    target = {
        **{"target": LONG, "chosen": routes[1], "routes": routes, "baseline": "ridge", "rows": rows},
        **{"comparisons": tests, "differences": {routes[1]: {names[0]: compared(0.1, 0.01)}}, "notes": ["A note."]},
        **{"regressor": {"components": 3, "explained_variance": 0.9}, "penalties": {routes[1]: {LONG: "none"}}},
    }
    selection = {"chosen": routes[1], "criterion": "correlation", "n": 60, "reported": None}
    return {"targets": {f"role-{k}-{LONG}": target for k in range(3)}, "selection": selection, "n_test": 48,
            "intervals": "Intervals are of a jackknife."}  # fmt: skip


def body(text: str, title: str) -> list[str]:
    """Return the rows of a closing table: the lines between its rule and what follows the table."""
    assert title in " ".join(text.split())
    after = text.splitlines()
    rule = next(k for k, line in enumerate(after) if set(line.strip()) == {"─"})
    end = next(k for k, line in enumerate(after) if k > rule and "more row" in line)
    return after[rule + 1 : end]


def test_a_closing_report_shows_ten_rows_the_verdict_first_and_names_the_others(
    screen: Screen, metrics: dict[str, Any]
) -> None:
    show_reconstruction(LONG, Path("outputs/s/r"), metrics)
    text = screen.check()
    assert text.startswith("Reconstructions are identified")
    rows = body(text, f"{LONG}: {LONG}, 48 test stimuli; pixels, two-way identification")
    assert len(rows) == MAX_ROWS
    words = " ".join(text.split())
    hidden = 1 + len(ROWS) - MAX_ROWS
    assert f"{hidden} more rows (" in words
    for row in ROWS:
        assert row_label(row) in words, "a control is never dropped silently"
    assert any(line.startswith("nuisance signals") for line in rows), "what is not beaten is shown"
    assert "the cross-validation: --full" in words
    assert "missing" in words
    assert words.index("is not finite") < words.index("skipped x")


def test_the_full_report_shows_every_row_and_metric(screen: Screen, metrics: dict[str, Any]) -> None:
    show_reconstruction(LONG, Path("outputs/s/r"), metrics, full=True)
    text = screen.check()
    assert text.startswith("Reconstructions are identified")
    assert len(screen.tables) == 3, "with the cross-validation"
    assert "--full" not in text


def test_an_evaluation_is_shown_like_a_reconstruction(screen: Screen, metrics: dict[str, Any], home: Path) -> None:
    for full in (False, True):
        show_evaluation(SimpleNamespace(name=LONG, metrics=metrics, path=home / "run"), full=full)  # type: ignore[arg-type]
    assert screen.check().startswith("Reconstructions are")


def test_a_closing_training_shows_ten_rows_and_what_is_registered_first(screen: Screen, scores: dict[str, Any]) -> None:
    show_training(LONG, Path("outputs/s/training/r"), scores)
    text = screen.check()
    chosen = f"registered route route-{LONG}, by correlation of 60 held-out training stimuli"
    assert " ".join(text.split()).startswith(chosen)
    assert "above the shuffled brain, the mean predictor and the true category" in " ".join(text.split())
    assert all(len(table.rows) <= MAX_ROWS for table in screen.tables)
    assert "2 more rows (route-4, route-5), 9 more metrics: --full" in " ".join(text.split())


def test_a_full_training_shows_every_route(screen: Screen, scores: dict[str, Any]) -> None:
    show_training(LONG, Path("outputs/s/training/r"), scores, full=True)
    text = screen.check()
    assert all(f"route-{k}" in text for k in range(6))


def test_two_runs(screen: Screen, home: Path) -> None:
    entries = {name: {"first": {"value": 0.7123}, "second": {"value": 18.4}, **compared(-0.123, 0.0123), "n": 48}
               for name in METRICS}  # fmt: skip
    run = {"study": LONG, "run": "20261201-100442-39176d"}
    report = {"runs": [run, run], "row": "reconstruction", "n": 48, "metrics": entries, "notes": [LONG]}
    show_run_comparison(SimpleNamespace(report=report, folder=home / "x"))  # type: ignore[arg-type]
    assert "second − first" in " ".join(screen.check().split())


def test_a_plan(screen: Screen) -> None:
    shapes = {"train": (1000, 24, 4, 40, 72), "test": (102, 24, 4, 40, 72)}
    counts = {"chunks": 12_345, "files": 12_345, "size": 10**12}
    group = SimpleNamespace(name=f"targets/{LONG}", shapes=shapes, state="out of date", **counts)
    network = SimpleNamespace(stage=f"targets/{LONG}", part=LONG, weights=10**9, working=10**10, on_gpu=True,
                              fits=lambda card: "yes" if card > 8 else "no")  # fmt: skip
    scale = SimpleNamespace(store=10**12, files=10**6, models=10**9, memory=10**9, subjects=1000)
    made = SimpleNamespace(
        **{"study": LONG, "subjects": 2, "stimuli": {"train": 1000, "test": 102}, "trials": {"train": 3000}},
        **{"voxels": (6682, 9000), "origin": "declared by the dataset", "ask": f"brain2video download {LONG}"},
        weights=[SimpleNamespace(name=f"cerspense/{LONG}", size=10**9, there=False)],
        groups=[group, group],
        outputs=[SimpleNamespace(what=LONG, files=10, size=None)],
        peaks=[Peak("training", 10**9, f"voxels × stimuli of {LONG}")],  # type: ignore[arg-type]
        **{"networks": [network], "scales": [scale] * 3, "notes": ["A note."], "size_left": 10**12},
    )
    show_plan(made, [8, 16, 24, 48, 80])  # type: ignore[arg-type]
    screen.check()
    assert len(screen.tables) == 6


def test_regions(screen: Screen) -> None:
    names = ["z.correlation", "z.two_way"]
    both = {name: entry(0.55) for name in names}
    roi = {"alone": both, "without": both, "lost": both}
    target = {"target": LONG, "metrics": names, "rows": {"all_voxels": both, SHUFFLED: both}, "regions": {LONG: roi}}
    report = {
        **{
            "targets": {f"role-{LONG}": target},
            "n_test": 48,
            "config": {"route": {"name": LONG}},
            "notes": ["A note."],
        },
        **{"skipped": {LONG: "too few voxels"}, "brain": {"why": "no coordinates", "picture": False}},
        **{"voxels": {"sub-01": 123_456}, "regions": {LONG: {"voxels": {"sub-01": 12_345}}}},
    }
    show_regions(LONG, report, [Path("outputs/s/regions/r/regions.png")])
    screen.check()


def test_lines_of_the_status_and_facts_of_a_video(screen: Screen) -> None:
    path = "/".join([LONG] * 4)
    drawing.show_lines(LONG, [Line(f"responses/{LONG}", "out of date", f"{path} changed since it was made", "note"),
                              Line("store", "here", "")])  # fmt: skip
    drawing.show_facts(path, [("sha256 of the video", "e" * 64), ("responses", f"{path} ({LONG})"), ("seed", "1")])
    assert path in screen.check(), "a path stays whole, so that it can be copied"


def test_every_metric_of_the_catalogue(screen: Screen) -> None:
    print_catalogue()
    assert "published: Mind-Animator" in " ".join(screen.check().split()).replace("│ ", "").replace(" │", "")


def test_a_promotion(screen: Screen) -> None:
    scored = {"production": 0.1234, "candidate": 0.2345, "difference": 0.1111, "low": 0.1, "high": 0.12}
    rule = SimpleNamespace(difference=0.0, interval=-0.02)
    row = SimpleNamespace(name=f"z {LONG}_centred.correlation", passes=True, rule=rule, **scored)
    decision = SimpleNamespace(candidate=SimpleNamespace(run=LONG), production=LONG, rows=[row], stimuli=60,
                               notes=["A note."], outcome="better", reasons=[f"better by {LONG}"])  # fmt: skip
    show_decision(LONG, decision)  # type: ignore[arg-type]
    screen.check()


def test_a_download(screen: Screen) -> None:
    plan = SimpleNamespace(objects=[1] * 9, missing=[1] * 8, size=10**13, present=10**12, to_fetch=10**13, free=10**14)
    show_download_plan(plan, Path("/".join([LONG] * 4)))  # type: ignore[arg-type]
    model = SimpleNamespace(name=f"cerspense/{LONG}", pickled=True, files=[1], size=10**9, commit="c" * 40)
    show_weights([model])  # type: ignore[list-item]
    screen.check()


def wide_table() -> Table:
    table = Table(title=LONG)
    for index in range(9):
        table.add_column(f"column {index} of {LONG}")
    for row in range(3):
        table.add_row(*(f"{row}-{index}-{LONG}" for index in range(9)))
    return table


@pytest.mark.parametrize("width", [1, 20, 40, 63, 64, 80, 100, 200, 999])
def test_no_width_cuts_a_cell(width: int) -> None:
    console = Console(width=width, record=True, force_terminal=True, file=io.StringIO())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(drawing, "stdout_console", lambda: console)
        drawing.print_table(wide_table())
    there = set(BORDERS.split(console.export_text()))
    assert all(f"{row}-{index}-{LONG}" in there for row in range(3) for index in range(9))


def test_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    drawing.print_table(wide_table())
    drawing.print_line("note", f"{LONG} " * 9)
    *lines, note = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) > 9 * len(LONG), "one line a row"
    assert note.count(LONG) == 9


def test_columns_names_a_width_where_there_is_no_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    drawing.print_table(wide_table())
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
