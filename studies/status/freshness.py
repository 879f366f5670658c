"""How fresh a store's groups are against what lies in their source now.

A look goes by what `studies.status.file_memory` remembers of the files; whoever writes a group reads every one.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core.checkout import project_root, relative_to_root
from core.errors import Brain2VideoError, ModelError, SourceError, SourceMissing, StoreCorrupted, StoreMissing
from core.files import canonical_json, digest_json
from feature_store.manifest import Manifest, how_to_restore, read_manifest
from feature_store.schema import MANIFEST
from feature_store.sources.base import Source
from studies.status.file_memory import Glance, Memory
from studies.stores.responses import responses_made_from
from studies.stores.targets import target_made_from
from studies.study import Study

Level = Literal["good", "note", "bad"]
"""Nothing to do; something to know; something is broken."""

KINDS = ("responses", "targets")
SOURCE_MISSING = "source not here"
LIMIT_BYTES = 2_000_000_000
"""What is hashed at most without being asked to: some seconds."""


@dataclass(frozen=True)
class Freshness:
    """What there is to say of one group.

    Attributes
    ----------
    state : "fresh", "stale: … changed", "stale" where nothing tells what changed, "not made", "source not here",
        "weights not here", "source unreadable", "not checked: …", "damaged" or "not in the study"
    detail : what to do about it, or what is known beside
    digest : of the group's content; empty where no manifest tells it
    """

    state: str
    detail: str = ""
    level: Level = "note"
    digest: str = ""


def freshness(study: Study, *, full: bool = False) -> dict[Path, Freshness]:
    """Return how fresh every group is that the study should have, and which others lie in its store.

    Parameters
    ----------
    study : Study
    full : bool
        Whether to hash what is not remembered however much it is; else `LIMIT_BYTES` at most.
    """
    source = study.source.build(project_root())
    memory = Memory(project_root() / ".state" / "status" / f"{study.study}.json")
    judged: dict[Path, Freshness] = {}
    manifests: dict[Path, Manifest] = {}
    wanted = _wanted(study, source, judged)
    for group in wanted:
        try:
            manifests[group] = read_manifest(group)
        except StoreMissing:
            judged[group] = Freshness("not made", how_to_restore(group))
        except StoreCorrupted as error:
            judged[group] = Freshness("damaged", str(error), "bad")
    judged |= _judge(study, source, manifests, memory, full=full)
    memory.save({manifest.fingerprint for manifest in manifests.values()})
    in_order = sorted(judged, key=lambda group: wanted.index(group) if group in wanted else -1)
    return {**{group: judged[group] for group in in_order}, **_others(study, judged)}


def _wanted(study: Study, source: Source, judged: dict[Path, Freshness]) -> list[Path]:
    """Return the groups of the study, in its order; where nobody tells the subjects, those of the store."""
    subjects = study.source.named_subjects
    if subjects is None:
        try:
            subjects = source.subjects
        except SourceError as error:
            subjects = [group.name for group in _published(study, "responses")]
            if not subjects:
                judged[study.store / "responses"] = Freshness(_state_of(error), str(error))
    return [
        *(study.store / "responses" / subject for subject in subjects),
        *(study.store / "targets" / target for target in study.targets),
    ]


def _published(study: Study, kind: str) -> list[Path]:
    return sorted(path.parent for path in (study.store / kind).glob(f"[!.]*/{MANIFEST}"))


def _others(study: Study, known: dict[Path, Freshness]) -> dict[Path, Freshness]:
    """Return the groups that lie in the store and that the study does not name."""
    found = {}
    for group in (group for kind in KINDS for group in _published(study, kind) if group not in known):
        digest = ""
        with suppress(StoreCorrupted):
            digest = read_manifest(group).digest
        found[group] = Freshness("not in the study", "remove it, or name it in the study's YAML", digest=digest)
    return found


def _judge(
    study: Study, source: Source, manifests: dict[Path, Manifest], memory: Memory, *, full: bool
) -> dict[Path, Freshness]:
    """Hold every published group against what it would be made from now: glance first, hash only what has to be."""
    glances = {group: Glance(memory) for group in manifests}
    made = {group: _made_from(study, source, group, glances[group]) for group in manifests}
    unknown = {path: size for glance in glances.values() for path, size in glance.unknown.items()}
    memory.expected = len(unknown.keys() - {path for glance in glances.values() for path in glance.weights})
    judged = {}
    for group, manifest in manifests.items():
        here = glances[group].unknown
        if here and isinstance(made[group], dict):
            if sum(unknown.values()) > LIMIT_BYTES and not full:
                size = f"{sum(here.values()) / 1e9:,.1f} GB"
                made[group] = Freshness(f"not checked: {size} to hash", "run 'brain2video status --full'")
            else:
                made[group] = _made_from(study, source, group, memory)
        now = made[group]
        found = now if isinstance(now, Freshness) else _compared(study, group, manifest, now, memory)
        judged[group] = replace(found, digest=manifest.digest)
    return judged


def _made_from(study: Study, source: Source, group: Path, digests: Memory | Glance) -> dict[str, Any] | Freshness:
    """Return what a group would be made from now, or why nobody can say."""
    try:
        _look_for(study)
        if group.parent.name == "responses":
            return responses_made_from(study, source, group.name, digests.digest)
        revision = digests.revision(study.targets[group.name])
        return target_made_from(study, source, group.name, revision, digests.digest)
    except (Brain2VideoError, OSError) as error:
        state = _state_of(error)
        return Freshness(state, str(error), "bad" if state == "source unreadable" else "note")


def _look_for(study: Study) -> None:
    path = project_root() / Path(study.source.path).expanduser()
    if not path.exists():
        raise SourceMissing(
            f"{relative_to_root(path)}: not here, so nobody can tell whether the store is still made from it"
        )


def _state_of(error: Exception) -> str:
    if isinstance(error, SourceMissing):
        return SOURCE_MISSING
    return "weights not here" if isinstance(error, ModelError) else "source unreadable"


def _compared(study: Study, group: Path, manifest: Manifest, now: dict[str, Any], memory: Memory) -> Freshness:
    parts = _parts(now)
    if digest_json(now) == manifest.fingerprint:
        memory.made_from[manifest.fingerprint] = parts
        return Freshness("fresh", level="good")
    option = "responses --subject" if group.parent.name == "responses" else "targets --target"
    command = f"run 'brain2video {option} {group.name} -c configs/{study.study}.yaml'"
    before = memory.made_from.get(manifest.fingerprint)
    changed = [] if before is None else [name for name in parts if parts[name] != before.get(name)]
    if before is None or not changed:
        return Freshness("stale", f"made from other files, settings or code; {command}")
    if "settings" in changed:
        command = f"{_difference(before['settings'], parts['settings'])}; {command}"
    return Freshness(f"stale: {' and '.join(changed)} changed", command)


def _parts(made: dict[str, Any]) -> dict[str, Any]:
    """Return what can be told apart in what a group is made from, in the words of a person."""
    settings = json.loads(canonical_json({"source": made["source"], **made["parameters"]}))  # as it is read again
    weights = settings.pop("revision", None)
    return {
        "source files": digest_json(made["inputs"]),
        "settings": _leaves(settings),
        "weights": weights,
        "code": digest_json([made["code"], made["encoding"]]),
    }


def _leaves(value: Any, where: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {where: value}
    leaves: dict[str, Any] = {}
    for name, one in value.items():
        leaves |= _leaves(one, f"{where}.{name}" if where else name)
    return leaves


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return the first setting that differs, and how many more do."""
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]} was {before.get(names[0])}, is {now.get(names[0])}{more}"
