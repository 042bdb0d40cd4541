#!/usr/bin/env bash
# Holds an image to its budget, and runs it as a cluster does: without root, network or capabilities, with a read-only
# root and its mounts.
#   check_image.sh IMAGE COMMAND...
set -euo pipefail
image=$1
shift

container=$(docker create "$image")
size=$(($(docker export "$container" | wc -c) / 1000000))
docker rm "$container" >/dev/null
budget=$(docker image inspect --format '{{index .Config.Labels "weather.size-budget-mb"}}' "$image")
echo "$image: $size MB unpacked, budget $budget MB"
if [ "$size" -gt "$budget" ]; then
    echo "$image is over its budget; \`docker history $image\` says what grew" >&2
    exit 1
fi

owned=uid=10001,gid=10001,mode=0700
docker run --rm --read-only --network none --cap-drop ALL --security-opt no-new-privileges \
    --tmpfs /tmp --tmpfs "/var/lib/weather:$owned" --tmpfs "/opt/dagster/dagster_home:$owned" \
    --env WEATHER_ENV=local "$image" "$@"
