"""Rollback after clicks in the MLflow UI: every command that resolves production keeps what it sees there."""

import json

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.tracking import MlflowClient

from core.errors import RegistryError, ServerError
from core.progress import listening
from models.registry import production
from models.registry.client import client
from models.registry.history import HISTORY, SINCE, Entry, read_history, write_history
from models.registry.production import history, resolve, set_production
from models.registry.sets import PREVIOUS, PRODUCTION, ModelSet, set_of_run
from studies.registry.production import resolve_production
from studies.registry.promote import roll_back
from studies.status.status import production_status
from studies.study import Study

PARTS = ["encoder", "regressor-z"]


@pytest.fixture
def sets(study: Study) -> list[ModelSet]:
    """Three registered trainings without files: the registry's tags are all that promotion and rollback read."""
    connection = client()
    for part in PARTS:
        connection.create_registered_model(f"small-{part}")
    made = []
    for run in ("20260101-000000-aaaaaa", "20260102-000000-bbbbbb", "20260103-000000-cccccc"):
        record = {"fingerprint": run, "stores": {}, "subjects": [], "roles": {"z": "pixels"}}
        tags = {"training_run": run, "digest": run, "encoder_digest": run, "record": json.dumps(record)}
        for part in PARTS:
            connection.create_model_version(f"small-{part}", f"/nowhere/{run}", tags=tags)
        found = set_of_run("small", PARTS, run)
        assert found is not None
        made.append(found)
    return made


def promote(chosen: ModelSet, replaced: ModelSet | None = None) -> None:
    found = production.aliased("small", PARTS)
    expected = {part: None if version is None else int(version.version) for part, version in found.items()}
    set_production(chosen, replaced, expected=expected, why="test")


def click(chosen: ModelSet, *parts: str) -> None:
    """Set the alias as the UI does: part by part, with nothing kept beside it."""
    for part in parts or PARTS:
        client().set_registered_model_alias(f"small-{part}", PRODUCTION, str(chosen.versions[part]))


def lines(study: Study, what: str) -> list[str]:
    return [f"{line.state}; {line.detail}" for line in production_status(study) if line.what == what]


def test_a_promotion_by_clicks_is_taken_back_and_restored(study: Study, sets: list[ModelSet]) -> None:
    one, two, _ = sets
    promote(one)
    click(two)
    assert resolve_production(study) == two
    assert [known.run for known in history("small", PARTS)] == [one.run, two.run]
    assert resolve("small", PARTS, PREVIOUS) == one, "the alias shows in the UI what a rollback returns to"
    assert "set in the UI, which keeps no time, first seen 20" in lines(study, "production")[0]
    (previous,) = lines(study, "previous")
    assert previous.startswith(str(one))
    assert "by " in previous
    assert "--rollback' returns to it" in previous
    assert roll_back(study) == resolve_production(study) == one
    assert roll_back(study) == resolve_production(study) == two


def test_rollback_itself_sees_clicks_that_no_command_has_seen(study: Study, sets: list[ModelSet]) -> None:
    one, two, three = sets
    promote(one)
    click(two)
    click(three)
    told: list[str] = []
    with listening(lambda what, *_: told.append(what)):
        assert roll_back(study) == one
    assert told == [
        f"production returns to training {one.run} ({one}), in production {history('small', PARTS)[0]}",
        f"{three} was set in the UI; what the UI set before, and no command saw, is not known",
    ]
    assert [known.run for known in history("small", PARTS)] == [one.run, three.run, one.run]


def test_what_was_set_by_clicks_alone_is_known_once_a_command_saw_it(study: Study, sets: list[ModelSet]) -> None:
    one, two, _ = sets
    click(one)
    with pytest.raises(RegistryError, match="there is nothing to roll back to: no other set is known"):
        roll_back(study)
    assert lines(study, "previous") == []
    click(two)
    assert lines(study, "previous")[0].startswith(str(one)), "status sees it too"
    assert roll_back(study) == one


def test_half_a_click_is_refused_and_can_be_taken_back(study: Study, sets: list[ModelSet]) -> None:
    one, two, _ = sets
    promote(one)
    click(two, "encoder")
    with pytest.raises(RegistryError, match=f"brain2video promote --run {two.run}"):
        resolve_production(study)
    assert [known.run for known in history("small", PARTS)] == [one.run], "half a set was never in production"
    assert lines(study, "production")[0].startswith("mixed: encoder v2, regressor-z v1")
    assert roll_back(study) == resolve_production(study) == one
    click(two, "encoder")
    click(two, "regressor-z")
    assert resolve_production(study) == two
    assert roll_back(study) == one


