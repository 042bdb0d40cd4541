# The images of the platform; `make images` builds them, BuildKit is needed.
#
#   code-location  webserver, daemon, code server and run pods
#   ingestor       `weather ingest` alone, without Dagster and dbt
#   superset       Superset with the drivers of every store of gold; nothing of the platform's own packages
#
# All run as uid 10001 with a read-only root: all that is written goes to /var/lib/weather, DAGSTER_HOME and /tmp, which are
# mounts. The label weather.size-budget-mb is what an image may take unpacked, weather.check what it must be able to do
# alone; .github/scripts/check_image.sh tries both.
#
# None of them was built where this was written. What was run by the same lines, and how: docs/deployment.md.

# The tag moves with Python's patches and Debian's. A release passes the same with the digest it found, which fixes it:
# --build-arg PYTHON_IMAGE=docker.io/library/python:3.11-slim-trixie@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-trixie


FROM ${PYTHON_IMAGE} AS build
WORKDIR /opt/weather
COPY constraints.txt ./
# Pip's own cache, as a mount of the build: hadolint knows it at this path alone, and it is in no image.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt pip \
    && python -m venv --without-pip /opt/venv
# Of everything that is installed from here on. 0 is how pip is told not to compile, by a variable: compileall does it, once
# all is there, so that no start compares times.
ENV PIP_PYTHON=/opt/venv/bin/python \
    PIP_BUILD_CONSTRAINT=/opt/weather/constraints.txt \
    PIP_NO_COMPILE=0


FROM build AS build-weather
COPY requirements-ingest.txt setup.py pyproject.toml ./


FROM build-weather AS build-ingestor
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt --requirement requirements-ingest.txt "psycopg[binary]"
COPY weather_dagster weather_dagster
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps . \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib


FROM build-weather AS build-code-location
# One image serves each WEATHER_ENV. Without the code yet, so that a change of code leaves this layer as it is.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt ".[cluster,databricks]"
COPY dagster.yaml workspace.yaml ./
COPY weather_dagster weather_dagster
COPY weather_dbt weather_dbt
# Editable: the code looks for the dbt project beside itself. dbt's manifests are made here, or every pod would make its
# own, and could not write it.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --editable . \
    && /opt/venv/bin/python -c "from weather_dagster import dbt_project, environments; \
        [dbt_project.load_dbt_project(one.dbt_target) for one in environments.ENVIRONMENTS.values()]" \
    && rm -rf build weather_dbt/logs \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib weather_dagster


FROM build AS build-superset
COPY weather_superset/requirements.txt weather_superset/constraints.txt weather_superset/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint weather_superset/constraints.txt --requirement weather_superset/requirements.txt \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib


FROM ${PYTHON_IMAGE} AS runtime
# tini hands signals on and buries what a run leaves behind; it takes nothing away from the arguments that charts give.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 weather \
    && useradd --uid 10001 --gid 10001 --home-dir /opt/weather --no-create-home --shell /usr/sbin/nologin weather \
    && install --directory --owner=10001 --group=10001 /var/lib/weather /opt/dagster/dagster_home
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
ARG VERSION
ARG REVISION
ARG SOURCE
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
WORKDIR /opt/weather
USER 10001:10001
ENTRYPOINT ["tini", "--"]


FROM runtime AS runtime-weather
ENV WEATHER_ENV=cluster \
    WEATHER_HOME=/var/lib/weather


FROM runtime-weather AS ingestor
LABEL org.opencontainers.image.title="weather-ingestor" \
      org.opencontainers.image.description="Lands hours of weather in bronze, without Dagster" \
      weather.size-budget-mb="600" \
      weather.check="weather ingest --from 2026-01-01T00:00 --to 2026-01-01T00:00"
COPY --from=build-ingestor /opt/venv /opt/venv
# A job that ends: its exit code is its health.
HEALTHCHECK NONE
CMD ["weather", "ingest", "--help"]


FROM runtime-weather AS code-location
LABEL org.opencontainers.image.title="weather-code-location" \
      org.opencontainers.image.description="The weather platform's code for Dagster: code server, runs, webserver, daemon" \
      weather.size-budget-mb="1300" \
      weather.check="weather backfill --from 2026-01-01T00:00 --to 2026-01-01T00:00"
COPY --from=build-code-location /opt/venv /opt/venv
COPY --from=build-code-location /opt/weather /opt/weather
ENV DAGSTER_HOME=/opt/dagster/dagster_home \
    DBT_TARGET_PATH=/tmp/dbt \
    DBT_LOG_PATH=/tmp/dbt
EXPOSE 3030
HEALTHCHECK --interval=30s --timeout=30s --start-period=60s \
    CMD ["dagster", "api", "grpc-health-check", "-p", "3030"]
CMD ["dagster", "api", "grpc", "-m", "weather_dagster.definitions", "-h", "0.0.0.0", "-p", "3030"]


FROM runtime AS superset
LABEL org.opencontainers.image.title="weather-superset" \
      org.opencontainers.image.description="Superset with drivers for Postgres, DuckDB and Databricks" \
      weather.size-budget-mb="1200" \
      weather.check="superset db upgrade"
COPY --from=build-superset /opt/venv /opt/venv
COPY weather_superset/superset_config.py weather_superset/
# The key and the database are named where it runs: weather_superset/superset_config.py says what it asks for.
ENV SUPERSET_CONFIG_PATH=/opt/weather/weather_superset/superset_config.py \
    SUPERSET_HOME=/var/lib/weather
EXPOSE 8088
# The first start of a busy node takes minutes.
HEALTHCHECK --interval=30s --timeout=15s --start-period=180s \
    CMD ["python", "-c", "from http.client import HTTPConnection; server = HTTPConnection('127.0.0.1', 8088); \
        server.request('GET', '/health'); raise SystemExit(server.getresponse().status != 200)"]
# One worker, which counts the attempts to sign in: more replicas serve more people. No socket that steers it from inside.
CMD ["gunicorn", "--bind", "0.0.0.0:8088", "--worker-class", "gthread", "--threads", "8", "--timeout", "120", \
    "--no-control-socket", "superset.app:create_app()"]
