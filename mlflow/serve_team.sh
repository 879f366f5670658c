#!/bin/sh
# The MLflow server of a team: runs, models and users in PostgreSQL, artifacts on S3, nobody in without a password.
# Every setting comes from the environment; README.md beside this file explains them. Usage: mlflow/serve_team.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "error: $1" >&2
    exit 2
}

need() { # NAME, what to do
    eval "value=\${$1:-}"
    [ -n "$value" ] || fail "$1 is not set; $2"
}

postgres() { # NAME
    eval "value=\${$1}"
    case $value in
        postgresql://* | postgresql+*://*) ;;
        *) fail "$1 is no PostgreSQL database; expected postgresql://USER:PASSWORD@HOST:5432/DATABASE" ;;
    esac
}

need MLFLOW_BACKEND_STORE_URI "set it to the database of runs and models, postgresql://USER:PASSWORD@HOST:5432/mlflow"
need MLFLOW_AUTH_DATABASE_URI "set it to the database of the users, postgresql://USER:PASSWORD@HOST:5432/mlflow_users"
need MLFLOW_ARTIFACTS_DESTINATION "set it to where the artifacts lie, s3://BUCKET/FOLDER"
need MLFLOW_FLASK_SERVER_SECRET_KEY "set it to a long random text that stays the same: openssl rand -hex 32"
postgres MLFLOW_BACKEND_STORE_URI
postgres MLFLOW_AUTH_DATABASE_URI
case $MLFLOW_ARTIFACTS_DESTINATION in
    s3://?*) ;;
    *) fail "MLFLOW_ARTIFACTS_DESTINATION is $MLFLOW_ARTIFACTS_DESTINATION; expected s3://BUCKET/FOLDER" ;;
esac
command -v mlflow >/dev/null || fail "no mlflow on the PATH; install it: pip install -c constraints.txt '.[server]'"

# Whether the databases answer, and whether the first start has a password for its administrator.
python - <<'PYTHON' || exit 2
import os
import sys


def fail(message):
    sys.exit(f"error: {message}")


try:
    import flask_wtf  # noqa: F401
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_AUTH_DATABASE_URI"):
        with sqlalchemy.create_engine(os.environ[name], connect_args={"connect_timeout": 5}).connect() as connection:
            users = sqlalchemy.inspect(connection).has_table("users") and (
                connection.execute(sqlalchemy.text("select count(*) from users")).scalar()
            )
except ImportError as error:
    fail(f"{error}; install what the server needs: pip install -c constraints.txt '.[server]'")
except SQLAlchemyError as error:
    fail(f"{name}: the database cannot be opened ({str(getattr(error, 'orig', error)).strip().splitlines()[0]})")
if not users and not os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD"):
    fail("MLFLOW_AUTH_ADMIN_PASSWORD is not set; the first start needs it for the administrator, 12 characters or more")
PYTHON

# The users' database holds a password, so its address goes into a file that only this user reads.
if [ -z "${MLFLOW_AUTH_CONFIG_PATH:-}" ]; then
    folder=${MLFLOW_TEAM_STATE:-$here/store/team}
    mkdir -p "$folder"
    MLFLOW_AUTH_CONFIG_PATH=$folder/basic_auth.ini
    (
        umask 077
        rm -f "$MLFLOW_AUTH_CONFIG_PATH"
        cat "$here/basic_auth.ini" >"$MLFLOW_AUTH_CONFIG_PATH"
        printf 'database_uri = %s\n' "$MLFLOW_AUTH_DATABASE_URI" | sed 's/%/%%/g' >>"$MLFLOW_AUTH_CONFIG_PATH"
    )
    export MLFLOW_AUTH_CONFIG_PATH
fi

# Addresses with passwords stay in the environment, where `ps` does not show them.
unset MLFLOW_TRACKING_URI
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
exec mlflow server --app-name basic-auth --serve-artifacts \
    --host "${MLFLOW_HOST:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" --workers "${MLFLOW_WORKERS:-2}"
