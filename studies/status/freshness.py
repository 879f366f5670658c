"""How fresh a store's groups are against what lies in their source now.

A look uses the digests that earlier looks remember of unchanged files; a stage that makes a group reads every file.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from core.checkout import project_root, relative_to_root
from core.digests import INPUTS
from core.errors import Brain2VideoError, ModelError, SourceError, SourceMissing, StoreCorrupted, StoreMissing
from core.files import canonical_json, digest_json
from feature_store.manifest import Manifest, how_to_restore, read_manifest
from feature_store.schema import MANIFEST
from feature_store.sources.base import Source
from feature_store.sources.settings import SourceConfig
from models.extractors.settings import ExtractorConfig, GivenConfig, PixelsConfig
from models.weights import locate
from studies.stores.responses import responses_made_from
from studies.stores.targets import target_made_from
from studies.study import Study

Level = Literal["good", "note", "bad"]
"""Nothing to do; something to know; something is broken."""

KINDS = ("responses", "targets")
FRESH = "fresh"
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
    judged: dict[Path, Freshness] = {}
    manifests: dict[Path, Manifest] = {}
    subjects = _subjects(study.source, source, study.store, judged)
    wanted = [study.store / "responses" / subject for subject in subjects]
    wanted += [study.store / "targets" / target for target in study.targets]
    for group in wanted:
        try:
            manifests[group] = read_manifest(group)
        except StoreMissing:
            judged[group] = Freshness("not made", how_to_restore(group))
        except StoreCorrupted as error:
            judged[group] = Freshness("damaged", str(error), "bad")
    with INPUTS.remembering(project_root() / ".state" / "status" / f"{study.study}.json") as notes:
        inputs = partial(_made_from, study, source)
        judged |= _compare_all(study.study, manifests, inputs, notes, full=full)
        for fingerprint in notes.keys() - {manifest.fingerprint for manifest in manifests.values()}:
            del notes[fingerprint]
    in_order = sorted(judged, key=lambda group: wanted.index(group) if group in wanted else -1)
    return {**{group: judged[group] for group in in_order}, **_others(study.store, judged)}


def _subjects(config: SourceConfig, source: Source, store: Path, judged: dict[Path, Freshness]) -> list[str]:
    """Return the subjects of a study: those it names, else the source's, else the store's."""
    if config.named_subjects is not None:
        return list(config.named_subjects)
    try:
        return list(source.subjects)
    except SourceError as error:
        subjects = [group.name for group in _published(store, "responses")]
        if not subjects:
            judged[store / "responses"] = Freshness(_state_of(error), str(error))
        return subjects


def _published(store: Path, kind: str) -> list[Path]:
    return sorted(path.parent for path in (store / kind).glob(f"[!.]*/{MANIFEST}"))


def _others(store: Path, known: dict[Path, Freshness]) -> dict[Path, Freshness]:
    """Return the groups that lie in the store and that the study does not name."""
    found = {}
    for group in (group for kind in KINDS for group in _published(store, kind) if group not in known):
        digest = ""
        with suppress(StoreCorrupted):
            digest = read_manifest(group).digest
        found[group] = Freshness("not in the study", "remove it, or name it in the study's YAML", digest=digest)
    return found


def _compare_all(
    study: str,
    manifests: dict[Path, Manifest],
    inputs: Callable[[Path], dict[str, Any] | Freshness],
    notes: dict[str, Any],
    *,
    full: bool,
) -> dict[Path, Freshness]:
    """Compare every published group with what it would be made from now; read only what is not remembered."""
    unread: dict[Path, dict[Path, int]] = {}
    now: dict[Path, dict[str, Any] | Freshness] = {}
    for group in manifests:
        with INPUTS.looking() as files:
            now[group] = inputs(group)
        unread[group] = {} if isinstance(now[group], Freshness) else files
    sizes = {file: size for files in unread.values() for file, size in files.items()}
    INPUTS.expected = len(sizes)
    if sum(sizes.values()) <= LIMIT_BYTES or full:
        now |= {group: inputs(group) for group, files in unread.items() if files}
    else:
        command = "run 'brain2video status --full'"
        size = {group: f"{sum(files.values()) / 1e9:,.1f} GB" for group, files in unread.items()}
        now |= {group: Freshness(f"not checked: {size[group]} to hash", command) for group in unread if unread[group]}
    found = {}
    for group, manifest in manifests.items():
        made = now[group]
        state = made if isinstance(made, Freshness) else _compared(study, group, manifest, made, notes)
        found[group] = replace(state, digest=manifest.digest)
    return found


def _made_from(study: Study, source: Source, group: Path) -> dict[str, Any] | Freshness:
    """Return what a group would be made from now, or why that cannot be known."""
    try:
        _require_here(project_root() / Path(study.source.path).expanduser())
        if group.parent.name == "responses":
            return responses_made_from(study.source, study.storage, source, group.name)
        config = study.targets[group.name]
        _require_weights(config)
        return target_made_from(study.source, source, group.name, config, study.clips)
    except (Brain2VideoError, OSError) as error:
        state = _state_of(error)
        return Freshness(state, str(error), "bad" if state == "source unreadable" else "note")


def _require_here(path: Path) -> None:
    if not path.exists():
        raise SourceMissing(
            f"{relative_to_root(path)}: not here, so whether the store is still made from it cannot be known"
        )


def _require_weights(config: ExtractorConfig) -> None:
    """Raise `ModelError` where an extractor's weights lie in no folder of this checkout; a look never fetches any."""
    if isinstance(config, GivenConfig | PixelsConfig):
        return
    if not any((project_root() / folder / config.weights).is_dir() for folder in ("", locate.DOWNLOADED)):
        raise ModelError(
            f"weights '{config.weights}': in no folder of this checkout; run 'brain2video download weights'"
        )


def _state_of(error: Exception) -> str:
    if isinstance(error, SourceMissing):
        return SOURCE_MISSING
    return "weights not here" if isinstance(error, ModelError) else "source unreadable"


def _compared(study: str, group: Path, manifest: Manifest, now: dict[str, Any], notes: dict[str, Any]) -> Freshness:
    parts = _parts(now)
    if digest_json(now) == manifest.fingerprint:
        notes[manifest.fingerprint] = parts
        return Freshness(FRESH, level="good")
    option = "responses --subject" if group.parent.name == "responses" else "targets --target"
    command = f"run 'brain2video {option} {group.name} -c configs/{study}.yaml'"
    before = notes.get(manifest.fingerprint)
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
