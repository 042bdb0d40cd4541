"""Images of others that the stacks name, for .github/workflows/scan.yml: a list in JSON."""

import json
import sys

from weather_dagster_tests.deployment.guards import OWN_IMAGES, images
from weather_dagster_tests.deployment.rendering import STACKS, stack


def foreign_images() -> list[str]:
    """All but our own, of every stack."""
    named = {image for name in STACKS for image in images(stack(name))}
    return sorted(image for image in named if image.rpartition(":")[0] not in OWN_IMAGES)


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(foreign_images())}\n")
