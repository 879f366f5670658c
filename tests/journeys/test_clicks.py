"""A scientist promotes by clicking, in a real browser on a real MLflow server; pictures of each step are kept.

The pictures lie in `.state/screenshots/` of the checkout: look at them.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from brain2video.cli import app
from models.registry.client import experiment
from models.registry.production import aliased
from models.registry.sets import ModelSet
from studies.registry.register import register_training
from studies.stores.responses import ingest
from studies.stores.targets import extract
from studies.study import Study, load_study
from studies.training.fit import fit

from ..conftest import write_arrays
from ..servers import CHECKOUT, Tracking
from ..studies.conftest import STUDY, write_study

PATIENCE_MS = 60_000
PICTURES = CHECKOUT / ".state" / "screenshots"
TWO_ROLES: dict[str, Any] = {
    "targets": {**STUDY["targets"], "patches": {"extractor": "given"}},
    "roles": {"z": "pixels", "b": "patches"},
}
SHRUNK = {"ridge": {"regressor": {"kind": "ridge", "alphas": [1e9]}}}
"""A penalty that leaves hardly anything of the prediction but its mean, so that any other training is better."""
NO_ADVERTISING = """
    localStorage.setItem("_mlflow_model_registry_promo_modal_dismissed_v1", "true");
    localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
    localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
"""What the browser of somebody who was here before remembers."""
PARTS = ["encoder", "regressor-z", "regressor-b"]


@pytest.fixture(autouse=True)
def patience() -> None:
    """MLflow's pages take their time on a busy machine."""
    expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Scientist:
    """Somebody with two trainings, a browser and a terminal."""

    study: Study
    first: ModelSet
    second: ModelSet
    page: Page
    server: Tracking
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch
    taken: int = 0

    def see(self, what: str) -> None:
        """Keep a picture of the page."""
        self.taken += 1
        folder = PICTURES / f"{self.server.kind}-{self.study.study}"
        self.page.screenshot(path=folder / f"{self.taken:02d}-{what}.png")

    def open_version(self, part: str, version: int) -> None:
        """Look at a version's page, as the list of models leads to it."""
        self.page.goto(f"{self.server.uri}/#/models/{self.study.study}-{part}/versions/{version}")
        expect(self.page.get_by_text("Registered at").first).to_be_visible()

    def put_into_production(self, part: str, version: int) -> None:
        """Click the alias `production` onto a version, on its page."""
        self.open_version(part, version)
        self.page.locator('[data-component-id*="aliaseditor"]').first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.locator("input").first.press_sequentially("production")
        self.page.keyboard.press("Enter")
        self.see(f"{part}-typed")
        with self.page.expect_response(lambda answer: "registered-models/alias" in answer.url) as saved:
            dialog.get_by_role("button", name="Save aliases").click()
        assert saved.value.ok, saved.value.text()
        self.sees_in_production()
        self.see(f"{part}-saved")

    def sees_in_production(self) -> None:
        """Wait for the alias beside the version's name."""
        expect(self.page.get_by_role("dialog")).to_be_hidden()
        expect(self.page.get_by_text(re.compile(r"^@\s+production$")).first).to_be_visible()

    def types(self, *words: str) -> tuple[int, str]:
        """Run a command of brain2video on the study; return its exit code and what it said on both channels."""
        self.capture.readouterr()
        self.patch.setattr(sys, "argv", ["brain2video", *words, "-c", f"configs/{self.study.study}.yaml"])
        code = 0
        try:
            app.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = self.capture.readouterr()
        return code, said.out + said.err

    def production(self) -> dict[str, int | None]:
        """Which version of each part has the alias."""
        found = aliased(self.study.study, PARTS)
        return {part: int(version.version) if version else None for part, version in found.items()}

    def manifest(self) -> dict[str, Any]:
        """What the newest reconstruction says of itself."""
        content: dict[str, Any] = json.loads((self.study.outputs / "latest" / "manifest.json").read_text())
        return content


@pytest.fixture
def scientist(
    request: pytest.FixtureRequest,
    tracking: Tracking,
    browser: Browser,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Scientist]:
    """Two trainings are registered, the poor one is in production; the browser is another user's than the terminal."""
    tracking.use(monkeypatch)
    monkeypatch.chdir(home)
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:20]
    shutil.rmtree(PICTURES / f"{tracking.kind}-{name}", ignore_errors=True)
    source = write_arrays(tmp_path / "recordings", np.random.default_rng(3))
    sets = [train(home, source, name, training={"routes": SHRUNK}), train(home, source, name)]
    secret = dict(zip(("username", "password"), tracking.users[-1], strict=True)) if tracking.users else None
    context = browser.new_context(viewport={"width": 1500, "height": 1000}, http_credentials=secret)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(NO_ADVERTISING)
    study = load_study(home / "configs" / f"{name}.yaml")
    made = Scientist(study, sets[0], sets[1], context.new_page(), tracking, capsys, monkeypatch)
    code, said = made.types("promote", "--run", sets[0].run)
    assert code == 0, said
    yield made
    context.close()


