"""A new user's first steps: recordings are simulated in a form like their own, and the example study runs as it is."""

from pathlib import Path

import pytest

from core.files import read_json

from .conftest import CHECKOUT, Here

PLACES = {"arrays": "data/arrays_example/recordings", "bids": "data/bids_example/dataset"}


@pytest.mark.full
@pytest.mark.parametrize("form", PLACES)
def test_simulate_and_run_reach_a_gallery_above_chance(here: Here, cli_home: Path, form: str) -> None:
    config = str(CHECKOUT / "configs" / f"{form}_example.yaml")
    done = here("simulate", PLACES[form], "--form", form)
    assert done.code == 0, done.stderr
    assert f"next: brain2video run -c configs/{form}_example.yaml" in done.stdout
    done = here("run", "-c", config)
    assert done.code == 0, done.stderr
    latest = cli_home / "outputs" / f"{form}_example" / "latest"
    assert (latest / "gallery.html").is_file()
    rows = read_json(latest / "metrics.json")["rows"]
    low, _ = rows["reconstruction"]["pixels.two_way"]["ci95"]
    assert low > 0.6
    assert abs(rows["shuffled_brain"]["pixels.two_way"]["value"] - 0.5) < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--form", "bid"], "--form: found 'bid', expected arrays or bids; did you mean 'bids'?"),
        (["x", "--form", "bids", "-c", "configs/small.yaml"], "writes recordings of no study, and replaces none"),
        (["x", "--form", "arrays", "--set", "seed=2"], "leave out -c, --set and --replace"),
        (["x", "--seed", "2"], "--seed: goes with --form; a study's own seed is --set simulation.seed=N"),
        (["recordings", "--form", "arrays"], "recordings: is not empty; name a folder that is empty or not there"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(here: Here, cli_home: Path, arguments: list[str], message: str) -> None:
    done = here("simulate", *arguments)
    assert done.code == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert not (cli_home / "x").exists()


def test_routes_that_a_study_lacks_are_refused_with_those_that_it_has(here: Here) -> None:
    for command in ("run", "train"):
        done = here(command, "-c", str(CHECKOUT / "configs" / "arrays_example.yaml"), "--routes", "ridge,pac")
        assert done.code == 2
        assert "--routes: arrays_example has no route 'pac'; it has ridge, matched, pca" in done.stderr
