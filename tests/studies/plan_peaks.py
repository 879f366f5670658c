"""Ingests, extracts and trains a study, and prints each stage's peak of resident memory: ``python plan_peaks.py JSON``.

The peak is set back before each stage, so one process serves all; what an earlier stage has left counts.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from studies.stores.responses import ingest, subjects_of
from studies.stores.targets import extract
from studies.study import Study
from studies.training.fit import fit


def measured(work: Callable[[], object]) -> int:
    """Return the most resident bytes while something is done."""
    Path("/proc/self/clear_refs").write_text("5")
    work()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def main(file: Path) -> None:
    """Measure every stage."""
    study = Study.model_validate_json(file.read_text())
    peaks = {
        "ingest": measured(lambda: [ingest(study, subject) for subject in subjects_of(study.source)]),
        "extract": measured(lambda: [extract(study, target) for target in study.targets]),
        "train": measured(lambda: fit(study)),
    }
    sys.stdout.write(json.dumps(peaks) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
