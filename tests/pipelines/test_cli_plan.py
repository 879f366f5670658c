"""`brain2video plan` on the command line: a study with nothing here, JSON, and what a user may get wrong."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from brain2video.cli.commands.plan import counts, plan, supposed
from brain2video.cli.tables.plan import size
from core.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def called(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(plan)
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


def test_bold_moments_is_planned_with_nothing_here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    shown = called(
        "-c", str(CONFIGS / "bold_moments.yaml"), "--set", "training.routes={ridge: {}}", "--gpu-memory", "8, 24"
    )
    assert shown.exit_code == 0
    words = " ".join(shown.output.split())
    for part in (
        "1 subject, 1,102 stimuli (1,000 to train, 102 to test), 4,020 trials, 6,682 voxels",
        "declared by the dataset",
        "cerspense/zeroscope_v2_576w",
        "1000×24×4×40×72",
        "ask the bucket, which knows their bytes: brain2video download bold-moments data/bold_moments/ds005165",
        "memory of a GPU",
        "fits 24 GB",
        "the clips are not on OpenNeuro",
    ):
        assert part in words, part
    assert "fits 16 GB" not in words
    assert not list(home.rglob("*.zarr"))
    latents, together = (
        line for line in shown.output.splitlines() if "│ latents " in line or "│ all together " in line
    )
    assert [word.strip() for word in latents.split("│")][-3:-1] == ["no", "yes"]
    assert [word.strip() for word in together.split("│")][-3:-1] == ["no", "yes"]


def test_json_says_the_same_and_nothing_else(home: Path) -> None:
    shown = called("-c", str(CONFIGS / "digits69.yaml"), "--json", "--subjects", "5")
    told = json.loads(shown.stdout)
    assert told["schema"] == 2
    assert not {"hours", "assumptions"} & set(told)
    assert told["trials"] == {"train": 90, "test": 10}
    assert told["voxels"] == [3092, 3092]
    assert [one["subjects"] for one in told["scales"]] == [5]
    assert {one["name"] for one in told["groups"]} == {"responses/sub-01", "targets/pixels"}


@pytest.mark.parametrize(
    "option", ["--gpu-hour", "--gb-month", "--gpu-tflops", "--gpu-float32-tflops", "--efficiency", "--rates"]
)
def test_options_of_hours_and_money_are_refused_with_the_reason(home: Path, option: str) -> None:
    with pytest.raises(ConfigError, match=rf"{option}\b.*: removed, with the hours and the money") as error:
        called("-c", str(CONFIGS / "digits69.yaml"), option, "1")
    assert "\n" not in str(error.value)
    assert option not in called("--help").output


def test_what_is_not_here_can_be_supposed(home: Path) -> None:
    arguments = ("-c", str(CONFIGS / "bids_example.yaml"), "--json", "--subjects", "")
    with pytest.raises(ConfigError, match="say for example --assume"):
        called(*arguments)
    told = json.loads(called(*arguments, "--assume", "subjects=3,voxels=1000,train=50x2,test=10x4").stdout)
    assert told["subjects"] == 3
    assert told["trials"] == {"train": 300, "test": 120}
    assert told["scales"] == []


@pytest.mark.parametrize("text", ["0", "ten", "10,-1", "1e3", "9999999"])
def test_counts_that_are_none_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="--subjects .* is no number from 1 to 100000"):
        counts("--subjects", text, "10,100")


@pytest.mark.parametrize("text", ["voxels", "voxels=", "=3", "voxels=3,train"])
def test_suppositions_without_a_value_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="is not KEY=VALUE"):
        supposed(text)


def test_counts_are_read() -> None:
    assert counts("--subjects", "10, 100,1000", "10") == [10, 100, 1000]
    assert counts("--subjects", "", "10") == []


def test_sizes_are_written_as_people_do() -> None:
    assert [size(n) for n in (12, 4_500, 2_110_000_000, 1_850e9)] == ["12 B", "4.5 kB", "2.11 GB", "1.85 TB"]
