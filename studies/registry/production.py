"""The production set of a study: resolved once, and held against what is rendered with and what it was trained on."""

from core.checkout import project_root
from core.errors import RegistryError
from feature_store import Store
from models.extractors.settings import LatentsConfig
from models.registry.production import resolve
from models.registry.sets import ModelSet, set_to_promote
from models.weights import locate
from studies.study import Study

ADVICE = "run 'brain2video train' and 'brain2video promote', or 'dvc checkout' what they were trained on"
SHORT = 12


def resolve_production(study: Study, run: str | None = None) -> ModelSet:
    """Return the versions that carry the alias `production`, or those of a training run, to look at before promoting.

    Raises
    ------
    RegistryError
        There are none, or they do not make one set; see `models.registry.production.resolve`.
    """
    return resolve(study.study, study.parts) if run is None else set_to_promote(study.study, study.parts, run)


def require_same_targets(study: Study, chosen: ModelSet) -> None:
    """Raise unless a set predicts what the study renders: its roles' targets, of the same extractors and weights.

    Raises
    ------
    RegistryError
        Roles, extractors, their revisions, or the generator's autoencoder differ.
    """
    told = {role: chosen.record["roles"].get(role) for role in study.roles.regressed()}
    if told != study.roles.regressed():
        raise RegistryError(
            f"{study.study}: {chosen} were trained for the roles {told}, the study names {study.roles.regressed()}; "
            f"{ADVICE}"
        )
    if "targets" not in chosen.record:
        raise RegistryError(
            f"{study.study}: {chosen} were registered by an earlier version, without what they are checked by; {ADVICE}"
        )
    for role, name in study.roles.regressed().items():
        target, config = chosen.record["targets"][role], study.targets[name]
        now = {"extractor": config.extractor, "revision": config.revision(project_root())}
        for what, value in now.items():
            if target[what] != value:
                raise RegistryError(
                    f"{study.study}: {chosen} predict {role} as made by {what} {target[what][:SHORT]}, the study's "
                    f"target '{name}' has {value[:SHORT]}; bring those weights back, or extract, train and promote anew"
                )
    _require_own_autoencoder(study)


def require_trained_on(study: Study, store: Store, chosen: ModelSet, subject: str) -> None:
    """Raise unless a set was trained on what the store holds: else a test stimulus may have been in training.

    Raises
    ------
    RegistryError
        The stores' digests differ from those of the training.
    """
    here = {f"responses/{subject}": store.responses(subject).digest}
    here |= {f"targets/{name}": store.target(name).digest for name in study.roles.regressed().values()}
    for name, digest in here.items():
        told = str(chosen.record["stores"].get(name, "nothing"))
        if told != digest:
            raise RegistryError(
                f"{study.study}: {chosen} (training {chosen.run}) saw {name} as {told[:SHORT]}, the store holds "
                f"{digest[:SHORT]}; {ADVICE}"
            )


def _require_own_autoencoder(study: Study) -> None:
    """Raise where the generator decodes with another autoencoder than the one whose latents are predicted."""
    z = study.targets[study.roles.z or ""] if study.roles.z else None
    if study.generator is None or not isinstance(z, LatentsConfig):
        return
    decodes = locate.revision(locate.locate(study.generator.weights, project_root(), locate.VAE), locate.VAE)
    if decodes != z.revision(project_root()):
        raise RegistryError(
            f"{study.study}: the generator {study.generator.weights} decodes with another autoencoder "
            f"({decodes[:SHORT]}) than the one that made z ({z.weights}, {z.revision(project_root())[:SHORT]}); name "
            f"the same "
            "weights for both"
        )
