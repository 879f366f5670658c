"""Which home a command works on: the one that it is started in, as with git."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from brain2video.cli.app import main
from core.checkout import FOUND_HOME, HOME, MARKER, project_root, relative_to_root
from core.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[2]
SHOW = """
import core.environment, json, os
from core.checkout import current_home
print(json.dumps({"home": str(current_home()), **{name: os.environ.get(name) for name in (
    "ZENML_CONFIG_PATH", "MLFLOW_TRACKING_URI", "DVC_SITE_CACHE_DIR", "LOGNAME", "USER", "HOME")}}))
"""


def environment(**changed: str) -> dict[str, str]:
    """Return the environment of a shell in which nothing of ours is set."""
    ours = ("ZENML_", "MLFLOW_", "DVC_", "DASK_", "BRAIN2VIDEO_", "MPLCONFIGDIR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(CHECKOUT), **changed}


def seen_from(folder: Path, code: str = SHOW, **changed: str) -> dict[str, str]:
    """Return what a program sees that is started in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(**changed), capture_output=True, text=True, check=True
    )
    seen: dict[str, str] = json.loads(done.stdout)
    return seen


def make_home(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    return folder


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder outside any home: the tests' own lies in the checkout, which is one."""
    folder = Path(tempfile.mkdtemp(prefix="outside-", dir="/tmp")).resolve()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def nowhere(outside: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder outside any home."""
    monkeypatch.delenv(HOME, raising=False)
    monkeypatch.delenv(FOUND_HOME, raising=False)
    monkeypatch.chdir(outside)
    return outside


def test_a_home_is_found_upwards_by_its_marker_or_as_a_checkout(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = make_home(nowhere / "lab" / "study") / "configs" / "deep"
    inner.mkdir(parents=True)
    (nowhere / "lab" / "pyproject.toml").write_text('[project]\nname = "brain2video"\nversion = "1"\n')
    monkeypatch.chdir(inner)
    assert project_root() == nowhere / "lab" / "study", "the nearest"
    monkeypatch.chdir(nowhere / "lab")
    assert project_root() == nowhere / "lab"
    (nowhere / "lab" / "pyproject.toml").write_text('[project]\nname = "another"\n')
    with pytest.raises(ConfigError, match=r"no Brain2Video project, .* change into one, or set BRAIN2VIDEO_HOME"):
        project_root()


def test_a_program_works_on_the_home_that_it_stands_in_unless_it_is_told_another(outside: Path) -> None:
    first, second = make_home(outside / "first"), make_home(outside / "se con'd $x#ü")
    (second / "outputs").mkdir()
    assert seen_from(second / "outputs")["home"] == str(second)
    assert seen_from(second)["MLFLOW_TRACKING_URI"] == f"sqlite:///{second}/mlflow/store/mlflow.db"
    told = seen_from(second, **{HOME: str(first)})
    assert (told["home"], told["ZENML_CONFIG_PATH"]) == (str(first), f"{first}/.state/zenml")
    assert seen_from(first, **{HOME: "../first"})["home"] == str(first), "relative to where it was set"
    assert seen_from(outside) == {**seen_from(outside), "home": "None", "ZENML_CONFIG_PATH": None}


def test_a_program_that_another_one_started_follows_where_it_stands_and_else_the_other(outside: Path) -> None:
    first, second = make_home(outside / "first"), make_home(outside / "second")

    def started(where: Path, **changed: str) -> dict[str, str]:
        code = (
            "import core.environment, subprocess, sys\n"
            f"subprocess.run([sys.executable, '-c', {SHOW!r}], cwd={str(where)!r}, check=True)"
        )
        return seen_from(first, code, **changed)

    assert started(second)["home"] == str(second)
    for name, value in started(second).items():
        assert "first" not in str(value), f"{name} is of the home of the program that started it"
    assert started(outside)["home"] == str(first), "as workers do that stand elsewhere"
    own = started(second, MLFLOW_TRACKING_URI="http://lab:5000")
    assert own["MLFLOW_TRACKING_URI"] == "http://lab:5000", "what the user has set stays"


def test_a_path_by_another_name_of_the_home_or_of_a_linked_folder_is_relative(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, disk = make_home(nowhere / "home"), nowhere / "disk"
    (disk / "demo").mkdir(parents=True)
    (home / "data").symlink_to(disk)
    (nowhere / "name").symlink_to(home)
    monkeypatch.setenv(HOME, str(nowhere / "name"))
    assert project_root() == home
    assert relative_to_root(home / "data" / "demo") == "data/demo"
    assert relative_to_root(nowhere / "name" / "data" / "demo") == "data/demo"
    assert relative_to_root(nowhere / "name" / "outputs") == "outputs"
    assert relative_to_root((home / "data" / "demo").resolve()) == "data/demo"
    assert relative_to_root(nowhere / "other") == str(nowhere / "other")


def test_a_user_id_that_the_system_does_not_know_gets_a_name_and_a_folder(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    code = (
        "import os, pwd\n"
        "def unknown(uid): raise KeyError(f'getpwuid(): uid not found: {uid}')\n"
        "pwd.getpwuid = unknown\n"
        "for name in ('LOGNAME', 'USER', 'LNAME', 'USERNAME', 'HOME'): os.environ.pop(name, None)\n"
        "import sys; sys.modules.pop('core.environment', None)\n"
        f"{SHOW}\n"
        "import getpass, pathlib; assert getpass.getuser() == f'uid-{os.getuid()}'; pathlib.Path.home()"
    )
    seen = seen_from(home, code)
    assert seen["USER"] == seen["LOGNAME"] == f"uid-{os.getuid()}"
    assert seen["HOME"] == f"{home}/.state/home"


def test_another_checkouts_code_is_told_and_no_folder_is_refused(tmp_path: Path) -> None:
    second = make_home(tmp_path / "second")
    (second / "core").mkdir()
    (second / "core" / "checkout.py").touch()
    run = [sys.executable, "-c", "from brain2video.cli.app import main; main()", "metrics"]

    def metrics(**changed: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(run, cwd=second, env=environment(**changed), capture_output=True, text=True)

    done = metrics()
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"note: works on {second} with the code of {CHECKOUT}; 'make setup' here gives")
    done = metrics(BRAIN2VIDEO_HOME="/nonexistent")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "BRAIN2VIDEO_HOME is /nonexistent: no such folder" in done.stderr


@pytest.mark.parametrize("command", [["status"], ["train"], ["run", "-c", "configs/demo.yaml"], ["verify"]])
def test_a_command_that_needs_a_home_is_refused_in_one_line_where_there_is_none(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["brain2video", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1)
    assert f"{nowhere}: no Brain2Video project" in error
    assert not list(nowhere.iterdir()), "nothing is written"


@pytest.mark.parametrize("name", ["a b", "it's $x #1"])
def test_make_works_in_its_own_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / file, folder)

    def planned() -> str:
        command = ["make", "-n", "setup", f"PYTHON={sys.executable}"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

    assert "-m venv  .venv" in planned()
    assert (folder / ".state" / "tmp").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing is written elsewhere"
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".ready").write_text(f"{folder}\n")
    assert "venv" not in planned().replace("'setup'", ""), "up to date"
    (folder / ".venv" / ".ready").write_text("/where/it/was\n")
    assert "-m venv --clear .venv" in planned(), "programs of a .venv name its place"
