terraform {
  # Write-only arguments and ephemeral values keep passwords out of plan and state.
  required_version = ">= 1.11, < 2.0"

  required_providers {
    helm = {
      source  = "hashicorp/helm"
      version = "3.3.0"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "3.4.0"
    }
    random = {
      source  = "hashicorp/random"
      version = "3.9.1"
    }
  }
}

# The providers get the name of a context, not what is in it: another cluster under the same name needs no new plan.
provider "kubernetes" {
  config_path    = data.terraform_remote_state.cluster.outputs.kubeconfig_path
  config_context = data.terraform_remote_state.cluster.outputs.kube_context
}

provider "helm" {
  kubernetes = {
    config_path    = data.terraform_remote_state.cluster.outputs.kubeconfig_path
    config_context = data.terraform_remote_state.cluster.outputs.kube_context
  }
}
