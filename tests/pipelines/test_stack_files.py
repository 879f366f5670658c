"""The stack files say nothing that ZenML does not know, and the Dockerfile nothing that the checkout does not hold."""

import copy
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from zenml.exceptions import ZenMLBaseException

from .conftest import CHECKOUT

STACKS = ("team", "kubernetes")
SECRETS = re.compile(r"(password|secret_access_key|api_?key|token)\s*[=:]\s*\S", re.IGNORECASE)


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CHECKOUT / "configs" / "stacks" / f"{name}.yaml").read_text())
    return content


def flavours() -> dict[tuple[str, str], type[BaseModel]]:
    """The config class of every flavour that ZenML ships, by type and name; their packages are not imported."""
    from zenml.stack.flavor_registry import FlavorRegistry

    registry = FlavorRegistry()
    made = [flavour() for flavour in (*registry.builtin_flavors, *registry.integration_flavors)]
    return {(str(flavour.type), flavour.name): flavour.config_class for flavour in made}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], type[BaseModel]]:
    """The same, where a pod's settings that Kubernetes does not know are refused; ZenML only logs a warning."""
    pytest.importorskip("kubernetes", reason="its client is not installed (pip install -c constraints.txt '.[dev]')")
    from zenml.integrations.kubernetes import pod_settings
    from zenml.integrations.kubernetes.serialization_utils import deserialize_kubernetes_model

    def strictly(content: Any, name: str) -> None:
        try:
            deserialize_kubernetes_model(content, name)
        except KeyError as error:
            raise ValueError(f"{name}: {error}") from error

    monkeypatch.setattr(pod_settings, "warn_if_invalid_model_data", strictly)
    return flavours()


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models that a field may hold, alone or in a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, dict, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in models_in(part)]
    return []


def unknown(model: type[BaseModel], content: dict[str, Any], where: str) -> Iterator[str]:
    """Name the keys that a model does not declare; ZenML's own models let some of them pass."""
    for key, value in content.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{where}.{key}"
        elif isinstance(value, dict):
            for inner in models_in(field.annotation)[:1]:
                yield from unknown(inner, value, f"{where}.{key}")


