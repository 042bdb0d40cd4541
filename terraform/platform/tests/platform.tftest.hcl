# terraform -chdir=terraform/platform test: nothing is made. The provider of the passwords is the real one, since ephemeral
# values cannot be mocked; it touches nothing.

mock_provider "kubernetes" {}

mock_provider "helm" {}

override_data {
  target = data.terraform_remote_state.cluster
  values = {
    outputs = { kubeconfig_path = "kubeconfig", kube_context = "kind-weather", is_kind = true }
  }
}

run "installs_on_kind" {
  command = plan

  assert {
    condition     = kubernetes_namespace_v1.weather.metadata[0].labels["pod-security.kubernetes.io/enforce"] == "restricted"
    error_message = "The namespace takes pods that are not restricted."
  }

  assert {
    condition     = length(setsubtract(keys(kubernetes_secret_v1.weather), keys(yamldecode(file("../../helm-values/secrets.yaml"))))) == 0
    error_message = "A Secret is made that helm-values/secrets.yaml does not know."
  }

  assert {
    condition     = alltrue([for secret in values(kubernetes_secret_v1.weather) : secret.data_wo == null && secret.data_wo_revision == 1])
    error_message = "The values of a Secret are in the plan."
  }

  assert {
    condition     = contains([for each in yamldecode(helm_release.objects.values[0]).objects : "${each.kind}/${each.metadata.name}"], "StatefulSet/weather-postgres")
    error_message = "There is no Postgres."
  }

  assert {
    condition     = [for each in yamldecode(helm_release.objects.values[0]).objects : each.metadata.name if can(each.metadata.annotations["helm.sh/hook"])] == ["weather-migrate"]
    error_message = "Helm does not wait for the migration, or for something else."
  }

  assert {
    condition     = alltrue([for each in yamldecode(helm_release.objects.values[0]).objects : each.metadata.namespace == "weather"])
    error_message = "An object would land in another namespace."
  }

  assert {
    condition     = strcontains(file("../../constraints.txt"), "\ndagster==${helm_release.dagster.version}\n")
    error_message = "The chart is not of the version of Dagster in constraints.txt."
  }

  assert {
    condition     = [for text in helm_release.dagster.values : length(yamldecode(text)) > 0] == [true, true]
    error_message = "The values are not those of dagster.yaml and kind.yaml."
  }

  assert {
    condition     = yamldecode(helm_release.dagster.values[0]).dagsterDaemon.image.repository == "weather-code-location"
    error_message = "The image is not the one that kind's node has."
  }

  assert {
    condition     = join(" ", output.open.open) == "http://127.0.0.1:3000" && strcontains(output.open.run, "--context kind-weather")
    error_message = "The output does not say what to open."
  }
}

run "installs_in_production" {
  command = plan

  variables {
    environment    = "production"
    image_registry = "ghcr.io/acme"
    namespace      = "forecasts"
  }

  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = { kubeconfig_path = "kubeconfig", kube_context = "prod", is_kind = false }
    }
  }

  assert {
    condition     = length(kubernetes_secret_v1.weather) == 0
    error_message = "Secrets are made beside those of External Secrets."
  }

  assert {
    condition = alltrue([
      for text in concat(helm_release.dagster.values, helm_release.objects.values) : !can(regex("[^/]weather-(code-location|ingestor)\"?:", text)) && !can(regex("repository: weather", text))
    ])
    error_message = "An image of ours is not pulled from the registry."
  }

  assert {
    condition     = yamldecode(helm_release.dagster.values[0])["dagster-user-deployments"].deployments[0].image.repository == "ghcr.io/acme/weather-code-location"
    error_message = "The code location's image is not the registry's."
  }

  assert {
    condition     = alltrue([for each in yamldecode(helm_release.objects.values[0]).objects : each.metadata.namespace == "forecasts"])
    error_message = "An object would land in another namespace."
  }

  assert {
    condition     = contains([for each in yamldecode(helm_release.objects.values[0]).objects : each.kind], "ExternalSecret")
    error_message = "Nothing brings the Secrets."
  }

  assert {
    condition     = length(output.open.open) > 0 && alltrue([for address in output.open.open : startswith(address, "https://")])
    error_message = "The output does not say what to open."
  }
}

