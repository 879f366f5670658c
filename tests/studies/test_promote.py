"""Promotion: candidates are compared on held-out training stimuli, whole sets move or none, and there is a way back."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from core.checkout import project_root as home_folder
from core.errors import ConfigError, RegistryError
from core.files import read_json
from core.seeds import rng_for
from evaluation.report.wording import signed
from feature_store import Store
from models.extractors.settings import PixelsConfig
from models.registry.client import client
from models.registry.production import history, resolve
from models.registry.sets import PREVIOUS, PRODUCTION, ModelSet, model_name
from studies.registry.decision import MetricRow, MetricRule, PromotionDecision, require_accepted
from studies.registry.production import require_same_targets, require_trained_on
from studies.registry.promote import (
    FILE,
    PromotionRules,
    compare,
    compare_with_production,
    promote_run,
    promotion_rules,
    resolve_promoted,
    roll_back,
)
from studies.registry.register import register_training
from studies.runs import started_at
from studies.status.status import production_status
from studies.stores.responses import ingest
from studies.stores.targets import extract
from studies.study import Roles, Study, load_study
from studies.training.fit import fit
from studies.training.routes import BY_EARLIER, CHOSEN_APART, Choice, Validation, choice_among

from ..conftest import write_arrays
from .conftest import STUDY, write_study

BLIND = {"regressor": {"kind": "ridge", "alphas": [1e9]}}
"""Predicts next to nothing."""
ROLES = {"targets": {**STUDY["targets"], "patches": {"extractor": "given"}}, "roles": {"z": "pixels", "b": "patches"}}

KINDS = [(kind, role) for kind in ("validation", "test") for role in ("z", "b")]
Trainings = dict[str, tuple[Study, ModelSet]]


def train(home: Path, source: Path, **changed: Any) -> tuple[Study, ModelSet]:
    study = load_study(write_study(home, source, **{**ROLES, **changed}))
    return study, register_training(study, fit(study))


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory, quick_mlflow: None) -> Iterator[Trainings]:
    """A home with a registry of three trainings: one that knows next to nothing, a good one, one of another seed."""
    folder = tmp_path_factory.mktemp("promotion")
    home = folder / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAIN2VIDEO_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow/store/mlflow.db")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        source = write_arrays(folder / "recordings", np.random.default_rng(7))
        study = load_study(write_study(home, source, **ROLES))
        ingest(study, "sub-01")
        for target in study.targets:
            extract(study, target)
        yield {
            "blind": train(home, source, training={"routes": {"blind": BLIND}}),
            "good": train(home, source),
            "other": train(home, source, seed=1),
        }


@pytest.fixture(autouse=True)
def _nothing_in_production(trainings: Trainings) -> None:
    study, _ = trainings["good"]
    for part in study.parts:
        for alias in client().get_registered_model(model_name(study.study, part)).aliases:
            client().delete_registered_model_alias(model_name(study.study, part), alias)


def run_of(trainings: Trainings, name: str) -> str:
    return trainings[name][1].run


def write_rules(home: Path, patch: pytest.MonkeyPatch, **rules: Any) -> None:
    """Give the tests' home rules of its own, for one test."""
    file = home / FILE
    patch.setattr("studies.registry.promote.project_root", lambda: home)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(rules))


def test_two_trainings_are_logged_under_the_same_names(trainings: Trainings) -> None:
    """The compare page lines up what has the same name, whatever the routes are called."""
    runs = {name: client().get_run(trainings[name][1].mlflow_run) for name in ("blind", "good")}
    names = [set(run.data.metrics) for run in runs.values()]
    assert names[0] == names[1] >= {"validation.correlation", *(f"{kind}.{role}.two_way" for kind, role in KINDS)}
    assert all(name.startswith(("validation.", "test.")) for name in names[0])
    params = {name: run.data.params for name, run in runs.items()}
    assert params["blind"]["training.routes.blind.regressor.alphas"] == "[1000000000.0]"
    assert params["good"]["training.routes.ridge.regressor.kind"] == "ridge"
    assert not [value for own in params.values() for value in own.values() if value.startswith("/")], "no path of here"
    for name, run in runs.items():
        study, chosen = trainings[name]
        record = read_json(study.outputs / "training" / chosen.run / "training.json")
        assert run.info.start_time == started_at(chosen.run).timestamp() * 1000
        assert run.info.end_time == round(datetime.fromisoformat(record["finished"]).timestamp() * 1000)


