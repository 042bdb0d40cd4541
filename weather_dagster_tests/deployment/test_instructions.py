"""What the pages tell a person to type, typed: on a real Postgres and a real git, with a stand-in for the cluster."""

import json
import os
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from weather_dagster.hours import floor_hour, format_hour, utc_now
from weather_dagster_tests.conftest import Weather
from weather_dagster_tests.deployment.conftest import BINARIES, platform_postgres
from weather_dagster_tests.deployment.guards import (
    PLACES_FOLDER,
    certificate_findings,
    declared_secrets,
    kubernetes_findings,
    kustomization_findings,
    network_findings,
    reader_findings,
    service_findings,
)
from weather_dagster_tests.deployment.rendering import (
    PROJECT,
    VALUES,
    documents,
    has_own_server,
    name_of,
    pods,
    stack,
)
from weather_dagster_tests.deployment.test_day_two import of_production
from weather_dagster_tests.deployment.typing_in import DEPLOYMENT, OPERATIONS, block, stand_in, type_in
from weather_dagster_tests.postgres import running_server

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("sh"), reason="there is no sh on the PATH"),
]


def test_by_hand_every_secret_that_kind_must_have_is_made_with_its_keys(tmp_path: Path) -> None:
    # kubectl --namespace weather create secret generic NAME --from-env-file=/dev/stdin
    stand_in(tmp_path, 'cat > "$6.env"', "kubectl")
    done = type_in(block(DEPLOYMENT, "secret()"), tmp_path)
    assert done.returncode == 0, done.stderr
    made = {
        path.stem: dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())
        for path in tmp_path.glob("*.env")
    }
    wanted = {
        name: set(entry["keys"])
        for name, entry in declared_secrets().items()
        if not entry.get("optional") and "only in production" not in entry["purpose"]
    }
    assert {name: set(data) for name, data in made.items()} == wanted
    roles = {name: conninfo_to_dict(data["url"]) for name, data in made.items()}
    assert {name: (role["user"], role["host"], role["dbname"]) for name, role in roles.items()} == {
        "weather-postgres": ("postgres", "weather-postgres", "weather"),
        "dagster-postgresql": ("dagster", "weather-postgres", "dagster"),
        "weather-warehouse-owner": ("weather_owner", "weather-postgres", "weather"),
        "weather-warehouse": ("weather_writer", "weather-postgres", "weather"),
        "weather-warehouse-reader": ("weather_reader", "weather-postgres", "weather"),
    }
    assert made["weather-postgres"]["postgres-password"] == roles["weather-postgres"]["password"]
    assert made["dagster-postgresql"]["postgresql-password"] == roles["dagster-postgresql"]["password"]
    assert len({role["password"] for role in roles.values()}) == len(roles)