run "installs_databricks_on_kind" {
  command = plan

  variables {
    warehouse  = "databricks"
    databricks = { host = "acme.cloud.databricks.com", http_path = "/sql/1.0/warehouses/1", token = "none" }
  }

  assert {
    condition     = contains(keys(kubernetes_secret_v1.weather), "weather-databricks")
    error_message = "There is no Secret for Databricks."
  }

  assert {
    condition     = helm_release.dagster.values[2] == file("../../helm-values/databricks.yaml")
    error_message = "The values of Databricks are not the last ones."
  }

  assert {
    condition     = [for each in yamldecode(helm_release.objects.values[0]).objects : each.data.WEATHER_ENV if each.metadata.name == "weather-settings"] == ["databricks"]
    error_message = "The pods would land in Postgres."
  }
}

run "brings_choices_to_the_pods" {
  command = plan

  variables {
    settings = { OPENWEATHER_PLAN = "one_call_3", WEATHER_ALERT_WINDOW_MINUTES = 60 }
    places   = "tests/places.yaml"
  }

  assert {
    condition = [for each in yamldecode(helm_release.objects.values[0]).objects : each.data if each.metadata.name == "weather-settings"] == [{
      DAGSTER_EVENT_BATCH_SIZE     = "500"
      OPENWEATHER_PLAN             = "one_call_3"
      WEATHER_ALERT_WINDOW_MINUTES = "60"
      WEATHER_ENV                  = "cluster"
      WEATHER_LOCATIONS            = "/places/places.yaml"
      WEATHER_LOG_FORMAT           = "json"
    }]
    error_message = "The settings are not those of base/settings.yaml with the chosen ones."
  }

  assert {
    condition     = [for each in yamldecode(helm_release.objects.values[0]).objects : each.data["places.yaml"] if each.metadata.name == "weather-places"] == [file("tests/places.yaml")]
    error_message = "The places are not those of the file."
  }
}

run "lets_the_ingestor_in_with_registry_and_pull_secret" {
  command = plan

  variables {
    environment       = "production"
    image_registry    = "ghcr.io/acme"
    image_pull_secret = "ghcr"
    ingestor          = true
  }

  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = { kubeconfig_path = "kubeconfig", kube_context = "prod", is_kind = false }
    }
  }

  assert {
    condition     = [for each in yamldecode(helm_release.objects.values[0]).objects : each.spec.jobTemplate.spec.template.spec.containers[0].image if each.metadata.name == "weather-ingestor"] == ["ghcr.io/acme/weather-ingestor:0.1.0"]
    error_message = "The ingestor is missing, or is not pulled from the registry."
  }

  assert {
    condition     = [for account in kubernetes_default_service_account_v1.weather : [for secret in account.image_pull_secret : secret.name]] == [["ghcr"]]
    error_message = "The ingestor is pulled without the Secret."
  }
}

run "installs_databricks_in_production" {
  command = plan

  variables {
    environment    = "production"
    image_registry = "ghcr.io/acme"
    warehouse      = "databricks"
  }

  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = { kubeconfig_path = "kubeconfig", kube_context = "prod", is_kind = false }
    }
  }

  assert {
    condition     = contains([for each in yamldecode(helm_release.objects.values[0]).objects : "${each.kind}/${each.metadata.name}"], "ExternalSecret/weather-databricks")
    error_message = "Nothing brings the Secret of Databricks."
  }
}

run "writes_new_passwords_at_a_new_revision" {
  command = plan

  variables {
    passwords_revision = 2
  }

  assert {
    condition     = toset([for name, secret in kubernetes_secret_v1.weather : name if secret.data_wo_revision == 2]) == toset(["dagster-postgresql", "weather-postgres", "weather-warehouse", "weather-warehouse-owner", "weather-warehouse-reader"])
    error_message = "Not exactly the passwords are written anew."
  }
}

run "writes_new_credentials_at_a_new_revision" {
  command = plan

  variables {
    credentials_revision = 2
    openweather_api_key  = "0123456789abcdef0123456789abcdef"
  }

  assert {
    condition     = toset([for name, secret in kubernetes_secret_v1.weather : name if secret.data_wo_revision == 2]) == toset(["weather-alerts", "weather-provider"])
    error_message = "Not exactly the credentials are written anew."
  }
}

run "takes_own_values_last" {
  command = plan

  variables {
    values_files = ["../../helm-values/production.yaml"]
  }

  assert {
    condition     = helm_release.dagster.values[2] == file("../../helm-values/production.yaml")
    error_message = "Own values do not come last."
  }
}

