"""New MLflow databases are copies of one that is set up once: its sixty migrations take seconds."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest


@pytest.fixture(scope="session")
def quick_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let MLflow set up its first local database itself, and copy that one wherever it would set up another."""
    from mlflow.store.db import utils
    from mlflow.store.model_registry import sqlalchemy_store
    from sqlalchemy import Engine

    set_up = utils._initialize_tables
    template = tmp_path_factory.mktemp("mlflow") / "template.db"

    def copy(engine: Engine) -> None:
        if engine.dialect.name != "sqlite" or not utils._is_empty_database(engine):
            set_up(engine)
            return
        with closing(sqlite3.connect(engine.url.database)) as database, closing(sqlite3.connect(template)) as kept:
            if template.stat().st_size:
                kept.backup(database)
            else:
                set_up(engine)
                database.backup(kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", copy)
        patch.setattr(sqlalchemy_store, "_initialize_tables", copy)
        yield
