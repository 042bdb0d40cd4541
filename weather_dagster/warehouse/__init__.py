"""Bronze: its tables and how each store lands them. Silver and gold are dbt's (``weather_dbt``)."""
