# A kind cluster with our images in it, or nothing but the name of a cluster that is there.

locals {
  root       = "${path.module}/../.."
  version    = regex("version=\"([^\"]+)\"", file("${local.root}/setup.py"))[0]
  kubeconfig = pathexpand(var.kubeconfig_path)
  is_kind    = var.existing_context == null
  cluster    = local.is_kind ? "the kind cluster ${var.name}" : "the context ${var.existing_context}"

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

# Which cluster the state is of, as the first apply had it. For another one Terraform would take this one away, and the
# databases in it.
resource "terraform_data" "cluster" {
  input = local.cluster

  lifecycle {
    ignore_changes = [input]

    postcondition {
      condition     = self.output == local.cluster
      error_message = "The state of terraform/cluster is of ${self.output}, the settings name ${local.cluster}. Name the former again in terraform/cluster/settings.auto.tfvars. If only the context of the same cluster has another name here, give it the former: `kubectl config rename-context`. For another cluster take another clone, which has a state of its own. To give ${self.output} up: `terraform -chdir=terraform/cluster destroy`."
    }
  }
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

  # The provider changes nothing of a cluster: it would make it anew, empty. What is above is for the next one.
  lifecycle {
    ignore_changes = all
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
