"""What a person reads of a registered version in the MLflow UI: its description, and tags to search by."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from models.registry.sets import ENCODER, Score, TrainedSet, role_of

SHORT = 12
"""Hex digits of a digest that a person is shown."""


def score_text(score: Score) -> str:
    """Return ``.631 [.620, .643]`` of a score, without the interval where there is none."""
    low, high = score["ci95"]
    interval = "" if low is None or math.isnan(low) else f" [{_number(low)}, {_number(high)}]"
    return f"{_number(score['value'])}{interval}"


def tags_of(trained: TrainedSet, part: str) -> dict[str, str]:
    """Return a version's tags: what reconstruction checks, and what a person may search by."""
    record = trained.record
    tags = {
        "study": trained.study,
        "part": part,
        "training_run": trained.run,
        "digest": trained.digests[part],
        "encoder_digest": trained.digests[ENCODER],
        "fingerprint": str(record["fingerprint"]),
        "record": json.dumps(record, sort_keys=True),
        "subjects": ", ".join(record["subjects"]),
    }
    tags |= {name: str(record[name]) for name in ("route", "git_commit", "zenml_run") if record.get(name)}
    tags |= {f"validation.{name}": score_text(score) for name, score in _scores(trained, part).items()}
    target = record.get("targets", {}).get(role_of(part))
    if target:
        tags |= {"target": target["name"], "extractor": target["extractor"], "extractor_revision": target["revision"]}
    return tags


def description(trained: TrainedSet, part: str, mlflow_run: str) -> str:
    """Return a version's description as Markdown: what it was trained on, and how good it is on held-out stimuli."""
    return "\n\n".join(["\n".join(_facts(trained, part, mlflow_run)), _score_table(trained, part), _note()])


def _scores(trained: TrainedSet, part: str) -> dict[str, Score]:
    """Return the scores that say something of a part: a regressor's are its role's, the encoder's are all."""
    return {
        name: score
        for name, score in trained.validation.items()
        if part == ENCODER or name.startswith(f"{role_of(part)}.")
    }


def _facts(trained: TrainedSet, part: str, mlflow_run: str) -> Iterator[str]:
    record = trained.record
    yield f"**{part}** of the study `{trained.study}`, training `{trained.run}`"
    yield f"- route: `{record.get('route', 'unknown')}`"
    yield f"- subjects: {', '.join(_subject(name, record) for name in record['subjects'])}"
    yield f"- voxels: {', '.join(record['rois']) if record.get('rois') else 'all'}"
    for role, target in record.get("targets", {}).items():
        if part in (ENCODER, f"regressor-{role}"):
            revision = target["revision"][:SHORT]
            yield f"- {role}: target `{target['name']}` of the extractor `{target['extractor']}`, revision `{revision}`"
    for name, digest in record.get("stores", {}).items():
        yield f"- data: `{name}` `{digest[:SHORT]}`"
    yield f"- files: `{trained.digests[part][:SHORT]}`, encoder `{trained.digests[ENCODER][:SHORT]}`"
    yield f"- commit `{record.get('git_commit', 'unknown')[:SHORT]}`, MLflow run `{mlflow_run}`" + (
        f", ZenML run `{record['zenml_run']}`" if record.get("zenml_run") else ""
    )


def _subject(name: str, record: dict[str, Any]) -> str:
    voxels = record.get("voxels", {}).get(name)
    return f"{name} ({voxels['voxels']:,} voxels)" if voxels else name


def _score_table(trained: TrainedSet, part: str) -> str:
    scores = _scores(trained, part)
    if not scores:
        return "No training stimuli were held out, so there are no validation scores."
    n = next(iter(scores.values()))["n"]
    rows = [f"| {name} | {score_text(score)} |" for name, score in scores.items()]
    return "\n".join([f"| {n} held-out training stimuli, mean removed | value [95 %] |", "|---|---|", *rows])


def _note() -> str:
    return (
        "Set the alias `production` on the encoder and every regressor of one training, or run `brain2video promote`; "
        "a mixed set is refused. Loading needs this project at the commit above; the files are safetensors and JSON."
    )


def _number(value: float) -> str:
    return re.sub(r"(?<!\d)0\.", ".", f"{value:.3f}")
