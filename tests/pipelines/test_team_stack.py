"""A team's servers on the loopback: ZenML on MariaDB, MLflow with users on PostgreSQL, artifacts and DVC on S3.

The demo study runs on them as `docs/scale.md` says, by commands in processes of their own, and in a home of its own.
"""

import json
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.files import digest_folder

from ..servers import BUCKET, KEYS, OTHER, USER, Tracking, as_administrator, owner
from ..small_demo import make_small
from ..zenml_server import ZenMLServer, rows, without_zenml, zenml_server  # noqa: F401 - a fixture
from .conftest import CHECKOUT

PARTS = ("encoder", "regressor-z", "regressor-b")
PROGRAMS = {
    "brain2video": "from brain2video.cli.app import main; main()",
    "zenml": "from zenml.cli.cli import cli; cli()",
    "dvc": "from dvc.cli import main; sys.exit(main(sys.argv[1:]))",
}
SECOND = "training.routes={plain: {regressor: {kind: ridge, penalty_per: target}}}"


@dataclass
class Lab:
    """A scientist's home, and the servers that it works with."""

    name: str
    home: Path
    environment: dict[str, str]
    zenml: ZenMLServer
    mlflow: Tracking

    @property
    def outputs(self) -> Path:
        """Where the study's newest videos lie."""
        return self.home / "outputs" / self.name / "latest"

    @property
    def data(self) -> Path:
        """Where its recordings and stores lie."""
        return self.home / "data" / self.name

    def run(self, program: str, *arguments: str, **more: str) -> str:
        """Run a command as in a terminal, and return what it said."""
        return self.python(f"import sys; sys.argv[0] = {program!r}; {PROGRAMS[program]}", *arguments, **more)

    def python(self, code: str, *arguments: str, **more: str) -> str:
        """Run some Python in a process of its own, and return what it said."""
        done = subprocess.run(
            [sys.executable, "-c", f"import core.environment\n{code}", *arguments],
            cwd=self.home,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=900,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def keys(self, prefix: str) -> set[str]:
        """What lies in the bucket below a prefix."""
        pages = owner(str(self.mlflow.s3)).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {item["Key"] for page in pages for item in page.get("Contents", [])}

    def manifest(self) -> dict[str, Any]:
        """What the newest reconstruction says of itself."""
        content: dict[str, Any] = json.loads((self.outputs / "manifest.json").read_text())
        return content


@pytest.fixture(scope="module", params=["small", pytest.param("whole", marks=pytest.mark.full)])
def lab(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    zenml_server: ZenMLServer,  # noqa: F811
    team_server: Tracking,
) -> Iterator[Lab]:
    """The demo study, run once on a team's servers: a small one of the same kind, or the whole as it is."""
    name = f"team-{request.param}"
    home = tmp_path_factory.mktemp(name) / "home"
    made = Lab(name, home, settings_of(home, zenml_server, team_server), zenml_server, team_server)
    set_up_checkout(home, name, small=request.param == "small")
    set_up_stack(made)
    made.run("brain2video", "run", "-c", "configs/demo.yaml")
    yield made
    shutil.rmtree(home)


def settings_of(home: Path, zenml: ZenMLServer, mlflow: Tracking) -> dict[str, str]:
    """What a scientist sets: two addresses, a key, a name and a password; not the keys of the bucket."""
    user, password = USER
    return without_zenml(
        **zenml.client(),
        MLFLOW_TRACKING_URI=mlflow.uri,
        MLFLOW_TRACKING_USERNAME=user,
        MLFLOW_TRACKING_PASSWORD=password,
        BRAIN2VIDEO_HOME=str(home),
        HOME=str(home.parent),
        PYTHONPATH=str(CHECKOUT),
        NO_PROXY="127.0.0.1",
        no_proxy="127.0.0.1",
    )


def set_up_checkout(home: Path, name: str, *, small: bool) -> None:
    """Lay out what a clone holds; the code itself is imported from this checkout, so the stages depend on none."""
    for part in ("configs", "mlflow/promotion.yaml", "models/small_world", ".dvc/config", ".gitignore", "dvc.yaml"):
        source, destination = CHECKOUT / part, home / part
        destination.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, destination)
    for path in (home / "dvc.yaml", home / "configs" / "demo.yaml"):
        path.write_text(path.read_text().replace("data/demo/", f"data/{name}/"))
    with editing(home / "dvc.yaml") as stages:
        for stage in stages["stages"].values():
            stage["deps"] = [path for path in stage.get("deps", []) if path.startswith("data/")]
    with editing(home / "configs" / "demo.yaml") as study:
        study["study"] = name
        if small:
            make_small(study)
    subprocess.run(["git", "init", "-q"], cwd=home, check=True)


