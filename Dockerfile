# The image of a cluster's pods: the checkout at /app with everything it imports; ZenML takes it as `parent_image`.
#
#   docker build --build-arg TORCH_INDEX=<the index of PyTorch's "Get started" page> -t registry.your-lab.org/brain2video:1 .
#
# With the index for CPUs the image is small, with the one for CUDA its steps run on GPUs. Left out, torch comes from
# wherever pip looks by itself. Not built by us: no Docker daemon was at hand.
FROM python:3.11-slim

ARG TORCH_INDEX
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# ZenML and DVC do not start without git.
RUN apt-get update && \
    apt-get install -y --no-install-recommends git && \
    rm -rf /var/lib/apt/lists/*

WORKDIR /app

# torch first: its version stays as it is when the rest is installed from the usual index.
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN pip install --constraint constraints.txt setuptools && \
    pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"

COPY brain2video brain2video
COPY core core
COPY evaluation evaluation
COPY feature_store feature_store
COPY materializers materializers
COPY models models
COPY pipelines pipelines
COPY simulation simulation
COPY steps steps
COPY studies studies
COPY zoo zoo
RUN pip install --constraint constraints.txt --no-build-isolation --editable ".[team]" && \
    echo "import core.environment" > "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_brain2video.pth"

COPY configs configs
COPY mlflow mlflow
COPY dvc.yaml dvc.lock ./
COPY .dvc/config .dvc/config

RUN useradd --create-home --uid 1000 lab && \
    mkdir -p data outputs .state && \
    chown -R lab:lab /app
USER lab

# State inside the image's own folders unless the pod says otherwise: ZENML_STORE_URL, ZENML_STORE_API_KEY,
# MLFLOW_TRACKING_URI with its user and password, and the bucket's keys come from the cluster's secrets.
ENV BRAIN2VIDEO_HOME=/app ZENML_CONFIG_PATH=/app/.state/zenml ZENML_CUSTOM_SOURCE_ROOT=/app
CMD ["brain2video", "--help"]