def test_on_a_managed_postgres_an_administrator_who_is_no_superuser_makes_all_roles(
    weather: Weather, tmp_path: Path
) -> None:
    with running_server() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("create role administrator login createrole createdb password 'secret'")

        def url(user: str, password: str, database: str = "weather") -> str:
            return f"postgresql://{user}:{password}@127.0.0.1:{server.port}/{database}"

        roles = ("dagster", "owner", "writer", "reader")
        told = re.sub(r"^export .*\n", "", block(DEPLOYMENT, "export DAGSTER_PASSWORD"))
        done = type_in(
            told,
            tmp_path,
            ADMINISTRATOR_URL=url("administrator", "secret", "postgres"),
            **{f"{role.upper()}_PASSWORD": f"of-{role}" for role in roles},
        )
        assert done.returncode == 0, done.stderr
        hour = format_hour(floor_hour(utc_now()))
        for command, user, password in (
            (("warehouse", "migrate"), "weather_owner", "of-owner"),
            (("warehouse", "roles"), "administrator", "secret"),
            (("ingest", "--from", hour, "--to", hour, "--place", "quito"), "weather_writer", "of-writer"),
        ):
            environment = {"WEATHER_ENV": "cluster", "WEATHER_HOME": str(tmp_path)}
            ran = weather(*command, WEATHER_POSTGRES_URL=url(user, password), **environment)
            assert ran.returncode == 0, ran.stderr
        allowed = {
            ("dagster", "of-dagster", "dagster", "create table probe (id int)"): True,
            ("weather_writer", "of-writer", "weather", "create table gold.shown as select 1 as hour"): True,
            ("weather_reader", "of-reader", "weather", "select * from gold.shown"): True,
            ("weather_reader", "of-reader", "weather", "select * from bronze.loads"): False,
            ("weather_writer", "of-writer", "weather", "drop table bronze.loads"): False,
            ("dagster", "of-dagster", "weather", "select 1"): False,
            ("weather_reader", "of-reader", "dagster", "select 1"): False,
        }
        for (user, password, database, statement), is_allowed in allowed.items():
            line = [BINARIES / "psql", "--command", statement, url(user, password, database)]
            told_back = subprocess.run(line, capture_output=True, text=True, check=False)
            assert (told_back.returncode == 0) == is_allowed, (user, statement, told_back.stderr)
        administrator = url("administrator", "secret", "postgres")
        rotation = re.sub(r"^export .*\n", "", block(OPERATIONS, "ALTER ROLE"))
        for role in roles:
            user, database = ("dagster", "dagster") if role == "dagster" else (f"weather_{role}", "weather")
            done = type_in(rotation, tmp_path, ADMINISTRATOR_URL=administrator, ROLE=user, NEW_PASSWORD="it's new")
            assert done.returncode == 0, done.stderr
            for password, is_allowed in ((f"of-{role}", False), ("it%27s%20new", True)):
                line = [BINARIES / "psql", "--command", "select 1", url(user, password, database)]
                told_back = subprocess.run(line, capture_output=True, text=True, check=False)
                assert (told_back.returncode == 0) == is_allowed, (user, told_back.stderr)


def test_a_managed_postgres_takes_the_place_of_ours_in_the_files_of_production(tmp_path: Path) -> None:
    if not has_own_server(stack("production")):
        pytest.skip("Postgres is a managed one already")
    values = shutil.copytree(VALUES, tmp_path / "helm-values")
    told = block(DEPLOYMENT, "SERVER=").replace("git rm --ignore-unmatch", "rm -f")
    # The provider's restore leads to a second server.
    (server,) = re.findall(r" SERVER=(\S+)", told)
    again = re.sub(" SERVER=.*", " SERVER=restored.example.com", re.sub("OLD=\\S+", f"OLD={server}", told))
    done = type_in(f"{told}{again}rm helm-values/*.bak helm-values/manifests/production/*.bak", tmp_path)
    assert done.returncode == 0, done.stderr
    production = tmp_path / "helm-values" / "manifests" / "production"
    with (production / "network.yaml").open("a", encoding="utf-8") as network:
        network.write(block(DEPLOYMENT, "---", "yaml"))
    changed = [path for path in (tmp_path / "helm-values").rglob("*.yaml") if "kind" not in path.parts]
    assert [path for path in changed if re.search("weather-postgres.*-r[wo]", path.read_text(encoding="utf-8"))] == []
    assert kustomization_findings(production.parent) == []
    ours, host = of_production(values)
    assert host == "restored.example.com"
    for guard in (kubernetes_findings, network_findings, certificate_findings, reader_findings):
        assert guard(ours) == []
    assert service_findings(ours, host) == []
    assert service_findings(ours, "weather-postgres-rw") != []
    unverified = json.loads(json.dumps(ours).replace("sslmode=verify-full", "sslmode=require"))
    assert certificate_findings(unverified) != []
    (way,) = [thing["spec"] for thing in ours if name_of(thing) == "to-managed-postgres"]
    selected = way["podSelector"]["matchLabels"].items()
    who = [pod for pod, template in pods(ours) if selected <= template["metadata"].get("labels", {}).items()]
    assert {"Deployment weather-dagster-daemon", "Deployment weather-dagster-webserver"} <= set(who)