@contextmanager
def editing(path: Path) -> Iterator[Any]:
    """Change what a YAML file says."""
    content = yaml.safe_load(path.read_text())
    yield content
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def set_up_stack(lab: Lab) -> None:
    """Keep the bucket's keys as ZenML's secret, and load the stack's file with the lab's own places filled in."""
    keys = [f"--{name.lower()}={KEYS[name]}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    lab.run("zenml", "secret", "create", f"{lab.name}-s3", *keys)
    shutil.copy(CHECKOUT / "configs" / "stacks" / "team.yaml", lab.home)
    with editing(lab.home / "team.yaml") as stack:
        stack["stack_name"], store = lab.name, stack["components"]["artifact_store"]
        store["name"] = lab.name
        store["configuration"] |= {
            "path": f"s3://{BUCKET}/{lab.name}",
            "authentication_secret": f"{lab.name}-s3",
            "client_kwargs": {"endpoint_url": lab.mlflow.s3},
        }
    lab.run("zenml", "stack", "import", "team.yaml")
    lab.run("zenml", "stack", "set", lab.name)


def test_the_study_is_rendered(lab: Lab) -> None:
    videos = sorted((lab.outputs / "videos").glob("*.mp4"))
    expected = yaml.safe_load((lab.home / "configs/demo.yaml").read_text())["simulation"]["n_test"]
    assert len(videos) >= expected
    assert all(video.stat().st_size > 500 for video in videos)
    scores = json.loads((lab.outputs / "metrics.json").read_text())["rows"]
    told, shuffled = (scores[name]["pixels.two_way"]["value"] for name in ("reconstruction", "shuffled_brain"))
    assert told > max(0.6, shuffled)


def test_zenmls_rows_are_in_mariadb_and_its_artifacts_in_the_bucket(lab: Lab) -> None:
    runs = rows(
        lab.zenml,
        "select r.status, count(s.id) from pipeline_run r join pipeline p on p.id = r.pipeline_id "
        "join pipeline_snapshot d on d.id = r.snapshot_id join stack k on k.id = d.stack_id "
        "join step_run s on s.pipeline_run_id = r.id "
        f"where k.name = '{lab.name}' and p.name = 'main' group by r.id",
    )
    assert [status for status, _ in runs] == ["completed"]
    assert runs[0][1] >= 8, "as many steps as there are subjects, targets and stages"
    where = f"s3://{BUCKET}/{lab.name}/"
    uris = {uri for (uri,) in rows(lab.zenml, f"select uri from artifact_version where uri like '{where}%'")}
    kept = {f"s3://{BUCKET}/{key}" for key in lab.keys(f"{lab.name}/")}
    references = {key.removesuffix("/reference.json") for key in kept if key.endswith("/reference.json")}
    assert references
    assert references <= uris, "every reference in the bucket has its row"
    assert any(key.endswith("/gallery.html") for key in kept), "the dashboard shows the gallery from the bucket"


def test_a_reference_is_read_back_through_the_server(lab: Lab) -> None:
    code = (
        "from zenml.client import Client\n"
        "run = Client().list_pipeline_runs(pipeline='main', size=1, sort_by='desc:created').items[0]\n"
        "step = run.steps['reconstruct_videos']\n"
        "print(step.output.load().folder, [shown.uri for shown in step.output.visualizations])\n"
    )
    said = lab.python(code)
    assert f"outputs/{lab.name}/" in said
    assert "gallery.html" in said


def test_no_sqlite_and_no_secret_in_the_home(lab: Lab) -> None:
    files = [path for path in lab.home.rglob("*") if path.is_file() and not path.is_symlink()]
    content = {path.relative_to(lab.home): path.read_bytes() for path in files}
    sqlite = [path for path, read in content.items() if read.startswith(b"SQLite format 3")]
    assert [path for path in sqlite if ".dvc" not in path.parts and "dvc" not in path.parts] == [], "but DVC's own"
    secrets = [USER[1].encode(), lab.zenml.key.encode()]
    assert [path for path, read in content.items() if any(secret in read for secret in secrets)] == []
    [(kept,)] = rows(lab.zenml, f"select `values` from secret where name = '{lab.name}-s3'")
    assert not kept.startswith(b64encode(b'{"aws_').decode()), "encrypted, not only encoded"


def test_the_stores_go_to_the_bucket_and_come_back_bit_for_bit(lab: Lab) -> None:
    settings = {"verify": "true", "endpointurl": str(lab.mlflow.s3)}
    lab.run("dvc", "remote", "add", "-d", "lab", f"s3://{BUCKET}/{lab.name}-dvc")
    for name, value in settings.items():
        lab.run("dvc", "remote", "modify", "lab", name, value)
    groups = sorted(path.parent for path in lab.data.glob("features.zarr/*/*/MANIFEST.json"))
    before = {group: digest_folder(group) for group in groups}
    assert len(before) == 6
    lab.run("dvc", "push", **KEYS)
    for folder in (*before, lab.data / "bold-moments", lab.home / ".dvc" / "cache"):
        shutil.rmtree(folder)
    lab.run("dvc", "pull", **KEYS)
    assert {group: digest_folder(group) for group in before} == before
    lab.run("brain2video", "verify", "-c", "configs/demo.yaml")


@pytest.mark.full
def test_a_promotion_on_the_teams_server_takes_effect(lab: Lab) -> None:
    first = lab.manifest()["models"]
    assert set(first["versions"]) == set(PARTS)
    lab.run("brain2video", "train", "-c", "configs/demo.yaml", "--set", SECOND)
    for part in PARTS:
        promoted = {"name": f"{lab.name}-{part}", "alias": "production", "version": str(first["versions"][part] + 1)}
        assert as_administrator(lab.mlflow.uri, "POST", "registered-models/alias", promoted, who=OTHER) == 200
    lab.run("brain2video", "reconstruct", "-c", "configs/demo.yaml")
    second = lab.manifest()["models"]
    assert second["versions"] == {part: version + 1 for part, version in first["versions"].items()}
    assert second["training"] != first["training"]
