"""The production set of a study: resolved, and checked against the study, the weights here and the stores."""

from collections.abc import Collection

from core.checkout import project_root
from core.errors import RegistryError
from core.subjects import members_of
from feature_store import Store
from models.extractors.settings import LatentsConfig
from models.registry.production import note_production, resolve
from models.registry.sets import ModelSet, set_to_promote
from models.weights import locate
from studies.study import Study

ADVICE = "run 'brain2video train' and 'brain2video promote', or 'dvc checkout' what they were trained on"
SHORT = 12


def resolve_production(study: Study, run: str | None = None) -> ModelSet:
    """Return the versions that carry the alias `production`, or those of a training run, to look at before promoting.

    What was put into production in the MLflow UI is added to its history, so that a promotion can be taken back.

    Raises
    ------
    RegistryError
        There are none, or they do not make one set; see `models.registry.production.resolve`.
    """
    if run is not None:
        return set_to_promote(study.study, study.parts, run)
    chosen = resolve(study.study, study.parts)
    note_production(study.study, study.parts)
    return chosen


def require_same_targets(study: Study, chosen: ModelSet) -> None:
    """Raise unless a set predicts what the study renders: its roles' targets, of the same extractors and weights.

    Raises `RegistryError` where roles, extractors, their revisions, or the generator's autoencoder differ.
    """
    wanted = study.roles.regressed()
    trained = {role: chosen.record["roles"].get(role) for role in wanted}
    if trained != wanted:
        raise RegistryError(
            f"{study.study}: {chosen} were trained for the roles {trained}, the study names {wanted}; {ADVICE}"
        )
    if "targets" not in chosen.record:
        raise RegistryError(
            f"{study.study}: {chosen} were registered by an earlier version, without what they are checked by; {ADVICE}"
        )
    for role, name in wanted.items():
        target, config = chosen.record["targets"][role], study.targets[name]
        now = {"extractor": config.extractor, "revision": config.revision(project_root())}
        for what, value in now.items():
            if target[what] != value:
                raise RegistryError(
                    f"{study.study}: {chosen} predict {role} as made by {what} {target[what][:SHORT]}, the study's "
                    f"target '{name}' has {value[:SHORT]}; bring those weights back, or extract, train and promote anew"
                )
    z = study.targets[study.roles.z] if study.roles.z else None
    if study.generator is not None and isinstance(z, LatentsConfig):
        require_own_autoencoder(study.study, study.generator.weights, z)


def require_own_autoencoder(study: str, generator: str, z: LatentsConfig) -> None:
    """Raise `RegistryError` where a generator decodes with another autoencoder than the one that made z."""
    decodes = locate.revision(locate.locate(generator, project_root(), locate.VAE), locate.VAE)
    if decodes != z.revision(project_root()):
        raise RegistryError(
            f"{study}: the generator {generator} decodes with another autoencoder ({decodes[:SHORT]}) than the one "
            f"that made z ({z.weights}, {z.revision(project_root())[:SHORT]}); name the same weights for both"
        )


def require_trained_on(chosen: ModelSet, store: Store, subject: str, targets: Collection[str]) -> None:
    """Raise unless a set was trained on what the store holds: else a test stimulus may have been in training.

    Raises `RegistryError` where the stores' digests differ from those of the training.

    Parameters
    ----------
    targets : names of the targets of all roles
    """
    for name, digest in stored_digests(store, [subject], targets).items():
        trained_on = str(chosen.record["stores"].get(name, "nothing"))
        if trained_on != digest:
            raise RegistryError(
                f"{chosen.study}: {chosen} (training {chosen.run}) saw {name} as {trained_on[:SHORT]}, the store holds "
                f"{digest[:SHORT]}; {ADVICE}"
            )


def stored_digests(store: Store, subjects: Collection[str], targets: Collection[str]) -> dict[str, str]:
    """Return the digest of each group: ``responses/<subject>`` and ``targets/<target>``; all members' of a group."""
    single = [member for subject in subjects for member in members_of(subject)]
    digests = {f"responses/{subject}": store.responses(subject).digest for subject in single}
    return digests | {f"targets/{target}": store.target(target).digest for target in targets}
