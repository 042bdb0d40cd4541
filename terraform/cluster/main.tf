# A kind cluster with our images in it, or nothing but the name of a cluster that is there.

locals {
  root       = "${path.module}/../.."
  version    = regex("version=\"([^\"]+)\"", file("${local.root}/setup.py"))[0]
  kubeconfig = pathexpand(var.kubeconfig_path)
  is_kind    = var.existing_context == null

  # By target of the Dockerfile.
  images = {
    for target in ["code-location", "ingestor"] : target => "weather-${target}:${local.version}"
  }

  # What an image is made of: another sum builds it anew.
  image_sources = sort(concat(
    [".dockerignore", "Dockerfile", "constraints.txt", "dagster.yaml", "pyproject.toml", "requirements-ingest.txt", "setup.py", "workspace.yaml"],
    tolist(fileset(local.root, "weather_dagster/**/*.{py,yaml,parquet,sql,css,js,j2,svg}")),
    tolist(fileset(local.root, "weather_dbt/{models,macros,tests}/**")),
    tolist(fileset(local.root, "weather_dbt/*.yml")),
  ))
  sources_sum = sha256(join("", [for name in local.image_sources : filesha256("${local.root}/${name}")]))
}

resource "kind_cluster" "weather" {
  count = local.is_kind ? 1 : 0

  name            = var.name
  node_image      = var.node_image
  kubeconfig_path = local.kubeconfig
  wait_for_ready  = true

  kind_config {
    kind        = "Cluster"
    api_version = "kind.x-k8s.io/v1alpha4"

    networking {
      # No other machine reaches the API.
      api_server_address = "127.0.0.1"
    }

    node {
      role = "control-plane"
    }
  }
}

resource "terraform_data" "image" {
  for_each = local.is_kind ? local.images : {}

  triggers_replace = [kind_cluster.weather[0].id, local.sources_sum]

  # In words that sh and cmd.exe both know. `ctr import` is what `kind load` does.
  provisioner "local-exec" {
    working_dir = local.root
    command     = "docker build --target ${each.key} --build-arg VERSION=${local.version} --tag ${each.value} . && docker save ${each.value} | docker exec --interactive ${var.name}-control-plane ctr --namespace k8s.io images import -"
  }
}
