"""Silver and gold: the dbt models as assets, refreshed by one dbt invocation a run.

They are unpartitioned: each run recomputes what loads since the last run touched (see
``weather_dbt/macros/increments.sql``). Data tests are asset checks; unit tests stay out of production.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from weather_dagster.assets.bronze import OWNERS
from weather_dagster.failures import failing_clearly
from weather_dagster.partitions import POOL
from weather_dagster.resources import WarehouseResource
from weather_dagster.settings import Settings

DBT_ARGUMENTS = ["build", "--exclude-resource-type", "unit_test"]


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
        # Waits for a file that is locked, names its holder, and makes bronze where there is none yet.
        with failing_clearly(), warehouse.warehouse():
            pass
        settings = Settings.load()
        os.environ.update(warehouse.dbt_environment(), WEATHER_ENV=settings.weather_env)
        # What dbt has parsed is taken from the project; what it leaves goes where things are written.
        os.environ["DBT_TARGET_PATH"] = str(project.manifest_path.parent)
        target = settings.dbt_runs_path / context.run.run_id
        yield from dbt.cli(DBT_ARGUMENTS, context=context, target_path=target).stream()

    return dbt_models