def train(home: Path, source: Path, name: str, **changed: Any) -> ModelSet:
    """Write the study's settings, train and register: what `brain2video train` does, without ZenML."""
    path = write_study(home, source, study=name, **TWO_ROLES, **changed)
    study = load_study(path.rename(path.with_name(f"{name}.yaml")))
    ingest(study, "sub-01")
    for target in study.targets:
        extract(study, target)
    return register_training(study, fit(study))


def test_three_clicks(scientist: Scientist) -> None:
    """Promote the better set by hand: after one click nothing is rendered, after three the new set is used."""
    code, said = scientist.types("reconstruct")
    assert code == 0, said
    assert scientist.manifest()["models"]["versions"] == dict.fromkeys(PARTS, 1)
    scientist.page.goto(f"{scientist.server.uri}/#/models")
    expect(scientist.page.get_by_text(f"{scientist.study.study}-regressor-b").first).to_be_visible()
    scientist.see("models")
    scientist.put_into_production("encoder", 2)
    assert scientist.production() == {"encoder": 2, "regressor-z": 1, "regressor-b": 1}
    code, said = scientist.types("reconstruct")
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert (code, len(errors)) == (2, 1), said
    for words in (
        "encoder v2",
        "regressor-z v1",
        "regressor-b v1",
        f"brain2video promote --run {scientist.second.run}",
    ):
        assert words in errors[0]
    assert scientist.manifest()["models"]["versions"] == dict.fromkeys(PARTS, 1), "nothing was rendered"
    scientist.put_into_production("regressor-z", 2)
    scientist.put_into_production("regressor-b", 2)
    scientist.page.goto(f"{scientist.server.uri}/#/models/{scientist.study.study}-regressor-z")
    scientist.sees_in_production()
    scientist.see("regressor-z-versions")
    code, said = scientist.types("reconstruct")
    assert code == 0, said
    manifest = scientist.manifest()
    assert manifest["models"]["versions"] == dict.fromkeys(PARTS, 2)
    assert manifest["models"]["training"] == scientist.second.run
    code, said = scientist.types("status")
    assert code == 0, said
    assert "set in the UI" in said
    code, said = scientist.types("promote", "--rollback")
    assert code == 0, said
    assert f"production returns to training {scientist.first.run}" in said
    assert scientist.production() == dict.fromkeys(PARTS, 1)


def test_one_click_completed(scientist: Scientist) -> None:
    """Complete what one click began, by the command that the refusal names."""
    scientist.put_into_production("regressor-z", 2)
    code, said = scientist.types("reconstruct")
    assert code == 2, said
    assert f"brain2video promote --run {scientist.second.run}" in said
    code, said = scientist.types("promote", "--run", scientist.second.run)
    assert code == 0, said
    assert scientist.production() == dict.fromkeys(PARTS, 2)
    scientist.open_version("encoder", 2)
    scientist.sees_in_production()
    scientist.see("encoder-completed")
    code, said = scientist.types("reconstruct")
    assert code == 0, said
    assert scientist.manifest()["models"]["versions"] == dict.fromkeys(PARTS, 2)


def test_the_run_can_be_judged_by_looking(scientist: Scientist) -> None:
    """Look at a version's tags, its run's scores and pictures, where one chooses."""
    scientist.open_version("regressor-z", 2)
    scientist.see("version")
    within = experiment(scientist.study.study)
    run = f"{scientist.server.uri}/#/experiments/{within}/runs/{scientist.second.mlflow_run}"
    scientist.page.goto(run)
    expect(scientist.page.get_by_text("Finished").first).to_be_visible()
    scientist.see("run")
    scientist.page.goto(run.partition("/runs/")[0])
    expect(scientist.page.get_by_text("tick two trainings").first).to_be_visible()
    scientist.see("note")
    runs = ",".join(f'"{chosen.mlflow_run}"' for chosen in (scientist.first, scientist.second))
    scientist.page.goto(f'{scientist.server.uri}/#/compare-runs?runs=[{runs}]&experiments=["{within}"]')
    for name in ("validation.z.two_way", "test.z.two_way"):
        expect(scientist.page.get_by_text(name, exact=True).first).to_be_attached()
    scientist.see("compared")
    scientist.page.goto(f"{run}/artifacts")
    scientist.page.get_by_text("pictures").first.click()
    for picture in ("routes.png", "held-out.png"):
        scientist.page.get_by_text(picture).first.click()
        expect(scientist.page.get_by_text(f"pictures/{picture}").first).to_be_visible()
        expect(scientist.page.locator("img[src^='blob:'], img[src*='get-artifact']").first).to_be_visible()
        scientist.see(picture.removesuffix(".png"))
