#!/usr/bin/env bash
# Holds an image to its budget, and runs it as a cluster does: without root, network or capabilities, with a read-only
# root and its mounts. First the command of its label, then, when it has a health check, what it serves by itself.
#   check_image.sh IMAGE
set -euo pipefail
image=$1
label() {
    docker image inspect --format "{{index .Config.Labels \"weather.$1\"}}" "$image"
}

container=$(docker create "$image")
size=$(($(docker export "$container" | wc -c) / 1000000))
docker rm "$container" >/dev/null
budget=$(label size-budget-mb)
echo "$image: $size MB unpacked, budget $budget MB"
if [ "$size" -gt "$budget" ]; then
    echo "$image is over its budget; \`docker history $image\` says what grew" >&2
    exit 1
fi

owned=uid=10001,gid=10001,mode=0700
as_in_a_cluster=(--read-only --network none --cap-drop ALL --security-opt no-new-privileges
    --tmpfs /tmp --tmpfs "/var/lib/weather:$owned" --tmpfs "/opt/dagster/dagster_home:$owned"
    --env WEATHER_ENV=local
    --env SUPERSET_SECRET_KEY="$(openssl rand -base64 42)"
    --env SUPERSET__SQLALCHEMY_DATABASE_URI=sqlite:////var/lib/weather/superset.db)
read -ra command <<<"$(label check)"
docker run --rm "${as_in_a_cluster[@]}" "$image" "${command[@]}"

if [ "$(docker image inspect --format '{{index .Config.Healthcheck.Test 0}}' "$image")" != NONE ]; then
    container=$(docker run --detach --health-interval 5s "${as_in_a_cluster[@]}" "$image")
    trap 'docker rm --force "$container" >/dev/null' EXIT
    for ((second = 0; second < 240; second++)); do
        health=$(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$container")
        [ "$health" = "running starting" ] || break
        sleep 1
    done
    echo "$image, serving by itself: $health"
    if [ "$health" != "running healthy" ]; then
        docker logs "$container"
        exit 1
    fi
fi
