"""What every check gives back, and the one shape in which it names places.

A check that found something at places carries all of their ids under ``places``, never cut, and a table whose
records have the column ``place``, beside ``hour``, ``value`` and ``limit`` where these are known.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

EXAMPLES = 10
"""How many things a description, or a table without places, names."""
EXAMPLES_PER_PLACE = 3
"""How many rows of a table each place has at most: every place is shown, whatever happens at the others."""


@dataclass(frozen=True)
class Outcome:
    """What a check found."""

    passed: bool
    description: str
    metadata: dict[str, Any] = field(default_factory=dict)
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR


def table(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Metadata: a table of these rows; nothing when there is none."""
    return {name: dg.MetadataValue.table([dg.TableRecord(row) for row in rows])} if rows else {}


def place_table(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Metadata: the ids of all places of the rows, and a table of the first rows of each of them.

    Args:
        rows: each with the key ``place``, the most telling first.
    """
    if not rows:
        return {}
    seen: Counter[str] = Counter()
    shown = []
    for row in rows:
        seen[row["place"]] += 1
        if seen[row["place"]] <= EXAMPLES_PER_PLACE:
            shown.append(row)
    return {"places": dg.MetadataValue.json(sorted(seen)), **table(name, shown)}


def named(names: Iterable[str]) -> str:
    """The distinct names, in order; the first of them when they are many."""
    distinct = list(dict.fromkeys(names))
    more = len(distinct) - EXAMPLES
    return ", ".join(distinct[:EXAMPLES]) + (f" and {more} more" if more > 0 else "")
