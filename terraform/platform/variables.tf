variable "cluster_state" {
  type        = string
  description = "The state file of terraform/cluster, from which the kube context comes."
  default     = "../cluster/terraform.tfstate"
  nullable    = false
}

variable "environment" {
  type        = string
  description = "Which overlay of helm-values and which manifests: kind or production. Default: kind for the cluster that terraform/cluster made; for any other it must be said."
  default     = null

  validation {
    condition     = contains(["kind", "production"], coalesce(var.environment, "kind"))
    error_message = "environment is \"${coalesce(var.environment, "null")}\"; known: kind, production."
  }
}

variable "warehouse" {
  type        = string
  description = "Where bronze, silver and gold are: postgres or databricks."
  default     = "postgres"
  nullable    = false

  validation {
    condition     = contains(["postgres", "databricks"], var.warehouse)
    error_message = "warehouse is \"${var.warehouse}\"; known: postgres, databricks."
  }
}

variable "namespace" {
  type        = string
  description = "Namespace of the platform; it is made, with the restricted level of Pod Security."
  default     = "weather"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", var.namespace)) && !startswith(var.namespace, "kube-")
    error_message = "namespace is \"${var.namespace}\"; take a DNS label of at most 63 characters that does not begin with kube-."
  }
}

variable "image_registry" {
  type        = string
  description = "Where the images weather-code-location and weather-ingestor are pulled from, such as ghcr.io/acme. Not for kind, whose node has them."
  default     = null

  validation {
    condition     = can(regex("^[a-z0-9.:/_-]+[^/]$", coalesce(var.image_registry, "ghcr.io/acme")))
    error_message = "image_registry is \"${coalesce(var.image_registry, "null")}\"; write host and path without a scheme and without a slash at the end."
  }

  validation {
    condition     = coalesce(var.environment, "kind") == "kind" || var.image_registry != null
    error_message = "image_registry is missing: the nodes of a ${coalesce(var.environment, "kind")} cluster have no images of ours; name the registry you pushed them to."
  }
}

variable "passwords_revision" {
  type        = number
  description = "Raise by one in settings.auto.tfvars for new passwords of all database roles. Nothing else changes them."
  default     = 1
  nullable    = false

  validation {
    condition     = var.passwords_revision >= 1 && floor(var.passwords_revision) == var.passwords_revision
    error_message = "passwords_revision is ${var.passwords_revision}; take a whole number from 1."
  }
}

variable "credentials_revision" {
  type        = number
  description = "Raise by one in settings.auto.tfvars after you changed openweather_api_key, alert_urls or databricks. Terraform keeps no copy to compare them with."
  default     = 1
  nullable    = false

  validation {
    condition     = var.credentials_revision >= 1 && floor(var.credentials_revision) == var.credentials_revision
    error_message = "credentials_revision is ${var.credentials_revision}; take a whole number from 1."
  }
}

variable "openweather_api_key" {
  type        = string
  description = "Key of the weather provider. Empty: the simulator answers. Give it as TF_VAR_openweather_api_key."
  default     = ""
  nullable    = false
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = can(regex("^([0-9a-f]{32})?$", var.openweather_api_key))
    error_message = "openweather_api_key is not 32 hexadecimal digits; copy it again from the account's page."
  }
}

variable "alert_urls" {
  type        = string
  description = "Who is told of problems: Apprise URLs with blanks between. Empty: alerts are kept in a table and the log. Give it as TF_VAR_alert_urls."
  default     = ""
  nullable    = false
  sensitive   = true
  ephemeral   = true
}

variable "databricks" {
  type = object({
    host          = string
    http_path     = string
    catalog       = optional(string, "")
    token         = optional(string, "")
    client_id     = optional(string, "")
    client_secret = optional(string, "")
  })
  description = "The Databricks SQL warehouse, for warehouse = databricks on kind, with a token or a service principal's client_id and client_secret. Without a catalog it is the one named weather. Give it as TF_VAR_databricks."
  default     = null
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = var.databricks == null || (startswith(try(var.databricks.http_path, ""), "/") && !strcontains(try(var.databricks.host, "/"), "/"))
    error_message = "databricks.host is a bare host name and databricks.http_path begins with a slash, as the warehouse's connection details show them."
  }

  validation {
    condition     = var.databricks == null || try(var.databricks.token, "") != "" || (try(var.databricks.client_id, "") != "" && try(var.databricks.client_secret, "") != "")
    error_message = "databricks has no way to sign in; give it a token, or client_id and client_secret."
  }

  validation {
    condition     = var.databricks != null || var.warehouse != "databricks" || var.environment == "production"
    error_message = "databricks is missing: warehouse = databricks needs host, http_path and a token, or client_id and client_secret; give them as TF_VAR_databricks."
  }
}

variable "values_files" {
  type        = list(string)
  description = "Your own values of the Dagster chart, applied last: sizes, replicas, node selectors."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.values_files : fileexists(name)])
    error_message = "Not there: ${join(", ", [for name in var.values_files : name if !fileexists(name)])}; paths are relative to terraform/platform."
  }
}

variable "settings" {
  type        = map(string)
  description = "Settings of .env.example for code server, runs, ingestor and migration, such as { OPENWEATHER_PLAN = \"one_call_3\" }. A change begins a new code server."
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.settings), local.known_settings)) == 0
    error_message = "settings has ${join(", ", setsubtract(keys(var.settings), local.known_settings))}; known: ${join(", ", local.known_settings)}. Keys and URLs of alerts are Secrets, the places are `places`, Databricks is `warehouse`."
  }
}

variable "places" {
  type        = string
  description = "Your own places: a file in the format of weather_dagster/locations.yaml. Default: those of that file."
  default     = null

  validation {
    condition     = var.places == null || try(length(yamldecode(file(var.places)).locations) > 0, false)
    error_message = "places is \"${coalesce(var.places, "null")}\", which is no YAML file with a list under `locations:`; the path is relative to terraform/platform."
  }
}

variable "ingestor" {
  type        = bool
  description = "Whether a CronJob lands the running hour without Dagster. Switch Dagster's schedule hourly_weather off then, or each hour is paid for twice."
  default     = false
  nullable    = false
}

variable "image_pull_secret" {
  type        = string
  description = "A Secret of type kubernetes.io/dockerconfigjson in the namespace, with which all pods pull their images. Default: the nodes may pull them."
  default     = null

  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", coalesce(var.image_pull_secret, "ghcr")))
    error_message = "image_pull_secret is \"${coalesce(var.image_pull_secret, "null")}\"; give the name of a Secret, not what is in it."
  }
}
