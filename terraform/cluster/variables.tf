variable "name" {
  type        = string
  description = "Name of the kind cluster."
  default     = "weather"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$", var.name))
    error_message = "name is \"${var.name}\"; take at most 40 lower-case letters, digits and inner hyphens."
  }
}

variable "existing_context" {
  type        = string
  description = "A context of the kubeconfig that leads to a cluster you have. No cluster is made then and no image built."
  default     = null

  validation {
    condition     = var.existing_context != ""
    error_message = "existing_context is empty; name a context of `kubectl config get-contexts`, or leave it out for a kind cluster."
  }
}

variable "kubeconfig_path" {
  type        = string
  description = "The kubeconfig: read for an existing context, written to for a kind cluster."
  default     = "~/.kube/config"
  nullable    = false
}

variable "node_image" {
  type        = string
  description = "Image of the kind node: it is the Kubernetes version."
  default     = "kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a"
  nullable    = false

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.node_image))
    error_message = "node_image is \"${var.node_image}\"; pin it by digest, as the release notes of kind give it: kindest/node:v1.34.0@sha256:..."
  }
}
