"""Ingests, extracts or trains a study, and prints the peak of resident memory: ``python plan_peaks.py JSON STAGE``.

Each stage has a process of its own, which imports what that stage needs.
"""

import re
import sys
from pathlib import Path

from studies.study import Study


def work(study: Study, stage: str) -> None:
    """Do what a stage does."""
    if stage == "ingest":
        from studies.stores.responses import ingest, subjects_of

        for subject in subjects_of(study.source):
            ingest(study, subject)
    elif stage == "extract":
        from studies.stores.targets import extract

        for target in study.targets:
            extract(study, target)
    else:
        from studies.training.fit import fit

        fit(study)


def main(file: Path, stage: str) -> None:
    """Do a stage, and print the most resident bytes of this process."""
    work(Study.model_validate_json(file.read_text()), stage)
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    sys.stdout.write(f"{1024 * int(found[1])}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