def test_the_newest_is_promoted_where_nothing_is_in_production(trainings: Trainings) -> None:
    study, other = trainings["other"]
    made = promote_run(study)
    assert (made.outcome, made.candidate, made.production) == ("first", other, None)
    assert resolve(study.study, study.parts) == other
    assert promote_run(study).outcome == "current"
    with pytest.raises(RegistryError, match="'previous'"):
        roll_back(study)


def test_a_better_one_replaces_production_and_can_be_taken_back(trainings: Trainings) -> None:
    study, good = trainings["good"]
    _, blind = trainings["blind"]
    promote_run(study, blind.run)
    made = promote_run(study, good.run)
    assert (made.outcome, made.stimuli) == ("better", 6)
    assert [row.name for row in made.rows] == ["z.correlation", "b.correlation"]
    for row in made.rows:
        assert row.low > 0.3
        assert row.candidate - row.production == pytest.approx(row.difference)
    assert (resolve("small", study.parts), resolve("small", study.parts, PREVIOUS)) == (good, blind)
    assert history("small", study.parts)[-1].why == "better"
    assert roll_back(study) == blind
    assert (resolve("small", study.parts), resolve("small", study.parts, PREVIOUS)) == (blind, good)
    assert roll_back(study) == good


def test_a_worse_one_is_refused_and_changes_nothing(trainings: Trainings) -> None:
    study, good = trainings["good"]
    promote_run(study, good.run)
    made = promote_run(study, run_of(trainings, "blind"))
    assert (made.outcome, made.accepted) == ("worse", False)
    assert resolve("small", study.parts) == good
    with pytest.raises(
        RegistryError, match=r"is not promoted: z.correlation differs by -0\.\d+ \[.*see mlflow/promotion"
    ):
        require_accepted(made)
    assert set(client().get_registered_model("small-encoder").aliases) == {PRODUCTION}


def test_what_is_refused_can_be_forced_by_those_who_may(
    trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, good = trainings["good"]
    _, blind = trainings["blind"]
    promote_run(study, good.run)
    write_rules(tmp_path, monkeypatch, force={"by": ["head-of-lab"]})
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "student")
    with pytest.raises(RegistryError, match="lets head-of-lab force a promotion, you are 'student'"):
        promote_run(study, blind.run, force=True)
    write_rules(tmp_path, monkeypatch, force={"over": ["incomparable"]})
    with pytest.raises(RegistryError, match=r"lets no one force what is worse .force.over: incomparable"):
        promote_run(study, blind.run, force=True)
    assert resolve("small", study.parts) == good
    write_rules(tmp_path, monkeypatch, force={"by": ["student"]})
    promote_run(study, blind.run, force=True)
    assert (resolve("small", study.parts), resolve("small", study.parts, PREVIOUS)) == (blind, good)
    told = history("small", study.parts)[-1]
    assert told.why.startswith("forced: z.correlation differs")
    assert (told.run, told.by) == (blind.run, "student")


def test_trainings_that_held_out_other_stimuli_cannot_be_compared(trainings: Trainings) -> None:
    study, _ = trainings["other"]
    promote_run(study, run_of(trainings, "good"))
    made = compare_with_production(study, run_of(trainings, "other"))
    assert made.outcome == "incomparable"
    assert "were held out of both (6 and 6), at least 5 are needed" in made.reasons[0]


def test_a_comparison_changes_nothing(trainings: Trainings) -> None:
    study, _ = trainings["good"]
    assert compare_with_production(study).outcome == "first"
    with pytest.raises(RegistryError, match="no version of"):
        resolve("small", study.parts)


