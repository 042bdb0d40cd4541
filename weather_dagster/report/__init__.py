"""The HTML report, from gold."""