def refused(model: type[BaseModel], content: dict[str, Any], where: str) -> Iterator[str]:
    """Name what a model does not take: unknown keys first, then values that it refuses."""
    found = list(unknown(model, content, where))
    yield from found
    if not found:
        try:
            model(**copy.deepcopy(content))
        except ValidationError as error:
            yield from (f"{where}.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        except ZenMLBaseException as error:
            yield f"{where}: {error}"


def faults_of_stack(content: dict[str, Any], known: dict[tuple[str, str], type[BaseModel]]) -> list[str]:
    """Everything in a file for `zenml stack import` that this ZenML would not take."""
    import zenml

    found = [f"stack.{key}" for key in content.keys() - {"zenml_version", "stack_name", "components"}]
    if content["zenml_version"] != zenml.__version__:
        found.append(f"zenml_version: {content['zenml_version']}")
    for kind, component in content["components"].items():
        found += [f"{kind}.{key}" for key in component.keys() ^ {"name", "flavor", "configuration"}]
        model = known.get((kind, component.get("flavor")))
        if model is None:
            found.append(f"{kind}: no flavour {component.get('flavor')!r}")
            continue
        found += refused(model, component.get("configuration", {}), kind)
    return found


def faults_of_run(content: dict[str, Any], known: dict[tuple[str, str], type[BaseModel]]) -> list[str]:
    """Everything in a file for `zenml pipeline run -c` that this ZenML would not take."""
    from zenml.config import DockerSettings, ResourceSettings
    from zenml.config.pipeline_run_configuration import PipelineRunConfiguration
    from zenml.config.step_configurations import StepConfigurationUpdate

    content = copy.deepcopy(content)
    steps = content.pop("steps", {})
    found = list(faults_of_settings("run", content.pop("settings", {}), known, DockerSettings, ResourceSettings))
    found += refused(PipelineRunConfiguration, content, "run")
    for name, step in steps.items():
        if not (CHECKOUT / "steps" / f"{name}.py").is_file():
            found.append(f"steps: no step {name!r}")
        settings = step.pop("settings", {})
        found += faults_of_settings(name, settings, known, DockerSettings, ResourceSettings)
        found += refused(StepConfigurationUpdate, step, name)
    return found


def faults_of_settings(
    where: str, settings: dict[str, Any], known: dict[tuple[str, str], type[BaseModel]], *general: type[BaseModel]
) -> Iterator[str]:
    """Hold settings against the model that their key names: docker, resources, or a component's flavour."""
    for key, content in settings.items():
        model = dict(zip(("docker", "resources"), general, strict=True)).get(key)
        if model is None and "." in key:
            model = known.get(tuple(key.split(".", 1)))
        if model is None:
            yield f"{where}.settings: no settings {key!r}"
        else:
            yield from refused(model, content, f"{where}.settings.{key}")


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_taken_by_zenml(name: str, known: dict[tuple[str, str], type[BaseModel]]) -> None:
    content = read(name)
    assert faults_of_stack(content, known) == []
    assert content["stack_name"] == name
    assert {"orchestrator", "artifact_store"} <= content["components"].keys()


@pytest.mark.parametrize("name", [f"{stack}_run" for stack in STACKS])
def test_a_run_configuration_is_taken_by_zenml(name: str, known: dict[tuple[str, str], type[BaseModel]]) -> None:
    content = read(name)
    assert faults_of_run(content, known) == []
    assert (CHECKOUT / content["parameters"]["study"]).is_file()


WRONG: list[tuple[str, tuple[str, ...], Any, str]] = [
    ("kubernetes", ("components", "orchestrator", "configuration", "namespace"), "x", "orchestrator.namespace"),
    ("kubernetes", ("components", "orchestrator", "flavor"), "kubernete", "no flavour 'kubernete'"),
    ("kubernetes", ("components", "orchestrator", "configuration", "synchronous"), "sometimes", "synchronous"),
    ("kubernetes", ("components", "registry"), {"name": "a", "flavor": "default", "configuration": {}}, "registry"),
    ("team", ("components", "artifact_store", "configuration", "path"), "your-bucket/zenml", "artifact_store"),
    ("team", ("components", "artifact_store", "configuration", "endpoint_url"), "https://a", "endpoint_url"),
    ("team", ("components", "artifact_store", "config"), {}, "artifact_store.config"),
    ("team", ("zenml_version",), "0.1.0", "zenml_version: 0.1.0"),
    ("kubernetes_run", ("settings", "docker", "parent_images"), "a", "docker.parent_images"),
    ("kubernetes_run", ("settings", "resources", "gpus"), 1, "resources.gpus"),
    ("kubernetes_run", ("settings", "resources", "memory"), "a lot", "resources.memory"),
    ("kubernetes_run", ("settings", "orchestrator.kubernetes", "pod_settings", "node_selector"), {}, "node_selector"),
    (
        "kubernetes_run",
        ("settings", "orchestrator.kubernetes", "pod_settings", "volume_mounts"),
        [{"name": "study", "mount_path": "/app/data"}],
        "mount_path",
    ),
    ("kubernetes_run", ("settings", "orchestrator.slurm"), {}, "no settings 'orchestrator.slurm'"),
    ("kubernetes_run", ("steps", "fit_model"), {}, "no step 'fit_model'"),
    ("kubernetes_run", ("steps", "fit_models", "setting"), {}, "fit_models.setting"),
    ("team_run", ("enable_caching",), True, "run.enable_caching"),
]


@pytest.mark.parametrize(("name", "place", "value", "message"), WRONG, ids=[".".join(case[1]) for case in WRONG])
def test_what_zenml_does_not_know_is_named(
    name: str, place: tuple[str, ...], value: Any, message: str, known: dict[tuple[str, str], type[BaseModel]]
) -> None:
    content = read(name)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    found = faults_of_run(content, known) if name.endswith("_run") else faults_of_stack(content, known)
    assert [fault for fault in found if message in fault], found


@pytest.mark.parametrize("path", sorted((CHECKOUT / "configs" / "stacks").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_is_tested_and_holds_no_secret(path: Path) -> None:
    assert path.stem.removesuffix("_run") in STACKS
    assert not SECRETS.search(path.read_text())


INSTRUCTIONS = {"ARG", "FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "ENTRYPOINT", "CMD", "LABEL"}


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments; continued lines are joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(words[0], words[1]) for line in joined.splitlines() if (words := line.split(maxsplit=1))]


def faults_of_image(text: str) -> list[str]:
    """What is wrong with a Dockerfile, as far as that can be seen without building it."""
    found, user = [], "root"
    for name, argument in instructions(text):
        if name not in INSTRUCTIONS:
            found.append(f"unknown instruction {name}")
        if name == "FROM" and not re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+", argument.split()[0]):
            found.append(f"FROM {argument}: no fixed version")
        if name == "ARG" and "=" in argument:
            found.append(f"ARG {argument}: a default hides what was installed")
        if name == "COPY":
            sources = [word for word in argument.split()[:-1] if not word.startswith("--")]
            found += [f"COPY {source}: not in the checkout" for source in sources if not (CHECKOUT / source).exists()]
        if name in ("ENV", "ARG", "RUN") and SECRETS.search(argument):
            found.append(f"{name} {argument}: looks like a secret")
        if "://" in argument:
            found.append(f"{name} {argument}: names a host")
        user = argument if name == "USER" else user
    return found + (["runs as root"] if user in ("root", "0") else [])


def test_the_image_is_sound() -> None:
    text = (CHECKOUT / "Dockerfile").read_text()
    assert faults_of_image(text) == []
    assert [argument for name, argument in instructions(text) if name == "WORKDIR"][-1] == "/app"
    assert "--constraint constraints.txt" in text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("FROM python:latest", "no fixed version"),
        ("FROM python", "no fixed version"),
        ("COPY nothing ./", "COPY nothing: not in the checkout"),
        ("COPYY core ./", "unknown instruction COPYY"),
        ("ENV MLFLOW_TRACKING_PASSWORD=ada", "looks like a secret"),
        ("RUN pip install --index-url https://somewhere torch", "names a host"),
        ("USER root", "runs as root"),
    ],
)
def test_a_fault_in_the_image_is_named(changed: str, message: str) -> None:
    found = faults_of_image(f"{(CHECKOUT / 'Dockerfile').read_text()}\n{changed}\n")
    assert [fault for fault in found if message in fault], found


def test_the_image_leaves_out_what_git_does_and_what_is_made() -> None:
    left_out = set((CHECKOUT / ".dockerignore").read_text().split())
    assert {".venv", ".state", "outputs", "mlflow/store", "data/*", ".git", ".dvc/config.local"} <= left_out
