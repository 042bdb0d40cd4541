"""Whether loads wait that no dbt run has taken on. No Dagster here.

Models follow load ids (``weather_dbt/macros/increments.sql``), so the tables themselves tell what dbt has seen: nothing
is noted elsewhere, and a build by hand, a failed one and a restored store need no care.
"""

from weather_dagster.datasets import DATASETS
from weather_dagster.warehouse.base import Warehouse

FOLLOWERS = {
    **{f"bronze.{dataset.name}": (f"silver.{dataset.name}",) for dataset in DATASETS.values()},
    "silver.observations": ("gold.hourly_weather", "gold.temperature_moving_averages"),
    "silver.air_quality": ("gold.daily_air_quality",),
    "gold.hourly_weather": ("gold.daily_weather",),
}
"""Tables by what they are made from, where every load that reaches the one leaves a row in the other."""


def waiting_load(store: Warehouse) -> int | None:
    """The newest load that some table lacks and the table it is made from has; None when all are up to date."""
    names = store.tables() & {*FOLLOWERS, *(name for names in FOLLOWERS.values() for name in names)}
    newest = {name: store.query(f"select coalesce(max(load_id), 0) from {name}")[0][0] for name in names}
    behind = [
        newest[source]
        for source, followers in FOLLOWERS.items()
        for follower in followers
        if newest.get(source, 0) > newest.get(follower, 0)
    ]
    return max(behind, default=None)