@pytest.mark.parametrize("clicked", [["encoder"], ["regressor-z", "regressor-b"]])
def test_a_half_promoted_set_is_completed(trainings: Trainings, clicked: list[str]) -> None:
    study, good = trainings["good"]
    _, blind = trainings["blind"]
    promote_run(study, blind.run)
    for part in clicked:
        client().set_registered_model_alias(f"small-{part}", PRODUCTION, str(good.versions[part]))
    with pytest.raises(RegistryError, match=f"'brain2video promote --run {good.run}'"):
        resolve("small", study.parts)
    made = promote_run(study, versions={clicked[0]: good.versions[clicked[0]]})
    assert (made.outcome, made.production) == ("better", blind)
    assert (resolve("small", study.parts), resolve("small", study.parts, PREVIOUS)) == (good, blind)


def test_between_two_others_nobody_can_tell_what_to_compare_with(trainings: Trainings) -> None:
    study, other = trainings["other"]
    promote_run(study, run_of(trainings, "blind"))
    client().set_registered_model_alias("small-encoder", PRODUCTION, str(trainings["good"][1].versions["encoder"]))
    made = promote_run(study, other.run)
    assert made.outcome == "incomparable"
    assert "production is on parts of the trainings" in made.reasons[0]
    promote_run(study, other.run, force=True)
    assert resolve("small", study.parts) == other


