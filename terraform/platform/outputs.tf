output "namespace" {
  description = "Where the platform runs."
  value       = kubernetes_namespace_v1.weather.metadata[0].name
}

output "open" {
  description = "What to open: on kind, a command to leave running and the address it serves."
  value = local.environment == "kind" ? {
    run  = "kubectl --context ${data.terraform_remote_state.cluster.outputs.kube_context} --namespace ${var.namespace} port-forward service/weather-dagster-webserver 3000:3000"
    open = ["http://127.0.0.1:3000"]
    } : {
    run  = ""
    open = flatten([for each in local.objects : [for rule in each.spec.rules : "https://${rule.host}"] if each.kind == "Ingress"])
  }
}

output "secrets" {
  description = "The Secrets made here, with the revision of their values."
  value       = local.secrets
}

output "dagster_chart_version" {
  description = "Version of Dagster's chart, which is Dagster's own."
  value       = local.dagster_chart_version
}
