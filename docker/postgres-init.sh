#!/bin/bash
# Run once by the Postgres image, on an empty volume: a role and a database each for Dagster and
# MLflow, neither of which may enter the other's; MLflow keeps its users in a second one.
set -euo pipefail

# \getenv keeps the passwords out of the process list; :'name' quotes them.
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv dagster_password DAGSTER_POSTGRES_PASSWORD
\getenv mlflow_password MLFLOW_POSTGRES_PASSWORD
create role dagster login password :'dagster_password';
create role mlflow login password :'mlflow_password';
create database dagster owner dagster;
create database mlflow owner mlflow;
create database mlflow_users owner mlflow;
revoke connect on database dagster from public;
revoke connect on database mlflow from public;
revoke connect on database mlflow_users from public;
SQL