def test_production_of_other_data_is_replaced(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    study, good = trainings["good"]
    promote_run(study, good.run)
    blind = trainings["blind"][1]
    monkeypatch.setattr("studies.registry.promote.fits_stores", lambda chosen, path, targets: chosen == blind)
    assert promote_run(study, blind.run).outcome == "outdated"
    assert resolve("small", study.parts) == blind


@pytest.mark.parametrize(
    "pairs", [pytest.param(3, marks=pytest.mark.servers), pytest.param(50, marks=pytest.mark.full)]
)
def test_two_at_once_leave_one_whole_set(trainings: Trainings, pairs: int) -> None:
    study, one = trainings["good"]
    _, other = trainings["blind"]
    promote_run(study, one.run)
    workers = [promote_worker(study, run) for run in (one.run, other.run)]
    try:
        assert [line(worker) for worker in workers] == ["ready", "ready"]
        for _ in range(pairs):
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            said = [line(worker) for worker in workers]
            assert "promoted" in said
            for words in said:
                assert words == "promoted" or "another process" in words or "moved meanwhile" in words, words
            assert resolve("small", study.parts) in (one, other)
            assert resolve("small", study.parts, PREVIOUS) in (one, other)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def promote_worker(study: Study, run: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.studies.promote_worker", f"{home_folder()}/configs/{study.study}.yaml", run]
    checkout = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def test_the_status_tells_production_what_is_newer_and_what_does_not_fit(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, good = trainings["good"]
    _, blind = trainings["blind"]
    promote_run(study, blind.run)
    promote_run(study, good.run)
    lines = production_status(study)
    assert [(line.what, line.state) for line in lines[:2]] == [("production", str(good)), ("previous", str(blind))]
    assert re.search(r"since 20..-..-..T..:..:..Z by .* .better.", lines[0].detail)
    assert [line.state for line in lines if line.what == "newer"] == [f"{trainings['other'][1]}, incomparable"]
    roll_back(study)
    newer = {line.state: line.detail for line in production_status(study) if line.what == "newer"}
    assert f"brain2video promote --run {good.run}" in newer[f"{good}, better"]
    client().set_registered_model_alias("small-encoder", PRODUCTION, str(good.versions["encoder"]))
    mixed = production_status(study)[0]
    assert (mixed.level, mixed.state[:17]) == ("bad", "mixed: encoder v2")
    promote_run(study, blind.run, force=True)
    monkeypatch.setattr(PixelsConfig, "revision", lambda self, root: "pixels-2")
    faults = [line.detail for line in production_status(study) if line.what == "does not fit"]
    assert len(faults) == 1
    assert "predict z as made by revision pixels-1, the study's target 'pixels' has pixels-2; bring those" in faults[0]


def test_a_set_for_other_targets_or_of_other_data_is_refused(trainings: Trainings) -> None:
    study, good = trainings["good"]
    require_same_targets(study, good)
    store, targets = Store(study.store), study.roles.regressed().values()
    require_trained_on(good, store, "sub-01", targets)
    turned = study.model_copy(update={"roles": Roles(z="pixels")})
    with pytest.raises(RegistryError, match="were trained for the roles"):
        require_same_targets(study.model_copy(update={"roles": Roles(z="patches", b="pixels")}), good)
    require_same_targets(turned, good)
    bare = good.model_copy(update={"record": {k: v for k, v in good.record.items() if k != "targets"}})
    with pytest.raises(RegistryError, match="were registered by an earlier version"):
        require_same_targets(study, bare)
    other = {**good.record, "stores": {**good.record["stores"], "responses/sub-01": "f" * 64}}
    with pytest.raises(RegistryError, match="saw responses/sub-01 as ffffffffffff, the store holds"):
        require_trained_on(good.model_copy(update={"record": other}), store, "sub-01", targets)


def test_rules_are_read_and_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.registry.promote.project_root", lambda: tmp_path)
    assert promotion_rules() == PromotionRules()
    write_rules(tmp_path, monkeypatch, metrics={"z.two_way": {"diference": 0.1}})
    with pytest.raises(
        ConfigError, match="promotion.yaml: unknown key 'metrics.z.two_way.diference'; did you mean 'diff"
    ):
        promotion_rules()
    (tmp_path / FILE).write_text("metrics: [")
    with pytest.raises(ConfigError, match="promotion.yaml.*: not YAML"):
        promotion_rules()


def test_the_rules_that_ship_are_the_defaults() -> None:
    shipped = Path(__file__).resolve().parents[2] / FILE
    assert PromotionRules.model_validate(yaml.safe_load(shipped.read_text())) == PromotionRules()


HELD_OUT = [f"s{index:03d}" for index in range(150)]


def validation(values: dict[str, np.ndarray], stimuli: list[str] = HELD_OUT, **more: Any) -> dict[str, Any]:
    """Return a record of held-out scores as an earlier version wrote it, by metric of the role z."""
    listed = {"z": {name: own.tolist() for name, own in values.items()}}
    return {"schema": 1, "route": "ridge", "subjects": ["sub-01"], "stimuli": stimuli, "values": listed, **more}


def decided(monkeypatch: pytest.MonkeyPatch, ours: Any, theirs: Any, *metrics: str) -> PromotionDecision:
    """Compare two records by rules on some metrics."""
    records = {"candidate": ours, "production": theirs}
    monkeypatch.setattr("studies.registry.promote.validation_of", lambda chosen: records[chosen.run])
    rules = PromotionRules(metrics={name: MetricRule() for name in metrics})
    sets = [ModelSet(study="x", run=run, versions={}, digests={}, record={}, mlflow_run="") for run in records]
    return compare(*sets, rules)


def test_scores_among_other_candidates_are_not_subtracted(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    values = {"correlation": rng.random(150), "two_way": rng.random(150), "r2": rng.random(150)}
    names = ("z.correlation", "z.two_way", "z.r2")
    same = decided(monkeypatch, validation(values), validation(values), *names)
    assert [row.name for row in same.rows] == list(names)
    other = [*HELD_OUT[10:], *(f"t{index}" for index in range(10))]
    apart = decided(monkeypatch, validation(values), validation(values, other), *names)
    assert [row.name for row in apart.rows] == ["z.correlation"]
    assert apart.stimuli == 140
    assert "depend on which stimuli are scored together" in apart.notes[0]
    assert apart.notes[0].endswith("z.two_way, z.r2")
    nothing = decided(monkeypatch, validation(values), validation(values, other), "z.two_way")
    assert nothing.outcome == "incomparable"
    assert nothing.reasons[0].endswith("z.two_way")


def test_scores_that_do_not_differ_are_unchanged_and_a_loss_that_is_shown_is_worse(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    values = rng.random(150)
    for nothing in (0.0, -1e-5, 1e-5):
        found = decided(
            monkeypatch,
            validation({"correlation": values + nothing}),
            validation({"correlation": values}),
            "z.correlation",
        )
        assert (found.outcome, found.accepted) == ("unchanged", True)
        assert found.reasons == ["no metric differs by 0.0005 or more"]
        assert signed(found.rows[0].difference) == "0.000"
    lower = validation({"correlation": values - 0.001})
    found = decided(monkeypatch, lower, validation({"correlation": values}), "z.correlation")
    assert found.outcome == "worse"
    assert signed(found.rows[0].difference) == "-0.001"


def chosen_of_eight(rng: np.random.Generator, seed: int) -> tuple[np.ndarray, Choice]:
    """Return production's values, and the choice of a candidate among eight routes that are as good."""
    difficulty = rng.normal(size=150)
    routes = {f"route {index}": difficulty + rng.normal(size=150) for index in range(8)}
    scored = {name: Validation(HELD_OUT, {"z": {"correlation": own}}) for name, own in routes.items()}
    return difficulty + rng.normal(size=150), choice_among(routes, 0.0, seed=seed, scored=scored)


@pytest.mark.parametrize("studies", [200, pytest.param(4000, marks=pytest.mark.full)])
def test_the_best_of_equal_routes_is_above_production_no_more_often_than_stated(
    monkeypatch: pytest.MonkeyPatch, studies: int
) -> None:
    """The audit's case: on the stimuli that it was chosen by, the interval lies above 0 in 12 % instead of 2.5 %."""
    rng = rng_for(0, "winner's curse")
    rows, cursed = [], []
    for study in range(studies):
        production, choice = chosen_of_eight(rng, study)
        record, theirs = choice.record(["sub-01"]), validation({"correlation": production}, routes=1)
        assert record is not None
        rows += decided(monkeypatch, record, theirs, "z.correlation").rows
        raw = {name: own for name, own in record.items() if name != "reported"}
        cursed += decided(monkeypatch, raw, theirs, "z.correlation").rows
    gains, error = np.array([row.difference for row in rows]), np.sqrt(2 / 150)
    assert abs(gains.mean()) < 3.3 * gains.std() / np.sqrt(studies)
    assert np.mean([row.low > 0 for row in rows]) <= 0.025
    assert np.mean([row.low <= 0 <= row.high for row in rows]) >= 0.95
    assert np.mean([row.difference for row in cursed]) > 0.7 * error, "the curse that is avoided"
    assert np.mean([row.low > 0 for row in cursed]) > 0.06


def test_a_decision_says_where_its_scores_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    production, choice = chosen_of_eight(rng_for(0, "how"), 0)
    record = choice.record(["sub-01"])
    assert record is not None
    assert record["values"]["z"]["correlation"] == choice.values[choice.chosen].tolist(), "as earlier versions read it"
    one = validation({"correlation": production}, routes=1)
    assert decided(monkeypatch, record, one, "z.correlation").notes == [f"candidate: {CHOSEN_APART}"]
    assert decided(monkeypatch, record, record, "z.correlation").notes == [f"both: {CHOSEN_APART}"]
    assert decided(monkeypatch, one, one, "z.correlation").notes == []
    earlier = validation({"correlation": production})
    assert decided(monkeypatch, one, earlier, "z.correlation").notes == [f"production: {BY_EARLIER}"]


def test_a_decision_is_handed_on_as_it_was_made(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    made = decided(monkeypatch, *(validation({"correlation": rng.random(150)}) for _ in range(2)), "z.correlation")
    assert PromotionDecision.model_validate_json(made.model_dump_json()) == made
    without = MetricRow(
        name="z.r2", production=0, candidate=0, difference=0, low=np.nan, high=np.nan, rule=MetricRule(), passes=False
    )
    again = PromotionDecision.model_validate_json(made.model_copy(update={"rows": [without]}).model_dump_json())
    assert np.isnan(again.rows[0].low)


def test_what_will_be_in_production_is_known_without_changing_it(trainings: Trainings) -> None:
    study, good = trainings["good"]
    _, blind = trainings["blind"]
    assert resolve_promoted(study, good.run) == good, "nothing is in production, so any is promoted"
    promote_run(study, good.run)
    before = resolve(study.study, study.parts)
    assert resolve_promoted(study, blind.run) == before, "what the rules refuse is not reconstructed with"
    assert resolve(study.study, study.parts) == before
