# Namespace, Secrets, the plain objects of helm-values/manifests, then Dagster's chart with the values of helm-values.

data "terraform_remote_state" "cluster" {
  backend = "local"

  config = {
    path = var.cluster_state
  }

  lifecycle {
    postcondition {
      condition     = var.environment != null || try(self.outputs.is_kind, true)
      error_message = "terraform/cluster leads to an existing cluster: say environment = \"production\" in terraform/platform/settings.auto.tfvars, or \"kind\" if it may be thrown away."
    }

    postcondition {
      condition     = can(self.outputs.kube_context)
      error_message = "${var.cluster_state} tells of no cluster: run `terraform -chdir=terraform/cluster apply` first."
    }
  }
}

locals {
  dagster_chart_version = "1.13.27"

  helm_values = "${path.module}/../../helm-values"
  environment = coalesce(var.environment, "kind")
  registry    = var.image_registry == null ? "" : "${var.image_registry}/"

  installation = "${local.environment} in the namespace ${var.namespace} of ${data.terraform_remote_state.cluster.outputs.kube_context}"

  overlays = concat([local.environment], var.warehouse == "databricks" ? ["databricks"] : [])
  values = [
    for name in concat(["dagster"], local.overlays) :
    replace(file("${local.helm_values}/${name}.yaml"), "repository: weather-", "repository: ${local.registry}weather-")
  ]

  pull_secret_values = var.image_pull_secret == null ? [] : [yamlencode({
    imagePullSecrets         = [{ name = var.image_pull_secret }]
    dagster-user-deployments = { imagePullSecrets = [{ name = var.image_pull_secret }] }
  })]

  # Those of kustomization.yaml in the environment's folder; a test compares them.
  manifest_folders = {
    kind       = ["base", "backup", "kind"]
    production = ["base", "production"]
  }
  # On kind the Secret is made here.
  databricks_folders = var.warehouse == "databricks" && local.environment == "production" ? ["databricks"] : []
  ingestor_folders   = var.ingestor ? ["ingestor"] : []
  manifest_files = flatten([
    for folder in concat(local.manifest_folders[local.environment], local.databricks_folders, local.ingestor_folders) : [
      for name in fileset("${local.helm_values}/manifests/${folder}", "*.yaml") :
      "${folder}/${name}" if name != "kustomization.yaml"
    ]
  ])
  documents = flatten([
    for name in concat(local.manifest_files, ["jobs/migrate.yaml"]) : [
      for text in split("\n---\n", replace(file("${local.helm_values}/manifests/${name}"), "\r\n", "\n")) :
      # With the line's end that the split took: a script in it would lose its own.
      yamldecode(replace("${text}\n", "image: weather-", "image: ${local.registry}weather-"))
    ]
  ])
  namespace = one([for each in local.documents : each if each.kind == "Namespace"])
  migration = one([for each in local.documents : each if try(each.metadata.generateName, null) == "weather-migrate-"])
  objects = concat(
    [
      for each in local.documents : merge(
        each,
        { metadata = merge(each.metadata, { namespace = var.namespace }) },
        each.metadata.name == "weather-settings" ? { data = local.settings } : {},
      )
      if each.kind != "Namespace" && can(each.metadata.name)
    ],
    var.places == null ? [] : [{
      apiVersion = "v1"
      kind       = "ConfigMap"
      metadata   = { name = "weather-places", namespace = var.namespace }
      data       = local.places
    }],
    # Helm waits for a hook: the schema is of this version before Dagster's release begins. A first Postgres takes
    # minutes to come.
    [merge(local.migration, {
      spec = merge(local.migration.spec, { backoffLimit = 8 })
      metadata = {
        name      = "weather-migrate"
        namespace = var.namespace
        annotations = {
          "helm.sh/hook"               = "post-install,post-upgrade"
          "helm.sh/hook-delete-policy" = "before-hook-creation"
        }
      }
    })],
  )
}

# Which installation the state is of, as the first apply had it. For another one Terraform would take this one away.
resource "terraform_data" "installation" {
  input = local.installation

  lifecycle {
    ignore_changes = [input]

    postcondition {
      condition     = self.output == local.installation
      error_message = "The state of terraform/platform is of ${self.output}, the settings name ${local.installation}. Name the former again in terraform/platform/settings.auto.tfvars. If only the context of the same cluster has another name here, give it the former: `kubectl config rename-context`. For another installation take another clone, which has a state of its own. How to give this one up: terraform/README.md, Take it away."
    }
  }
}

resource "kubernetes_namespace_v1" "weather" {
  metadata {
    name   = var.namespace
    labels = local.namespace.metadata.labels
  }

  # With it go all volumes, whatever Helm keeps. How to delete it on purpose: terraform/README.md.
  lifecycle {
    prevent_destroy = true
  }
}

# Of the pods of the manifests. Those of the chart have accounts of their own.
resource "kubernetes_default_service_account_v1" "weather" {
  count = var.image_pull_secret == null ? 0 : 1

  metadata {
    namespace = kubernetes_namespace_v1.weather.metadata[0].name
  }

  image_pull_secret {
    name = var.image_pull_secret
  }
}

# As one release: Helm upgrades it, takes away what is no longer there, and rolls it back.
resource "helm_release" "objects" {
  name        = "weather-objects"
  namespace   = kubernetes_namespace_v1.weather.metadata[0].name
  chart       = "${path.module}/objects"
  values      = [yamlencode({ objects = local.objects })]
  max_history = 10
  # The volume of the backups binds with the first backup: to wait for it would be to wait for the night. The migration,
  # which waits for Postgres, is waited for.
  wait    = false
  timeout = 1800

  # A pod takes over what its account has when it is made.
  depends_on = [kubernetes_secret_v1.weather, kubernetes_default_service_account_v1.weather]
}

resource "helm_release" "dagster" {
  name        = "weather"
  namespace   = kubernetes_namespace_v1.weather.metadata[0].name
  repository  = "https://dagster-io.github.io/helm"
  chart       = "dagster"
  version     = local.dagster_chart_version
  values      = concat(local.values, local.pull_secret_values, [for name in var.values_files : file(name)])
  max_history = 10
  wait        = true
  timeout     = 900

  # Pods read ConfigMaps when they begin: other choices begin a new code server.
  set = [{
    name  = "dagster-user-deployments.deployments[0].annotations.weather/choices"
    value = local.choices_sum
    type  = "string"
  }]

  depends_on = [helm_release.objects]
}
