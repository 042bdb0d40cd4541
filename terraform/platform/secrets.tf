# The Secrets of helm-values/secrets.yaml, made once on kind. Their values are ephemeral and write-only: they are in the
# cluster and nowhere else, not in the plan, not in the state. In production External Secrets brings them from your vault
# (helm-values/manifests/production/secrets.yaml), and nothing is made here.

locals {
  # Secret: the revision at which it is written anew.
  secrets = local.environment != "kind" ? {} : merge(
    {
      weather-postgres         = var.passwords_revision
      dagster-postgresql       = var.passwords_revision
      weather-warehouse        = var.passwords_revision
      weather-warehouse-owner  = var.passwords_revision
      weather-warehouse-reader = var.passwords_revision
      weather-provider         = var.credentials_revision
      weather-alerts           = var.credentials_revision
    },
    var.warehouse == "databricks" ? { weather-databricks = var.credentials_revision } : {},
  )

  warehouse_server = "weather-postgres:5432/weather?sslmode=disable"
  dagster_server   = "weather-postgres:5432/dagster?sslmode=disable"

  secret_data = {
    weather-postgres = {
      postgres-password = ephemeral.random_password.role["postgres"].result
      url               = "postgresql://postgres:${ephemeral.random_password.role["postgres"].result}@${local.warehouse_server}"
    }
    dagster-postgresql = {
      postgresql-password = ephemeral.random_password.role["dagster"].result
      url                 = "postgresql://dagster:${ephemeral.random_password.role["dagster"].result}@${local.dagster_server}"
    }
    weather-warehouse = {
      url = "postgresql://weather_writer:${ephemeral.random_password.role["weather_writer"].result}@${local.warehouse_server}"
    }
    weather-warehouse-owner = {
      url = "postgresql://weather_owner:${ephemeral.random_password.role["weather_owner"].result}@${local.warehouse_server}"
    }
    weather-warehouse-reader = {
      url = "postgresql://weather_reader:${ephemeral.random_password.role["weather_reader"].result}@${local.warehouse_server}"
    }
    weather-provider = {
      OPENWEATHER_API_KEY = var.openweather_api_key
    }
    weather-alerts = {
      WEATHER_ALERT_URLS = var.alert_urls
    }
    weather-databricks = {
      DATABRICKS_HOST          = try(var.databricks.host, "")
      DATABRICKS_HTTP_PATH     = try(var.databricks.http_path, "")
      DATABRICKS_CATALOG       = try(var.databricks.catalog, "")
      DATABRICKS_TOKEN         = try(var.databricks.token, "")
      DATABRICKS_CLIENT_ID     = try(var.databricks.client_id, "")
      DATABRICKS_CLIENT_SECRET = try(var.databricks.client_secret, "")
    }
  }
}

# Letters and digits only: the passwords are parts of URLs.
ephemeral "random_password" "role" {
  for_each = toset(["postgres", "dagster", "weather_owner", "weather_writer", "weather_reader"])

  length  = 40
  special = false
}

resource "kubernetes_secret_v1" "weather" {
  for_each = local.secrets

  metadata {
    name      = each.key
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
  }

  type             = "Opaque"
  data_wo          = local.secret_data[each.key]
  data_wo_revision = each.value
}