run "writes_down_which_installation_the_state_is_of" {
  command   = apply
  state_key = "installed"

  plan_options {
    target = [terraform_data.installation]
  }

  # Terraform 1.11 wants ephemeral variables said where a test applies.
  variables {
    openweather_api_key = ""
    alert_urls          = ""
    databricks          = { host = "not-used.example.com", http_path = "/", token = "not-used" }
  }

  assert {
    condition     = terraform_data.installation.output == "kind in the namespace weather of kind-weather"
    error_message = "The state does not tell which installation it is of."
  }
}

run "refuses_another_namespace_in_the_same_state" {
  command   = plan
  state_key = "installed"

  variables {
    namespace = "forecasts"
  }

  expect_failures = [terraform_data.installation]
}

run "refuses_another_environment_in_the_same_state" {
  command   = plan
  state_key = "installed"

  variables {
    environment    = "production"
    image_registry = "ghcr.io/acme"
  }

  expect_failures = [terraform_data.installation]
}

run "refuses_another_cluster_in_the_same_state" {
  command   = plan
  state_key = "installed"

  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = { kubeconfig_path = "kubeconfig", kube_context = "kind-drill", is_kind = true }
    }
  }

  expect_failures = [terraform_data.installation]
}

run "refuses_a_setting_that_is_none_or_secret" {
  command = plan

  variables {
    settings = { OPENWEATHER_PLN = "one_call_3", OPENWEATHER_API_KEY = "0123456789abcdef0123456789abcdef" }
  }

  expect_failures = [var.settings]
}

run "refuses_places_that_are_none" {
  command = plan

  variables {
    places = "../../weather_dagster/settings.py"
  }

  expect_failures = [var.places]
}

run "refuses_a_credential_for_the_name_of_a_pull_secret" {
  command = plan

  variables {
    image_pull_secret = "{\"auths\": {}}"
  }

  expect_failures = [var.image_pull_secret]
}

run "refuses_an_existing_cluster_without_an_environment" {
  command = plan

  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = { kubeconfig_path = "kubeconfig", kube_context = "prod", is_kind = false }
    }
  }

  expect_failures = [data.terraform_remote_state.cluster]
}

run "refuses_an_unknown_environment" {
  command = plan

  variables {
    environment    = "staging"
    image_registry = "ghcr.io/acme"
  }

  expect_failures = [var.environment]
}

run "refuses_an_unknown_warehouse" {
  command = plan

  variables {
    warehouse = "duckdb"
  }

  expect_failures = [var.warehouse]
}

run "takes_a_service_principal_of_databricks" {
  command = plan

  variables {
    warehouse  = "databricks"
    databricks = { host = "acme.cloud.databricks.com", http_path = "/sql/1.0/warehouses/1", client_id = "a", client_secret = "none" }
  }

  assert {
    condition     = contains(keys(kubernetes_secret_v1.weather), "weather-databricks")
    error_message = "There is no Secret for Databricks."
  }
}

run "refuses_half_a_service_principal" {
  command = plan

  variables {
    warehouse  = "databricks"
    databricks = { host = "acme.cloud.databricks.com", http_path = "/sql/1.0/warehouses/1", client_id = "a" }
  }

  expect_failures = [var.databricks]
}

run "refuses_databricks_without_its_token" {
  command = plan

  variables {
    warehouse = "databricks"
  }

  expect_failures = [var.databricks]
}

run "refuses_a_namespace_of_the_cluster" {
  command = plan

  variables {
    namespace = "kube-system"
  }

  expect_failures = [var.namespace]
}

run "refuses_production_without_a_registry" {
  command = plan

  variables {
    environment = "production"
  }

  expect_failures = [var.image_registry]
}

run "refuses_a_registry_with_a_scheme" {
  command = plan

  variables {
    image_registry = "https://ghcr.io/acme/"
  }

  expect_failures = [var.image_registry]
}

run "refuses_a_key_that_is_none" {
  command = plan

  variables {
    openweather_api_key = "not a key"
  }

  expect_failures = [var.openweather_api_key]
}

run "refuses_half_a_revision" {
  command = plan

  variables {
    passwords_revision   = 1.5
    credentials_revision = 0
  }

  expect_failures = [var.passwords_revision, var.credentials_revision]
}

run "refuses_values_that_are_not_there" {
  command = plan

  variables {
    values_files = ["no-such-values.yaml"]
  }

  expect_failures = [var.values_files]
}
