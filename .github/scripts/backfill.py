"""Launch a backfill of all assets through a webserver, wait for it, and fail when it fails.

python .github/scripts/backfill.py http://127.0.0.1:3000 2026-11-27-00:00 2026-11-27-01:00
"""

import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any

ASSETS = "query { assetNodes { assetKey { path } isMaterializable } }"
LAUNCH = """
mutation ($assets: [AssetKeyInput!]!, $partitions: [String!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, partitionNames: $partitions}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status runs(limit: 20) { runId status } }
} }
"""
ENDED = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}
SUCCEEDED = {"COMPLETED_SUCCESS", "COMPLETED"}
DEADLINE_SECONDS = 900


def ask(url: str, query: str, **variables: Any) -> Any:
    """The data of an answer without errors."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - http
            answered = json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{url} answered {error.code}: {error.read().decode()[:2000]}")
    except urllib.error.URLError as error:
        sys.exit(f"{url} does not answer: {error.reason}")
    if "errors" in answered:
        sys.exit(f"{url} answered {json.dumps(answered['errors'])[:2000]}")
    return answered["data"]


def main() -> None:
    """Launch, wait, tell."""
    url, *partitions = sys.argv[1:]
    assets = [node["assetKey"] for node in ask(url, ASSETS)["assetNodes"] if node["isMaterializable"]]
    launched = ask(url, LAUNCH, assets=assets, partitions=partitions)["launchPartitionBackfill"]
    if "backfillId" not in launched:
        sys.exit(f"the backfill was not launched: {launched}")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (backfill := ask(url, STATUS, id=launched["backfillId"])["partitionBackfillOrError"])["status"] not in ENDED:
        if time.monotonic() > deadline:
            sys.exit(f"the backfill still is {backfill} after {DEADLINE_SECONDS} s")
        time.sleep(5)
    sys.stdout.write(f"{backfill}\n")
    if backfill["status"] not in SUCCEEDED or not backfill["runs"]:
        sys.exit("the backfill failed")


if __name__ == "__main__":
    main()
