terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    kind = {
      source  = "tehcyx/kind"
      version = "0.11.0"
    }
  }
}
