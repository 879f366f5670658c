"""Trains on one subject, then on all with little more memory: ``python whole_brains.py ONE ALL ALLOWANCE_MB KEPT``.

ONE and ALL are studies' YAMLs. What is kept in memory for the sake of small studies is set to KEPT bytes. The allowance
is a limit of the process beyond what training on one subject has left behind; mapped files do not count.
"""

import sys
from pathlib import Path

from models.decoders import rows
from models.encoders import linear
from models.regressors import penalty
from models.weights import tensor_file
from studies.decoding import training_data, voxel_record
from studies.study import load_study
from studies.training.fit import fit
from tests.feature_store.whole_brain import limit_memory


def main(one: Path, everyone: Path, allowance: int, kept: int) -> None:
    """Fit both."""
    training_data.RESPONSES_BYTES = rows.FEATURES_BYTES = tensor_file.MEMORY_BYTES = linear.WHOLE_BYTES = kept
    rows.BLOCK_BYTES = voxel_record.BLOCK_BYTES = 2**22
    penalty.PROJECTED = 0
    fit(load_study(one))
    limit_memory(allowance)
    fit(load_study(everyone))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(float(sys.argv[3]) * 1e6), int(sys.argv[4]))
