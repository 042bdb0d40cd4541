# terraform -chdir=terraform/cluster test: nothing is made.

mock_provider "kind" {}

# The images need a real cluster to go to.
override_resource {
  target = terraform_data.image
}

run "makes_a_kind_cluster" {
  command = plan

  assert {
    condition     = kind_cluster.weather[0].kind_config[0].networking[0].api_server_address == "127.0.0.1"
    error_message = "Another machine can reach the API of the kind cluster."
  }

  assert {
    condition     = output.kube_context == "kind-weather" && output.is_kind
    error_message = "The context is not the one that kind writes."
  }

  assert {
    condition     = keys(terraform_data.image) == ["code-location", "ingestor"]
    error_message = "An image is missing in the cluster."
  }
}

run "makes_nothing_for_an_existing_context" {
  command = plan

  variables {
    existing_context = "prod"
  }

  assert {
    condition     = length(kind_cluster.weather) == 0 && length(terraform_data.image) == 0
    error_message = "Something is made beside a cluster that is there."
  }

  assert {
    condition     = output.kube_context == "prod" && !output.is_kind
    error_message = "The existing context is not handed on."
  }
}

run "writes_down_which_cluster_the_state_is_of" {
  command   = apply
  state_key = "made"

  plan_options {
    target = [terraform_data.cluster]
  }

  assert {
    condition     = terraform_data.cluster.output == "the kind cluster weather"
    error_message = "The state does not tell which cluster it is of."
  }
}

run "refuses_another_name_in_the_same_state" {
  command   = plan
  state_key = "made"

  variables {
    name = "drill"
  }

  expect_failures = [terraform_data.cluster]
}

run "refuses_an_existing_context_in_the_same_state" {
  command   = plan
  state_key = "made"

  variables {
    existing_context = "prod"
  }

  expect_failures = [terraform_data.cluster]
}

run "refuses_a_name_that_is_no_label" {
  command = plan

  variables {
    name = "Weather_1"
  }

  expect_failures = [var.name]
}

run "refuses_an_empty_context" {
  command = plan

  variables {
    existing_context = ""
  }

  expect_failures = [var.existing_context]
}

run "refuses_a_node_image_without_a_digest" {
  command = plan

  variables {
    node_image = "kindest/node:latest"
  }

  expect_failures = [var.node_image]
}
