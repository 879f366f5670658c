"""A download that is killed at any moment: the next one goes on from what came, and the tree is the source's."""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from .conftest import publish
from .test_download import Counting, bring, tree

SLOW = """
import sys, time
from pathlib import Path
from feature_store import remote

class Slow(remote.Bucket):
    def read(self, item, start=0):
        for piece in super().read(item, start):
            time.sleep(0.005)
            yield piece

remote.CHUNK = 1 << 15
bucket = Slow("openneuro.org", "ds005165/", region="us-east-1", endpoint=sys.argv[1], jobs=3)
download = remote.Download(bucket, Path(sys.argv[2]))
plan = download.plan(bucket.find({"data": ()}))
print("begins", flush=True)
download.fetch(plan)
"""


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.full)])
def test_killed_at_any_moment_the_next_run_goes_on(
    s3: str, tmp_path: Path, rng: np.random.Generator, kills: int
) -> None:
    content = {f"data/{name}.pkl": rng.bytes(int(rng.integers(2, 4) * 2**20)) for name in "abcdef"}
    publish(s3, content)
    cut = 0
    for number in range(kills):
        folder = tmp_path / str(number)
        with subprocess.Popen([sys.executable, "-c", SLOW, s3, str(folder)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begins\n"
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 1.2))
            process.kill()
        left = tree(folder) if folder.exists() else {}
        finished = {name for name in left if not name.endswith(".partial")}
        begun = {name.split(".")[1]: len(data) for name, data in left.items() if name.endswith(".partial")}
        cut += bool(begun)
        second = Counting(s3)
        bring(second, folder)
        assert tree(folder) == content
        assert {key for key, _ in second.reads} <= {*content} - finished, "no finished file is fetched again"
        assert all(start == begun.get(key[5], 0) for key, start in second.reads), "what was begun is continued"
        shutil.rmtree(folder)
    assert cut, "no kill met a file under way"
