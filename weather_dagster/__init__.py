"""The Weather DataOps Platform as a Dagster code location."""
