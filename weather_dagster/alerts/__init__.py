"""Alerts: one pipeline from what is found wrong to the person who hears of it. No Dagster here."""