def test_an_alias_that_was_deleted_in_the_ui_returns(study: Study, sets: list[ModelSet]) -> None:
    one, two, _ = sets
    promote(one)
    promote(two, one)
    for gone in (["regressor-z"], PARTS):
        for part in gone:
            client().delete_registered_model_alias(f"small-{part}", PRODUCTION)
        assert roll_back(study) == resolve_production(study) == two
    assert roll_back(study) == one


def test_a_version_that_was_deleted_is_one_line_and_changes_nothing(study: Study, sets: list[ModelSet]) -> None:
    one, two, three = sets
    promote(one)
    promote(two, one)
    click(three)
    client().delete_model_version("small-regressor-z", str(two.versions["regressor-z"]))
    told = (
        f"training {two.run}, which was in production before, is no longer whole: small-regressor-z has no version of "
        f"it, as where one is deleted in MLflow; 'brain2video promote --run {one.run}' returns to the one before it"
    )
    with pytest.raises(RegistryError, match=told):
        roll_back(study)
    assert resolve("small", PARTS) == three
    assert told in lines(study, "previous")[0]
    assert lines(study, "earlier")[0].startswith(f"training {one.run}; in production since 20")
    client().delete_model_version("small-encoder", str(one.versions["encoder"]))
    with pytest.raises(RegistryError, match="promote another one"):
        roll_back(study)


def test_who_may_not_write_still_reconstructs(
    study: Study, sets: list[ModelSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = sets
    promote(one)
    click(two)

    def forbidden(*_: object) -> None:
        raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)

    told: list[str] = []
    with monkeypatch.context() as patch, listening(lambda what, *_: told.append(what)):
        patch.setattr(MlflowClient, "set_registered_model_tag", forbidden)
        assert resolve_production(study) == two
    assert told[0].startswith("what the UI put into production is not noted: MLflow")
    with production._alone("small"):  # another process promotes
        assert resolve_production(study) == two
    assert [known.run for known in read_history("small")] == [one.run]
    assert resolve_production(study) == two
    assert [known.run for known in read_history("small")] == [one.run, two.run], "the next command adds it"


def test_a_promotion_that_cannot_be_noted_changes_nothing(
    study: Study, sets: list[ModelSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = sets
    promote(one)
    real, calls = MlflowClient.set_registered_model_tag, []

    def flaky(self: MlflowClient, *tag: str) -> None:
        calls.append(tag)
        if len(calls) == 2:
            raise MlflowException("the server went away")
        real(self, *tag)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_tag", flaky)
        with pytest.raises(ServerError, match="the server went away"):
            promote(two, one)
    assert resolve("small", PARTS) == one
    assert [known.run for known in history("small", PARTS)] == [one.run]


def test_an_entry_that_another_host_overwrote_is_found_again(study: Study, sets: list[ModelSet]) -> None:
    one, two, _ = sets
    promote(one)
    lost = client().get_registered_model("small-encoder").tags[HISTORY]
    promote(two, one)
    later = json.loads(client().get_registered_model("small-encoder").tags[SINCE]) | {"at": "2099-01-01T00:00:00Z"}
    client().set_registered_model_tag("small-encoder", HISTORY, lost)
    client().set_registered_model_tag("small-encoder", SINCE, json.dumps(later))
    known = history("small", PARTS)
    assert [(entry.run, bool(entry.by)) for entry in known] == [(one.run, True), (two.run, True)]
    assert roll_back(study) == one


@pytest.mark.parametrize("damaged", [None, "nonsense", '[{"run": 1}]'])
def test_what_an_earlier_version_promoted_or_a_person_edited(
    study: Study, sets: list[ModelSet], damaged: str | None
) -> None:
    """An earlier version kept no list, but `previous` and what was promoted last."""
    one, two, three = sets
    promote(one)
    promote(two, one)
    client().delete_registered_model_tag("small-encoder", HISTORY)
    if damaged is not None:
        client().set_registered_model_tag("small-encoder", HISTORY, damaged)
    assert [known.run for known in history("small", PARTS)] == [one.run, two.run]
    click(three)
    assert resolve_production(study) == three
    assert roll_back(study) == two
    assert [known.run for known in read_history("small")] == [one.run, two.run, three.run, two.run]


def test_the_list_stays_as_long_as_databases_keep_it(study: Study, sets: list[ModelSet]) -> None:
    entries = [Entry(run=f"run{n}", versions=dict.fromkeys(PARTS, n), at="x", by="y" * 90) for n in range(1, 100)]
    write_history("small", entries)
    for part in PARTS:
        assert all(len(tag) <= 5000 for tag in client().get_registered_model(f"small-{part}").tags.values())
    kept = read_history("small")
    assert kept == entries[-len(kept) :]
    assert len(kept) > 10
