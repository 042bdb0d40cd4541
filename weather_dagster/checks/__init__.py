"""Asset checks on bronze; those on silver and gold are dbt tests."""
