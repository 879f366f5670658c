#!/bin/sh
# The MLflow server, light: one worker, no job runner. Usage: mlflow/serve.sh [HOST] [PORT]
# The store is MLFLOW_TRACKING_URI, or the local one in this folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/store"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
exec mlflow server --host "${1:-127.0.0.1}" --port "${2:-5000}" --workers 1 \
    --backend-store-uri "${MLFLOW_TRACKING_URI:-sqlite:///$here/store/mlflow.db}" \
    --default-artifact-root "$here/store/artifacts"