def test_own_places_are_where_the_page_says_and_pods_look() -> None:
    told = block(DEPLOYMENT, "configmap weather-places")
    (key,) = re.findall(r"--from-file=([\w.]+)=", told)
    assert f"`WEATHER_LOCATIONS: {PLACES_FOLDER}/{key}`" in DEPLOYMENT
    (name,) = re.findall(r"create configmap (\S+)", told)
    objects = stack("kind")
    assert f"name: {name}" in yaml.safe_dump(objects)
    changed = block(DEPLOYMENT, "base/settings.yaml")
    (path,) = re.findall(r"apply --filename (\S+)", changed)
    assert [name_of(thing) for thing in documents(PROJECT / path)] == ["weather-settings"]
    (kind, restarted) = re.findall(r"rollout restart (\w+)/(\S+)", changed)[0]
    assert (kind, restarted) in {(thing["kind"].lower(), name_of(thing)) for thing in objects}


def test_an_upgrade_and_the_way_back_leave_what_is_committed_and_what_is_chosen(tmp_path: Path) -> None:
    (merging,) = re.findall(r"git fetch --tags && git merge.*", OPERATIONS)
    (reverting,) = re.findall(r"git revert --no-edit.*", OPERATIONS)
    chosen = "terraform/platform/settings.auto.tfvars"
    shutil.copy(PROJECT / ".gitignore", tmp_path)
    done = type_in(
        f"""
        git init --quiet --initial-branch main theirs && cd theirs
        cp ../.gitignore . && echo 0.1.0 > version && echo example > host
        git add . && git commit --quiet --message one && git tag v0.1.0
        cd .. && git clone --quiet theirs mine && cd theirs
        echo 0.2.0 > version && git commit --quiet --all --message two && git tag v0.2.0
        cd ../mine && mkdir -p terraform/platform
        echo passwords_revision = 10 > {chosen}
        echo acme > host && git add . && git commit --quiet --message host
        {merging}
        cat version host {chosen} > ../upgraded
        {reverting}
        cat version host {chosen} > ../back
        """,
        tmp_path,
        GIT_CONFIG_GLOBAL=os.devnull,
        **{f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    )
    assert done.returncode == 0, done.stderr
    for state, version in (("upgraded", "0.2.0"), ("back", "0.1.0")):
        lines = (tmp_path / state).read_text(encoding="utf-8").splitlines()
        assert lines == [version, "acme", "passwords_revision = 10"]


def test_a_laptop_s_bronze_takes_the_place_of_what_the_cluster_has_fetched(weather: Weather, tmp_path: Path) -> None:
    def ingest(ago: int, **environment: str) -> None:
        hour = format_hour(floor_hour(utc_now()) - timedelta(hours=ago))
        landed = weather("ingest", "--from", hour, "--to", hour, "--place", "quito", **environment)
        assert landed.returncode == 0, landed.stderr

    making, copying = (
        block(OPERATIONS, "drop schema"),
        block(OPERATIONS, "weather warehouse copy"),
    )
    with platform_postgres(tmp_path) as server:
        # kubectl get secret NAME ...; all else is said to a cluster.
        cases = "\n".join(
            f"{secret}) echo '{server.url(user).replace(f'127.0.0.1:{server.port}', 'weather-postgres:5432')}' ;;"
            for secret, user in (
                ("weather-postgres", "postgres"),
                ("weather-warehouse-owner", "weather_owner"),
                ("weather-warehouse", "weather_writer"),
            )
        )
        stand_in(tmp_path, f'[ "$1" = get ] || exit 0\ncase "$3" in\n{cases}\nesac', "kubectl")
        forwarded = making.replace("@127.0.0.1:5432/", f"@127.0.0.1:{server.port}/")
        assert forwarded != making
        (way,) = re.findall(r"^url\(\).*$", forwarded, re.MULTILINE)
        cluster = {"WEATHER_ENV": "cluster", "WEATHER_HOME": str(tmp_path)}
        for command, user in (("migrate", "weather_owner"), ("roles", "postgres")):
            assert weather("warehouse", command, WEATHER_POSTGRES_URL=server.url(user), **cluster).returncode == 0
        ingest(1, WEATHER_POSTGRES_URL=server.url("weather_writer"), **cluster)
        for ago in (3, 2):
            ingest(ago)
        refused = type_in(f"{way}\n{copying}", tmp_path)
        assert "is not one of the source" in refused.stderr
        done = type_in(forwarded + copying, tmp_path)
        assert done.returncode == 0, done.stderr
        counted = server.sql("weather_writer", "weather", "select count(*) from bronze.observations")
        assert counted.stdout.strip() == "2"
