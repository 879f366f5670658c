"""What was in production, as far as a command saw it: a list in a tag of the encoder's registered model.

A promotion adds who, when and why. A click in the MLflow UI leaves no trace, so each command that resolves production
compares what it finds with the last entry, and adds it as "set in the UI". What clicks set and replaced between two
commands is not known. Where two hosts write at the same time, one entry may be lost; what is in production then is
added again by the next command.
"""

import json
from datetime import UTC, datetime

from mlflow.entities.model_registry import RegisteredModel
from mlflow.tracking import MlflowClient
from pydantic import ConfigDict, TypeAdapter, ValidationError

from core.config import Config
from core.errors import RegistryError
from models.registry.client import client, explained, versions_of
from models.registry.sets import ENCODER, ModelSet, model_name, set_of_run

HISTORY = "production_history"
"""Tag of the encoder's registered model: the entries, oldest first."""
SINCE = "production_since"
"""Tag of every registered model: the last entry, with the model's own version."""
CLICKED = "set in the UI"
TOLD = ("run", "at", "by", "why")
LONGEST = 4500
"""Characters of the tag; MLflow's databases keep 5000."""
LONGEST_WHY = 500


class Entry(Config):
    """A set that was in production.

    Attributes
    ----------
    run : its training run
    versions : part to version
    at : when it was promoted; of a click, when a command first saw it; empty where that is not known
    by : who promoted it; empty for a click
    why : such as "better" or "forced: …"
    """

    run: str
    versions: dict[str, int]
    at: str = ""
    by: str = ""
    why: str = CLICKED

    model_config = ConfigDict(extra="ignore", frozen=True)  # of a later version

    def __str__(self) -> str:
        """Return ``since 2026-03-14T09:26:53Z by ada (better)``, or that it was set in the UI and first seen then."""
        if self.by:
            return f"since {self.at} by {self.by} ({self.why})"
        return f"as {self.why}, which keeps no time, first seen {self.at}" if self.at else f"as {self.why}"


_ENTRIES = TypeAdapter(list[Entry])


def entry(chosen: ModelSet, *, by: str = "", why: str = CLICKED) -> Entry:
    """Return the entry of a set that is in production as of now."""
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return Entry(run=chosen.run, versions=dict(chosen.versions), at=at, by=by, why=why[:LONGEST_WHY])


def read_history(study: str, previous: ModelSet | None = None) -> list[Entry]:
    """Return what is known to have been in production, oldest first.

    An earlier version keeps no list, but tells what it promoted last. Where there is no list, or the tag is damaged,
    what has the alias `previous` came before that.
    """
    model = _encoder(client(), study)
    tags = {} if model is None else model.tags
    try:
        entries = _ENTRIES.validate_json(tags[HISTORY])
    except (KeyError, ValidationError):
        earlier = "noted by an earlier version"
        entries = [] if previous is None else [Entry(run=previous.run, versions=previous.versions, why=earlier)]
    try:
        promoted = json.loads(tags[SINCE])
        last = Entry(versions={ENCODER: promoted["version"]}, **{name: promoted[name] for name in TOLD})
    except (KeyError, TypeError, ValueError):
        return entries
    newer = not entries or (last.run != entries[-1].run and last.at > entries[-1].at)
    return [*entries, last] if newer else entries


def write_history(study: str, entries: list[Entry]) -> None:
    """Write the list, without its oldest entries where it is too long, and the last one to every part's model."""
    connection, last = client(), entries[-1]
    text = _ENTRIES.dump_json(entries).decode()
    while len(text) > LONGEST and len(entries) > 2:
        entries = entries[1:]
        text = _ENTRIES.dump_json(entries).decode()
    connection.set_registered_model_tag(model_name(study, ENCODER), HISTORY, text)
    for part, version in last.versions.items():
        about = {**last.model_dump(exclude={"versions"}), "version": str(version)}
        connection.set_registered_model_tag(model_name(study, part), SINCE, json.dumps(about, sort_keys=True))


def earlier(entries: list[Entry], current: ModelSet | None) -> list[Entry]:
    """Return the last entry of every training but that of the set in production, newest first."""
    others = (known for known in reversed(entries) if current is None or known.run != current.run)
    runs: dict[str, Entry] = {}
    for known in others:
        runs.setdefault(known.run, known)
    return list(runs.values())


def before(study: str, parts: list[str], entries: list[Entry], current: ModelSet | None) -> tuple[Entry, ModelSet]:
    """Return what was in production before the set that is there, or last where none is.

    Raises
    ------
    RegistryError
        Nothing else is known to have been there, or its versions were deleted.
    """
    known = earlier(entries, current)
    if not known:
        raise RegistryError(
            f"{study}: there is nothing to roll back to: no other set is known to have been in production, and none "
            "has the alias 'previous'"
        )
    chosen, *older = known
    found = set_of_run(study, parts, chosen.run)
    if found is not None:
        return chosen, found
    gone = [model_name(study, part) for part in parts if not _has(study, part, chosen.run)]
    whole = next((one.run for one in older if set_of_run(study, parts, one.run) is not None), None)
    advice = f"'brain2video promote --run {whole}' returns to the one before it" if whole else "promote another one"
    raise RegistryError(
        f"{study}: training {chosen.run}, which was in production before, is no longer whole: {', '.join(gone)} has no "
        f"version of it, as where one is deleted in MLflow; {advice}"
    )


def _has(study: str, part: str, run: str) -> bool:
    return any(version.tags.get("training_run") == run for version in versions_of(model_name(study, part)))


def _encoder(connection: MlflowClient, study: str) -> RegisteredModel | None:
    name = model_name(study, ENCODER)
    with explained(study):
        return next(iter(connection.search_registered_models(f"name = '{name}'")), None)
