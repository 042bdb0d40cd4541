"""Silver and gold: the dbt models as assets, refreshed by one dbt invocation a run.

They are unpartitioned: each run recomputes what loads since the last run touched (see
``weather_dbt/macros/increments.sql``). Data tests are asset checks; unit tests stay out of production.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets
from dbt.artifacts.schemas.results import NodeStatus

from weather_dagster.assets.bronze import OWNERS
from weather_dagster.errors import ConfigurationError
from weather_dagster.failures import failing_clearly
from weather_dagster.partitions import POOL
from weather_dagster.resources import WarehouseResource
from weather_dagster.settings import Settings

DBT_ARGUMENTS = ["build", "--exclude-resource-type", "unit_test"]
EVENT_WORDS = (
    *("data", "info", "name", "node_info", "node_status", "resource_type", "status", "unique_id"),
    *("LogModelResult", "LogTestResult", "NodeFinished", *NodeStatus),
)
"""What Dagster reads of dbt's events: fields, kinds, states."""

TEST_DESCRIPTIONS = {
    "unique_combination": "One row for each {columns}.",
    "never_null": "These columns always have a value: {columns}.",
    "within_limits": "Every value lies within the plausible limits of its quantity.",
    "holds": "In every row: {condition}.",
}


class LayerTranslator(DagsterDbtTranslator):
    """Keys and groups are the layers: ``models/gold/daily_weather.sql`` is ``gold/daily_weather``."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """The spec of a model; a source keeps the key that its ``meta`` names."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        properties = self.get_resource_props(manifest, unique_id)
        if properties["resource_type"] != "model":
            return spec
        layer = properties["fqn"][1]
        return spec.replace_attributes(
            key=dg.AssetKey([layer, properties["name"]]),
            group_name=layer,
            owners=OWNERS,
            tags={**spec.tags, "layer": layer, "domain": "weather"},
        )

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """The check of a data test, described from the test's own arguments."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        test = self.get_resource_props(manifest, unique_id).get("test_metadata")
        if spec is None or test is None:
            return spec
        arguments = {**test["kwargs"], "columns": ", ".join(test["kwargs"].get("columns", ()))}
        return spec._replace(description=TEST_DESCRIPTIONS[test["name"]].format(**arguments))


def require_readable_events(environment: Mapping[str, str], manifest: Path) -> None:
    """Refuse secrets that are parts of what Dagster reads of dbt's events: dbt hides them wherever they stand.

    Raises:
        ConfigurationError: naming the variable.
    """
    words = (*EVENT_WORDS, *json.loads(manifest.read_text(encoding="utf-8"))["nodes"])
    for variable, secret in environment.items():
        if variable.startswith("DBT_ENV_SECRET_") and secret and any(secret in word for word in words):
            raise ConfigurationError(
                f"the password that dbt gets as {variable} is a part of the words in its events, such as a model's "
                "name; dbt hides it there, so that Dagster could not read them: take a longer password"
            )


def dbt_model_assets(project: DbtProject) -> dg.AssetsDefinition:
    """All models of ``project`` as one definition."""

    @dbt_assets(
        manifest=project.manifest_path,
        project=project,
        name="dbt_models",
        dagster_dbt_translator=LayerTranslator(),
        pool=POOL,
    )
    def dbt_models(
        context: dg.AssetExecutionContext, dbt: DbtCliResource, warehouse: dg.ResourceParam[WarehouseResource]
    ) -> Iterator[Any]:
        with failing_clearly():
            # Waits for a file that is locked, names its holder, and makes bronze where there is none yet.
            with warehouse.warehouse():
                pass
            environment = warehouse.dbt_environment()
            require_readable_events(environment, project.manifest_path)
        settings = Settings.load()
        os.environ.update(environment, WEATHER_ENV=settings.weather_env)
        # What dbt has parsed is taken from the project; what it leaves goes where things are written.
        os.environ["DBT_TARGET_PATH"] = str(project.manifest_path.parent)
        target = settings.dbt_runs_path / context.run.run_id
        yield from dbt.cli(DBT_ARGUMENTS, context=context, target_path=target).stream()

    return dbt_models
