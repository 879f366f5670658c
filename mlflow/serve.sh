#!/bin/sh
# The MLflow server of one person, light: one worker, no job runner, nobody asked for a password.
# Usage: mlflow/serve.sh [HOST] [PORT]. The store is MLFLOW_TRACKING_URI, or the local one in this folder.
# A team's server is serve_team.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
store=${MLFLOW_TRACKING_URI:-sqlite:///$here/store/mlflow.db}
case $store in
    sqlite:///*) folder=$(dirname "${store#sqlite:///}") ;;
    *) folder=$here/store ;;
esac
mkdir -p "$folder"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
exec mlflow server --host "${1:-127.0.0.1}" --port "${2:-5000}" --workers 1 \
    --backend-store-uri "$store" --default-artifact-root "$folder/artifacts"
