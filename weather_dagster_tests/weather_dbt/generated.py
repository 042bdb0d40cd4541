"""What of the dbt project follows from ``weather_dagster.quantities``, as text. Run it to write the files anew.

python -m weather_dagster_tests.weather_dbt.generated
"""

from pathlib import Path

from weather_dagster import quantities
from weather_dagster.quantities import Quantity

PROJECT = Path(__file__).parents[2] / "weather_dbt"
LIMITS_FILE = PROJECT / "macros" / "quantity_limits.sql"
DESCRIPTIONS_FILE = PROJECT / "models" / "quantities.md"
GROUPS = {
    "weather": quantities.WEATHER,
    "forecast": quantities.FORECAST,
    "air_quality": quantities.AIR_QUALITY,
}


def limits_macro() -> str:
    """Text of the macro file: names and inclusive limits of the quantities of each group."""

    def group(members: tuple[Quantity, ...]) -> str:
        return "\n".join(f"        '{q.name}': [{q.lower}, {q.upper}]," for q in members)

    groups = "\n".join(f"    '{name}': {{\n{group(members)}\n    }}," for name, members in GROUPS.items())
    return (
        "{# Generated from weather_dagster/quantities.py; when the two differ, a test tells how to write it anew. #}\n"
        "{% macro quantity_limits() %}{{ return({\n" + groups + "\n}) }}{% endmacro %}\n\n\n"
        "{# Names of the quantities of a group, in the order of bronze. #}\n"
        "{% macro quantity_names(group) %}{{ return(quantity_limits()[group].keys() | list) }}{% endmacro %}\n"
    )


def description_blocks() -> str:
    """Text of the doc blocks that describe the quantities' columns."""
    members = {q.name: q for group in GROUPS.values() for q in group}
    blocks = (f"{{% docs {q.name} %}}{q.description}{{% enddocs %}}\n" for q in members.values())
    return "<!-- Generated from weather_dagster/quantities.py, as macros/quantity_limits.sql is. -->\n\n" + "".join(
        blocks
    )


if __name__ == "__main__":
    LIMITS_FILE.write_text(limits_macro(), encoding="utf-8")
    DESCRIPTIONS_FILE.write_text(description_blocks(), encoding="utf-8")
