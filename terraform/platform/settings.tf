# What people choose: the ConfigMaps weather-settings and weather-places, which every pod with the warehouse reads.

locals {
  # Those of weather_dagster/settings.py that are no secret and not told otherwise; a test compares them.
  known_settings = [
    "OPENWEATHER_BASE_URL",
    "OPENWEATHER_ONE_CALL_PER_DAY",
    "OPENWEATHER_PLAN",
    "OPEN_METEO_BASE_URL",
    "WEATHER_ALERT_WINDOW_MINUTES",
    "WEATHER_HISTORY_PROVIDER",
    "WEATHER_LOG_FORMAT",
    "WEATHER_PROVIDER",
    "WEATHER_START_HOUR",
  ]

  places_file = "places.yaml"
  places      = var.places == null ? {} : { (local.places_file) = file(var.places) }

  settings = merge(
    one([for each in local.documents : each.data if try(each.metadata.name, null) == "weather-settings"]),
    var.warehouse == "databricks" ? { WEATHER_ENV = "databricks" } : {},
    var.places == null ? {} : { WEATHER_LOCATIONS = "/places/${local.places_file}" },
    var.settings,
  )

  # Part of the code location's item, all of which the chart's checksum covers.
  choices_sum = sha256(jsonencode([local.settings, local.places]))
}
