"""The databases of a home that was moved or copied name its new place, and the old place is left alone."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from core.errors import NotAllowed
from core.files import digest_folder
from core.moved import MLFLOW_PLACES, RECORD, ZENML_DATABASE, ZENML_PLACES, follow

RUN = "artifacts/demo/5dbac76b/artifacts"
MODEL = "artifacts/demo/models/m-0b55/artifacts"


def make_databases(home: Path) -> None:
    """Write the columns in question as MLflow 3.17 and ZenML 0.98 fill them."""
    store, zenml = home / "mlflow" / "store", home / ".state" / "zenml"
    place = f"file://{quote(str(store))}"
    stores = f"{zenml}/local_stores/a84d"
    tables = {
        store / "mlflow.db": {
            "experiments": [
                ("Default", "0", f"{home}/mlruns/0"),
                ("demo", "1", f"{place}/artifacts/demo"),
                ("from the UI", "2", f"{store}/artifacts/2"),
                ("elsewhere", "3", "s3://bucket/artifacts/3"),
                ("scratch", "4", "/scratch/artifacts/scratch"),
            ],
            "runs": [("", "", f"{place}/{RUN}"), ("", "", None)],
            "logged_models": [("", "", f"{place}/{MODEL}")],
            "model_versions": [("", "", f"{place}/{MODEL}")],
        },
        zenml / ZENML_DATABASE: {name: [("", "", f"{stores}/{name}")] for name, _ in ZENML_PLACES},
    }
    columns = dict(MLFLOW_PLACES) | dict(ZENML_PLACES)
    for database, content in tables.items():
        database.parent.mkdir(parents=True)
        with closing(sqlite3.connect(database)) as connection:
            for table, rows in content.items():
                connection.execute(f"CREATE TABLE {table} (name TEXT, experiment_id TEXT, {columns[table]} TEXT)")
                connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
            connection.commit()
    store_config = {
        "type": "sql",
        "url": f"sqlite:///{zenml / ZENML_DATABASE}",
        "database": str(zenml / ZENML_DATABASE),
        "backup_directory": f"{zenml}/database_backup",
    }
    (zenml / "config.yaml").write_text(yaml.safe_dump({"store": store_config, "version": "0.98.0"}))


def named(home: Path) -> list[str]:
    """Return every place that the two databases and ZenML's config name."""
    found: list[str] = []
    for database, places in (
        (home / "mlflow/store/mlflow.db", MLFLOW_PLACES),
        (home / ".state/zenml" / ZENML_DATABASE, ZENML_PLACES),
    ):
        with closing(sqlite3.connect(database)) as connection:
            for table, column in places:
                found += [place for (place,) in connection.execute(f"SELECT {column} FROM {table}") if place]
    store = yaml.safe_load((home / ".state/zenml/config.yaml").read_text())["store"]
    return [*found, store["url"], store["database"], store["backup_directory"]]


def follow_home(home: Path) -> list[str]:
    return list(follow(home / ".state" / "zenml", f"sqlite:///{home}/mlflow/store/mlflow.db"))


@pytest.mark.parametrize("names", [("old", "new"), ("a b", "it's $x #1 ü"), ("old", "old-2"), ("old/old", "old")])
def test_a_copied_home_names_itself_and_the_first_one_is_unchanged(tmp_path: Path, names: tuple[str, str]) -> None:
    old, new = tmp_path / "from" / names[0], tmp_path / "to" / names[1]
    make_databases(old)
    assert follow_home(old) == [], "where it was made"
    before = digest_folder(old)
    shutil.copytree(old, new)
    lines = follow_home(new)
    assert [line.split("'")[0] for line in lines] == ["ZenML", "MLflow"]
    assert str(old) in lines[1]
    assert str(new) in lines[1]
    places = [
        place.replace(quote(str(old)), quote(str(new))) if "file:" in place else place.replace(str(old), str(new))
        for place in named(old)
    ]
    assert named(new) == places
    assert {"s3://bucket/artifacts/3", "/scratch/artifacts/scratch"} < set(named(new)), "places of a user's choice"
    assert follow_home(new) == [], "it is done once"
    assert digest_folder(old) == before


def test_a_home_that_goes_back_and_forth_follows_each_time(tmp_path: Path) -> None:
    here, there = tmp_path / "host", tmp_path / "container" / "app"
    make_databases(here)
    first = named(here)
    there.parent.mkdir()
    for _ in range(2):
        here.rename(there)
        assert len(follow_home(there)) == 2
        assert not [place for place in named(there) if str(here) in place]
        there.rename(here)
        assert len(follow_home(here)) == 2
        assert named(here) == first


def test_a_home_moved_before_a_half_done_correction_is_completed(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    make_databases(old)
    follow_home(old)
    old.rename(new)
    config = (new / ".state/zenml/config.yaml").read_text()
    follow_home(new)
    (new / ".state/zenml/config.yaml").write_text(config)  # as if the program had ended between the two
    (new / "mlflow/store" / RECORD).unlink()
    assert [line.split("'")[0] for line in follow_home(new)] == ["ZenML"]
    assert not [place for place in named(new) if str(old) in place]


def test_servers_and_what_is_no_database_are_left_alone(tmp_path: Path) -> None:
    assert list(follow(tmp_path / "zenml", "https://mlflow.lab.org")) == []
    (tmp_path / "zenml").mkdir()
    (tmp_path / "zenml" / "config.yaml").write_text("store:\n  type: rest\n  url: https://zenml.lab.org\n")
    (tmp_path / "zenml" / ZENML_DATABASE).parent.mkdir(parents=True)
    (tmp_path / "zenml" / ZENML_DATABASE).write_bytes(b"none")
    (tmp_path / "mlflow.db").write_bytes(b"none")
    for text in (": no YAML", "[]", "store: 1", "store:\n  url: sqlite:////mnt/own.db"):
        (tmp_path / "zenml" / "config.yaml").write_text(text)
        assert list(follow(tmp_path / "zenml", f"sqlite:///{tmp_path}/mlflow.db")) == []


def test_a_moved_home_that_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    make_databases(old)
    old.rename(new)
    connect = sqlite3.connect

    def read_only(database: str, **options: object) -> sqlite3.Connection:
        return connect(database.replace("mode=rw", "mode=ro"), **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(NotAllowed, match=r"zenml.db: was moved, and the places .*readonly database.*; make it"):
        follow_home(new)
