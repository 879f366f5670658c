"""How fresh a store's groups are against what lies in their source now.

Digests of files are remembered in `.state/status/`, so that a second look does not read gigabytes again. Only a look
trusts them: whoever writes a group reads every file.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core.errors import Brain2VideoError, ModelError, SourceError, SourceMissing, StoreCorrupted, StoreMissing
from core.files import canonical_json, digest_file, digest_json, read_json, write_json
from core.progress import report
from feature_store.manifest import Manifest, mend, read_manifest
from feature_store.schema import MANIFEST
from feature_store.sources.base import Source
from models import hub
from models.extractors.config import ExtractorConfig, GivenConfig, PixelsConfig
from studies.extract import target_made_from
from studies.home import home, shown
from studies.ingest import responses_made_from
from studies.study import Study

Level = Literal["good", "note", "bad"]
"""Nothing to do; something to know; something is broken."""

KINDS = ("responses", "targets")
SOURCE_MISSING = "source not here"
LIMIT_BYTES = 2_000_000_000
"""What is hashed at most without being asked to: some seconds."""
SETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was hashed may change again within one tick of its file system's clock."""
MEMORY_SCHEMA = 1

VAE, TEXT = hub.files_of(hub.VAE), hub.files_of(hub.TEXT)
OF_WEIGHTS: dict[str, Sequence[str]] = {"latents": VAE, "text": TEXT, "clip": hub.VISION, "blip": hub.VISION}
"""Which files of a model an extractor's revision covers, to tell how much is to be hashed."""


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
    source = study.source.build(home())
    memory = Memory(home() / ".state" / "status" / f"{study.study}.json")
    judged: dict[Path, Freshness] = {}
    manifests: dict[Path, Manifest] = {}
    wanted = _wanted(study, source, judged)
    for group in wanted:
        try:
            manifests[group] = read_manifest(group)
        except StoreMissing:
            judged[group] = Freshness("not made", mend(group))
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
    study: Study, source: Source, manifests: dict[Path, Manifest], memory: "Memory", *, full: bool
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


def _made_from(study: Study, source: Source, group: Path, digests: "Memory | Glance") -> dict[str, Any] | Freshness:
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
    path = home() / Path(study.source.path).expanduser()
    if not path.exists():
        raise SourceMissing(f"{shown(path)}: not here, so nobody can tell whether the store is still made from it")


def _state_of(error: Exception) -> str:
    if isinstance(error, SourceMissing):
        return SOURCE_MISSING
    return "weights not here" if isinstance(error, ModelError) else "source unreadable"


def _compared(study: Study, group: Path, manifest: Manifest, now: dict[str, Any], memory: "Memory") -> Freshness:
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


class Memory:
    """Digests of files as they lay when they were last read, and what the store's groups were made from.

    Parameters
    ----------
    path : Path
        The file that keeps them; damaged, or of another version, it counts as empty.

    Attributes
    ----------
    expected : how many files are about to be hashed, for whoever watches
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        content = _remembered(path)
        self._before = digest_json(content)
        self._files: dict[str, list[Any]] = content.get("files", {})
        self._revisions: dict[str, list[Any]] = content.get("revisions", {})
        self.made_from: dict[str, dict[str, Any]] = content.get("made_from", {})
        self._unsettled: set[str] = set()
        self.expected = self._done = 0

    def save(self, fingerprints: set[str]) -> None:
        """Keep what is known, and of what groups were made from only these fingerprints; unwritable, it is let go."""
        made_from = {name: parts for name, parts in self.made_from.items() if name in fingerprints}
        files = {name: entry for name, entry in self._files.items() if name not in self._unsettled}
        content = {"files": files, "revisions": self._revisions, "made_from": made_from, "schema": MEMORY_SCHEMA}
        if digest_json(content) != self._before:
            with suppress(OSError):
                write_json(self._path, {**content, "sha256": digest_json(content)})

    def known(self, file: Path) -> str | None:
        """Return a file's digest where it lies as it lay when it was hashed."""
        *stamp, digest = self._files.get(str(file), [None])
        return digest if stamp == _stamp(file) else None

    def digest(self, file: Path) -> str:
        """Return a file's digest, remembered or computed."""
        known = self.known(file)
        if known is not None:
            return known
        stamp = _stamp(file)
        digest = digest_file(file)
        self._files[str(file)] = [*stamp, digest]
        if not _is_settled(stamp):
            self._unsettled.add(str(file))
        self._done += 1
        report("hashing what the store is made from", self._done, max(self._done, self.expected))
        return digest

    def known_revision(self, config: ExtractorConfig) -> str | None:
        """Return what a target's `revision` says, where its weights lie as they lay when they were hashed."""
        folder = _weights_of(config)
        if folder is None:
            return config.revision(home())
        signature, revision = self._revisions.get(config.model_dump_json(), ["", None])
        return revision if signature == _signature(folder) else None

    def revision(self, config: ExtractorConfig) -> str:
        """Return what a target's `revision` says of its weights, remembered or computed."""
        known, folder = self.known_revision(config), _weights_of(config)
        if known is not None or folder is None:
            return known or ""
        settled = all(_is_settled(_stamp(file)) for file in folder.rglob("*"))
        signature, revision = _signature(folder), config.revision(home())
        if settled:
            self._revisions[config.model_dump_json()] = [signature, revision]
        return revision


class Glance:
    """Answers from memory alone, and notes what would have to be hashed.

    Attributes
    ----------
    unknown : path to size in bytes
    weights : which of these are a model's
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.unknown: dict[Path, int] = {}
        self.weights: list[Path] = []

    def digest(self, file: Path) -> str:
        """Return a file's digest, or nothing where it is not remembered."""
        known = self._memory.known(file)
        if known is None:
            self.unknown[file] = file.stat().st_size
        return known or ""

    def revision(self, config: ExtractorConfig) -> str:
        """Return what a target's `revision` says, or nothing where it is not remembered."""
        known, folder = self._memory.known_revision(config), _weights_of(config)
        if known is None and folder is not None:
            kinds = OF_WEIGHTS.get(config.extractor, ["**/*"])
            self.weights = [file for kind in kinds for file in folder.glob(kind)]
            self.unknown |= {file: file.stat().st_size for file in self.weights}
        return known or ""


def _remembered(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
        whole = content.pop("sha256") == digest_json(content) and content["schema"] == MEMORY_SCHEMA
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return dict(content) if whole else {}


def _stamp(file: Path) -> list[int]:
    """Return what changes when a file does: also the inode's time, which no copy that preserves times can set back."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _is_settled(stamp: list[int]) -> bool:
    _, modified, changed, _ = stamp
    return time.time_ns() - max(modified, changed) > SETTLED_NS


def _signature(folder: Path) -> str:
    return digest_json([(file.relative_to(folder).as_posix(), _stamp(file)) for file in sorted(folder.rglob("*"))])


def _weights_of(config: ExtractorConfig) -> Path | None:
    """Return the folder of a target's weights, None where it has none; a look at a store never fetches any.

    Raises
    ------
    ModelError
        They lie in no folder of this checkout.
    """
    if isinstance(config, GivenConfig | PixelsConfig):
        return None
    for folder in ((home() / config.weights).resolve(), home() / hub.DOWNLOADED / config.weights):
        if folder.is_dir():
            return folder.resolve()
    raise ModelError(f"weights '{config.weights}': in no folder of this checkout; run 'brain2video download weights'")
