output "kubeconfig_path" {
  description = "The kubeconfig that has the context."
  value       = local.is_kind ? kind_cluster.weather[0].kubeconfig_path : local.kubeconfig
}

output "kube_context" {
  description = "The context of the cluster."
  value       = local.is_kind ? "kind-${kind_cluster.weather[0].name}" : var.existing_context
}

output "is_kind" {
  description = "Whether the cluster is kind's, with our images in it."
  value       = local.is_kind
}

output "images" {
  description = "The images in the kind cluster, by target of the Dockerfile."
  value       = local.is_kind ? local.images : {}
}

output "next" {
  description = "What to do now."
  value       = "terraform -chdir=terraform/platform init && terraform -chdir=terraform/platform apply"
}
