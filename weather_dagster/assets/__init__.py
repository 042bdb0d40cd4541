"""Dagster assets, thin: each reads its partitions, calls a plain function and reports."""
