"""All that is installed fits together and is safe: what the chart makes of our values, and our own manifests."""

import copy
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from weather_dagster.settings import Settings
from weather_dagster_tests.deployment.guards import (
    Findings,
    archive_findings,
    certificate_findings,
    choice_findings,
    declared_secrets,
    external_secret_findings,
    image_findings,
    keep_findings,
    kubernetes_findings,
    kustomization_findings,
    name_findings,
    namespace_findings,
    network_findings,
    probe_findings,
    quota_findings,
    reader_findings,
    reference_findings,
    resource_findings,
    restricted_findings,
    secret_findings,
    secret_references,
    service_findings,
    service_link_findings,
    sign_in_findings,
    token_findings,
    written_secret_findings,
)
from weather_dagster_tests.deployment.rendering import (
    MANIFESTS,
    PROJECT,
    STACKS,
    Object,
    before_restores,
    has_own_server,
    name_of,
    own_values,
    stack,
    undated,
    with_defaults,
)

PRODUCTION = [name for name in STACKS if "production" in name]


def project_version() -> str:
    """The version in setup.py."""
    (version,) = re.findall(r'version="([^"]+)"', (PROJECT / "setup.py").read_text(encoding="utf-8"))
    return str(version)


def postgres_host(name: str) -> str:
    """Where the values of a stack look for Postgres."""
    overlays, _ = STACKS[name]
    return str(own_values(*overlays)["postgresql"]["postgresqlHost"])


def runs_at_once(name: str) -> int:
    """How many runs the values of a stack allow."""
    overlays, _ = STACKS[name]
    return int(with_defaults(own_values(*overlays))["concurrency"]["runs"]["maxConcurrentRuns"])


def settings() -> list[str]:
    """Variables that the platform reads."""
    return [name.upper() for name in Settings.model_fields]


def dbt_variables() -> list[str]:
    """Variables that dbt's profiles read."""
    return re.findall(r"env_var\('(\w+)'", (PROJECT / "weather_dbt" / "profiles.yml").read_text(encoding="utf-8"))


GUARDS: dict[str, Callable[[str, list[Object]], Findings]] = {
    "strict schemas": lambda _, objects: kubernetes_findings(objects),
    "restricted": lambda _, objects: restricted_findings(objects),
    "tokens": lambda _, objects: token_findings(objects),
    "resources": lambda _, objects: resource_findings(objects),
    "probes": lambda _, objects: probe_findings(objects),
    "secrets": lambda _, objects: secret_findings(objects, declared_secrets()),
    "readers": lambda _, objects: reader_findings(objects),
    "written out": lambda _, objects: written_secret_findings(objects),
    "namespace": lambda _, objects: namespace_findings(objects),
    "kept": lambda _, objects: keep_findings(objects),
    "references": lambda _, objects: reference_findings(objects),
    "choices": lambda _, objects: choice_findings(objects),
    "services": lambda name, objects: service_findings(objects, postgres_host(name)),
    "certificates": lambda _, objects: certificate_findings(objects),
    "network": lambda _, objects: network_findings(objects),
    "names": lambda _, objects: name_findings(objects),
    "quota": lambda name, objects: quota_findings(objects, runs_at_once(name)),
    "archive": lambda _, objects: archive_findings(objects),
    "sign-in": lambda _, objects: sign_in_findings(objects),
    "images": lambda _, objects: image_findings(objects, project_version()),
    "service links": lambda _, objects: service_link_findings(objects, [*settings(), *dbt_variables()]),
}


@pytest.fixture(scope="module")
def stacks() -> dict[str, list[Object]]:
    return {name: stack(name) for name in STACKS}


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("name", STACKS)
def test_what_is_installed_passes(name: str, guard: str, stacks: dict[str, list[Object]]) -> None:
    assert GUARDS[guard](name, stacks[name]) == []


# Guard, object, path in it, the value that is planted there (DROP: taken away), and a word of the finding.
DROP = object()
POD = "spec/template/spec"
CRON_POD = "spec/jobTemplate/spec/template/spec"
FAULTS: list[tuple[str, str, str, Any, str]] = [
    ("strict schemas", "Service weather-postgres", "spec/port", 5432, "port"),
    ("strict schemas", "StatefulSet weather-postgres", f"{POD}/containers/0/livenessProb", {}, "livenessProb"),
    ("strict schemas", "CronJob weather-backup", "spec/schedule", DROP, "schedule"),
    ("strict schemas", "NetworkPolicy to-postgres", "spec/podSelector", DROP, "podSelector"),
    ("strict schemas", "ConfigMap weather-settings", "data/DAGSTER_EVENT_BATCH_SIZE", 500, "500"),
    ("restricted", "Deployment weather-dagster-daemon", f"{POD}/securityContext/runAsNonRoot", DROP, "root"),
    ("restricted", "Deployment weather-dagster-daemon", f"{POD}/securityContext/runAsUser", 0, "numeric user"),
    ("restricted", "StatefulSet weather-postgres", f"{POD}/containers/0/securityContext/runAsUser", 0, "numeric user"),
    ("restricted", "StatefulSet weather-postgres", f"{POD}/hostNetwork", True, "hostNetwork"),
    ("restricted", "StatefulSet weather-postgres", f"{POD}/securityContext/seccompProfile", DROP, "seccomp"),
    ("restricted", "CronJob weather-ingestor", f"{CRON_POD}/containers/0/securityContext/capabilities", DROP, "keeps"),
    (
        "restricted",
        "CronJob weather-ingestor",
        f"{CRON_POD}/containers/0/securityContext/privileged",
        True,
        "privileged",
    ),
    (
        "restricted",
        "CronJob weather-ingestor",
        f"{CRON_POD}/containers/0/securityContext/capabilities/add",
        ["SYS_ADMIN"],
        "adds",
    ),
    (
        "restricted",
        "CronJob weather-backup",
        f"{CRON_POD}/containers/0/securityContext/allowPrivilegeEscalation",
        True,
        "escalate",
    ),
    (
        "restricted",
        "CronJob weather-backup",
        f"{CRON_POD}/containers/0/securityContext/readOnlyRootFilesystem",
        False,
        "writable",
    ),
    (
        "restricted",
        "CronJob weather-backup",
        f"{CRON_POD}/volumes/0",
        {"name": "backups", "hostPath": {"path": "/"}},
        "hostPath",
    ),
    ("restricted", "StatefulSet weather-postgres", f"{POD}/securityContext/sysctls", [{"name": "a"}], "sysctls"),
    (
        "restricted",
        "StatefulSet weather-postgres",
        f"{POD}/containers/0/securityContext/procMount",
        "Unmasked",
        "unmasked /proc",
    ),
    ("restricted", "StatefulSet weather-postgres", f"{POD}/containers/0/ports/0/hostPort", 5432, "a port of the host"),
    ("tokens", "CronJob weather-ingestor", f"{CRON_POD}/automountServiceAccountToken", DROP, "ingestor: has a token"),
    (
        "tokens",
        "Deployment weather-dagster-user-deployments-weather",
        f"{POD}/containers/0/volumeMounts/3/mountPath",
        "/var/run/secrets",
        "dagster-user-deployments: has a token",
    ),
    ("resources", "Job weather-migrate-", f"{POD}/containers/0/resources/limits/memory", DROP, "memory in limits"),
    ("resources", "Deployment weather-dagster-webserver", f"{POD}/initContainers/0/resources", {}, "check-db-ready"),
    ("resources", "StatefulSet weather-postgres", f"{POD}/volumes/2/emptyDir", {}, "sizeLimit"),
    ("probes", "StatefulSet weather-postgres", f"{POD}/containers/0/livenessProbe", DROP, "probes are"),
    (
        "probes",
        "Deployment weather-dagster-webserver",
        f"{POD}/containers/0/readinessProbe/httpGet/port",
        80,
        "no port 80",
    ),
    ("probes", "Deployment weather-dagster-daemon", f"{POD}/containers/0/livenessProbe/timeoutSeconds", 1, "is 1"),
    (
        "secrets",
        "Job weather-migrate-",
        f"{POD}/initContainers/0/env/2/valueFrom/secretKeyRef/name",
        "weather-db",
        "weather-db",
    ),
    (
        "secrets",
        "Job weather-migrate-",
        f"{POD}/initContainers/0/env/2/valueFrom/secretKeyRef/key",
        "uri",
        "no key uri",
    ),
    (
        "secrets",
        "CronJob weather-ingestor",
        f"{CRON_POD}/containers/0/env/1/valueFrom/secretKeyRef/optional",
        DROP,
        "may be",
    ),
    (
        "readers",
        "CronJob weather-ingestor",
        f"{CRON_POD}/containers/0/env/0/valueFrom/secretKeyRef/name",
        "weather-warehouse-owner",
        "CronJob weather-ingestor reads weather-warehouse-owner",
    ),
    (
        "readers",
        "Deployment weather-dagster-daemon",
        f"{POD}/containers/0/env/0/valueFrom/secretKeyRef/name",
        "weather-provider",
        "daemon reads weather-provider",
    ),
    ("written out", "Service weather-postgres", "kind", "Secret", "Secret weather-postgres is in the repository"),
    ("written out", "ConfigMap weather-settings", "data/OPENWEATHER_API_KEY", "abc", "OPENWEATHER_API_KEY written"),
    (
        "written out",
        "ConfigMap weather-settings",
        "data/WEATHER_POSTGRES_URL",
        "postgresql://weather_writer:letmein@weather-postgres:5432/weather",
        "a URL with its password",
    ),
    (
        "written out",
        "CronJob weather-backup",
        f"{CRON_POD}/containers/0/env/4",
        {"name": "PGPASSWORD", "value": "letmein"},
        "PGPASSWORD written out",
    ),
    ("namespace", "Service weather-postgres", "metadata/namespace", "default", "weather-postgres is in default"),
    (
        "namespace",
        "ConfigMap weather-postgres-init",
        "metadata/name",
        "weather-backup",
        "weather-backup is there twice",
    ),
    ("references", "StatefulSet weather-postgres", f"{POD}/volumes/0/configMap/name", "init", "no ConfigMap init"),
    ("references", "StatefulSet weather-postgres", f"{POD}/volumes/1/name", "var", "no volume run"),
    ("references", "StatefulSet weather-postgres", "spec/volumeClaimTemplates", [], "no volume data"),
    (
        "references",
        "StatefulSet weather-postgres",
        f"{POD}/containers/0/volumeMounts/1/mountPath",
        "/var/run/postgresql",
        "twice",
    ),
    (
        "references",
        "CronJob weather-backup",
        f"{CRON_POD}/volumes/0/persistentVolumeClaim/claimName",
        "backup",
        "no claim",
    ),
    (
        "references",
        "CronJob weather-ingestor",
        f"{CRON_POD}/containers/0/envFrom/0/configMapRef/name",
        "x",
        "ConfigMap x",
    ),
    (
        "references",
        "Deployment weather-dagster-user-deployments-weather",
        f"{POD}/containers/0/env/3",
        {"name": "WEATHER_UI_URL", "valueFrom": {"configMapKeyRef": {"name": "address", "key": "url"}}},
        "no ConfigMap address",
    ),
    ("references", "CronJob weather-ingestor", f"{CRON_POD}/serviceAccountName", "ingestor", "no ServiceAccount"),
    ("references", "CronJob weather-ingestor", f"{CRON_POD}/containers/0/volumeMounts", [], "not mounted"),
    ("choices", "CronJob weather-ingestor", f"{CRON_POD}/containers/0/envFrom", [], "ingestor: no weather-settings"),
    ("choices", "Job weather-migrate-", f"{POD}/initContainers/0/envFrom", [], "migrate: no weather-settings"),
    (
        "choices",
        "CronJob weather-ingestor",
        f"{CRON_POD}/containers/0/volumeMounts/3/mountPath",
        "/etc/places",
        "/places is None",
    ),
    (
        "choices",
        "Deployment weather-dagster-user-deployments-weather",
        f"{POD}/volumes/5/configMap/optional",
        DROP,
        "dagster-user-deployments: /places is",
    ),
    (
        "choices",
        "CronJob weather-ingestor",
        f"{CRON_POD}/containers/0/env/2",
        {"name": "OPENWEATHER_PLAN", "value": "free"},
        "OPENWEATHER_PLAN is written out",
    ),
    ("services", "Service weather-postgres", "spec/selector", {"app": "postgres"}, "selects no pod"),
    ("services", "Service weather-postgres", "spec/ports/0/targetPort", "sql", "no port sql"),
    ("services", "Service weather-postgres", "metadata/name", "postgres", "postgresqlHost"),
    ("services", "StatefulSet weather-postgres", "spec/serviceName", "postgres", "no Service postgres"),
    (
        "services",
        "PodDisruptionBudget code-server",
        "spec/selector/matchLabels",
        {"component": "user-deployment"},
        "selects no pod",
    ),
    ("network", "NetworkPolicy default-deny", "spec/policyTypes", ["Ingress"], "denies everything"),
    ("network", "NetworkPolicy into-postgres", "spec/ingress/0/ports", DROP, "without a port"),
    ("network", "NetworkPolicy to-internet", "spec/podSelector/matchLabels", {"x": "y"}, "access.weather/internet"),
    (
        "network",
        "NetworkPolicy into-postgres",
        "spec/podSelector/matchLabels",
        {"access.weather/server": "postgre"},
        "a policy selects no pod: {'access.weather/server': 'postgre'}",
    ),
    ("network", "Job weather-migrate-", "spec/template/metadata/labels", {}, "missing"),
    (
        "network",
        "CronJob weather-ingestor",
        "spec/jobTemplate/spec/template/metadata/labels/access.weather~1internet",
        DROP,
        "internet is missing",
    ),
    (
        "network",
        "Deployment weather-dagster-daemon",
        "spec/template/metadata/labels/access.weather~1kubernetes",
        DROP,
        "kubernetes is missing",
    ),
    (
        "network",
        "Deployment weather-dagster-user-deployments-weather",
        "spec/template/metadata/labels/access.weather~1kubernetes",
        "true",
        "kubernetes is not needed",
    ),
    (
        "network",
        "StatefulSet weather-postgres",
        "spec/template/metadata/labels/access.weather~1postgres",
        "true",
        "not needed",
    ),
    ("names", "NetworkPolicy names-for-all", "spec/egress/0/to/2", DROP, "no way to the DNS at 169.254.169.254/32"),
    ("names", "NetworkPolicy names-for-all", "spec/egress/0/to/0", DROP, "no way to the DNS at kube-dns"),
    ("names", "NetworkPolicy names-for-all", "spec/egress/0/ports/1/port", 80, "every pod may reach port 80"),
    ("quota", "ResourceQuota weather", "spec/hard/limits.memory", "4Gi", "limits.memory"),
    ("quota", "ResourceQuota weather", "spec/hard/requests.storage", "20Gi", "requests.storage: "),
    ("quota", "LimitRange weather", "spec/limits/0/max/cpu", "1", "above the LimitRange"),
    ("images", "Job weather-migrate-", f"{POD}/containers/0/image", "weather-code-location:0.0.9", "the project is"),
    ("images", "Job weather-migrate-", f"{POD}/containers/0/image", "weather-code:0.1.0", "no such image"),
    ("kept", "PersistentVolumeClaim weather-backups", "metadata/annotations", DROP, "weather-backups: holds data"),
    (
        "images",
        "CronJob weather-backup",
        f"{CRON_POD}/containers/0/image",
        "docker.io/library/postgres:latest",
        "exact",
    ),
    (
        "images",
        "CronJob weather-backup",
        f"{CRON_POD}/containers/0/image",
        "docker.io/library/postgres:17.2",
        "of versions",
    ),
]
PRODUCTION_FAULTS: list[tuple[str, str, str, Any, str]] = [
    (
        "services",
        "Deployment weather-viewers",
        f"{POD}/containers/0/args/0",
        "--upstream=http://webserver:3000",
        "no such",
    ),
    (
        "services",
        "ConfigMap weather-address",
        "data/WEATHER_UI_URL",
        "https://dagster.example.com",
        "leads to ['dagster.example.com']",
    ),
    ("services", "ConfigMap weather-address", "data", {}, "a laptop"),
    (
        "certificates",
        "ExternalSecret weather-warehouse",
        "spec/target/template/data/url",
        "postgresql://weather_writer@weather-postgres-rw:5432/weather?sslmode=require",
        "weather-postgres-rw?sslmode=require: does not verify",
    ),
    (
        "certificates",
        "ConfigMap weather-dagster-instance",
        "data/dagster.yaml",
        "run_storage: {config: {postgres_db: {hostname: weather-postgres-rw, params: {sslmode: require}}}}",
        "weather-postgres-rw?sslmode=require: does not verify",
    ),
    (
        "certificates",
        "Job weather-migrate-",
        f"{POD}/containers/0/volumeMounts/2/mountPath",
        "/etc/ssl/postgres",
        "Job weather-migrate-: roles: no /var/run/secrets/postgres/ca.crt",
    ),
    (
        "certificates",
        "Deployment weather-dagster-daemon",
        f"{POD}/volumes/4/secret/items/0/path",
        "tls.crt",
        "daemon: dagster: no /var/run/secrets/postgres/ca.crt",
    ),
    ("quota", "ResourceQuota weather", "spec/hard/pods", "20", "pods: "),
    (
        "sign-in",
        "Deployment weather-viewers",
        f"{POD}/containers/0/image",
        "quay.io/oauth2-proxy/oauth2-proxy:v7.13.0",
        "v7.13.0 has known ways round",
    ),
    (
        "sign-in",
        "Deployment weather-viewers",
        f"{POD}/containers/0/args",
        ["--cookie-name=__Host-weather-viewers"],
        "weather-viewers: without a group",
    ),
    (
        "sign-in",
        "ConfigMap weather-sign-in",
        "data/OAUTH2_PROXY_REVERSE_PROXY",
        "true",
        "weather-operators: believes headers of anyone",
    ),
    (
        "network",
        "NetworkPolicy postgres-instances",
        "spec/podSelector",
        {"matchLabels": {"cnpg.io/cluster": "weather-postgres"}},
        "one server",
    ),
    ("services", "Ingress weather", "spec/rules/0/http/paths/0/backend/service/name", "weather", "no Service weather"),
    ("services", "Ingress weather", "spec/rules/0/http/paths/0/backend/service/port/name", "web", "no Service"),
    (
        "services",
        "ExternalSecret weather-warehouse",
        "spec/target/template/data/url",
        "postgresql://weather_writer@weather-postgres:5432/weather",
        "no Service weather-postgres:5432",
    ),
    ("secrets", "Ingress weather", "spec/tls/0/secretName", "tls", "not in secrets.yaml"),
]
# Of CloudNativePG's server.
SERVER_FAULTS: list[tuple[str, str, str, Any, str]] = [
    ("quota", "ResourceQuota weather", "spec/hard/persistentvolumeclaims", "10", "persistentvolumeclaims: 12 needed"),
    ("quota", "Cluster weather-postgres", "spec/storage/size", "80Gi", "requests.storage: "),
    (
        "quota",
        "ObjectStore weather-archive",
        "spec/instanceSidecarConfiguration/resources/limits/memory",
        "16Gi",
        "sidecar of ObjectStore weather-archive: memory is above the LimitRange",
    ),
    ("archive", "ObjectStore weather-archive", "spec/instanceSidecarConfiguration", DROP, "0 of memory"),
    (
        "archive",
        "ObjectStore weather-archive",
        "spec/instanceSidecarConfiguration/resources/limits/memory",
        "256Mi",
        "256Mi of memory, a restore needs 1Gi",
    ),
    ("archive", "ObjectStore weather-archive", "metadata/name", "archive", "weather-postgres: no ObjectStore"),
    ("services", "Cluster weather-postgres", "metadata/name", "postgres", "postgresqlHost"),
    (
        "secrets",
        "Cluster weather-postgres",
        "spec/managed/roles/0/passwordSecret/name",
        "dagster",
        "not in secrets.yaml",
    ),
    (
        "secrets",
        "ObjectStore weather-archive",
        "spec/configuration/s3Credentials/accessKeyId/key",
        "id",
        "Secret weather-archive has no key id",
    ),
    (
        "kept",
        "Cluster weather-postgres",
        "metadata/annotations/helm.sh~1resource-policy",
        "delete",
        "Helm does not keep",
    ),
    ("kept", "ObjectStore weather-archive", "metadata/annotations", DROP, "weather-archive: holds data"),
    ("kept", "Cluster weather-postgres", "spec/plugins/0/parameters/serverName", DROP, "no serverName"),
    ("images", "Cluster weather-postgres", "spec/imageName", "ghcr.io/cloudnative-pg/postgresql:17.2", "of versions"),
]


def plant(objects: list[Object], kind_and_name: str, path: str, value: Any) -> list[Object]:
    """A copy of ``objects`` with a fault in one of them."""
    faulty = copy.deepcopy(objects)
    below: Any
    (below,) = [thing for thing in faulty if f"{thing['kind']} {name_of(thing)}" == kind_and_name]
    *above, last = [int(key) if key.isdigit() else key.replace("~1", "/") for key in path.split("/")]
    for key in above:
        below = below[key]
    if value is DROP:
        del below[last]
    else:
        below[last] = value
    return faulty


@pytest.mark.parametrize(("guard", "thing", "path", "value", "word"), FAULTS)
def test_a_fault_on_kind_is_found(
    guard: str, thing: str, path: str, value: Any, word: str, stacks: dict[str, list[Object]]
) -> None:
    assert word in "\n".join(GUARDS[guard]("kind", plant(stacks["kind"], thing, path, value)))


@pytest.mark.parametrize(("guard", "thing", "path", "value", "word"), PRODUCTION_FAULTS)
def test_a_fault_in_production_is_found(
    guard: str, thing: str, path: str, value: Any, word: str, stacks: dict[str, list[Object]]
) -> None:
    assert word in "\n".join(GUARDS[guard]("production", plant(stacks["production"], thing, path, value)))


@pytest.mark.parametrize(("guard", "thing", "path", "value", "word"), SERVER_FAULTS)
def test_a_fault_of_the_server_in_production_is_found(
    guard: str, thing: str, path: str, value: Any, word: str, stacks: dict[str, list[Object]]
) -> None:
    objects = before_restores(stacks["production"])
    if not has_own_server(objects):
        pytest.skip("Postgres is a managed one")
    assert word in "\n".join(GUARDS[guard]("production", plant(objects, thing, path, value)))


def test_a_service_that_sets_a_setting_by_its_links_is_found(stacks: dict[str, list[Object]]) -> None:
    objects = plant(stacks["kind"], "Service weather-postgres", "spec/clusterIP", DROP)
    assert GUARDS["service links"]("kind", objects) == ["Service weather-postgres would set WEATHER_POSTGRES_PORT"]


def needed_secrets(name: str) -> dict[str, Any]:
    """The table of Secrets, as a stack needs them."""
    declared = declared_secrets()
    declared["weather-databricks"]["optional"] = "databricks" not in name
    return declared


@pytest.mark.parametrize("name", PRODUCTION)
def test_external_secrets_make_all_that_production_needs(name: str, stacks: dict[str, list[Object]]) -> None:
    assert external_secret_findings(stacks[name], needed_secrets(name)) == []


def test_a_secret_that_nothing_makes_is_found(stacks: dict[str, list[Object]]) -> None:
    objects = plant(stacks["production"], "ExternalSecret weather-oauth", "spec/target/name", "oauth")
    assert external_secret_findings(objects, declared_secrets())
    objects = plant(stacks["production"], "ExternalSecret weather-warehouse", "spec/target/template/data/url", DROP)
    assert external_secret_findings(objects, declared_secrets()) == [
        "Secret weather-warehouse: url is made by no ExternalSecret"
    ]
    (finding,) = external_secret_findings(stacks["production"], needed_secrets("databricks in production"))
    assert finding.startswith("Secret weather-databricks: DATABRICKS_CATALOG, ")


def unused_secrets(objects: list[Object]) -> set[str]:
    """Secrets in the table that nobody reads."""
    # For tools outside of these stacks.
    elsewhere = {"weather-warehouse-reader"}
    # A managed server's archive is its provider's.
    elsewhere |= set() if any(thing["kind"] == "ObjectStore" for thing in objects) else {"weather-archive"}
    return declared_secrets().keys() - {name for _, name, _, _ in secret_references(objects)} - elsewhere


def test_the_table_names_no_secret_that_nobody_reads(stacks: dict[str, list[Object]]) -> None:
    assert unused_secrets([thing for objects in stacks.values() for thing in objects]) == set()
    assert "weather-oauth" in unused_secrets(stacks["kind"])


def secrets_told_of(page: str) -> set[str]:
    """Secrets of which the page on deployment says who reads them."""
    (table,) = re.findall(r"^\| Secret \| read by \|\n((?:\|.*\n)+)", page, re.MULTILINE)
    return {name for line in table.splitlines() for name in re.findall(r"`([\w-]+)`", line.split("|")[1])}


def test_the_page_says_who_reads_each_secret() -> None:
    page = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")
    wanted = set(map(undated, declared_secrets()))
    assert secrets_told_of(page) == wanted
    assert secrets_told_of(page.replace("| `weather-tls` |", "| a certificate |")) == wanted - {"weather-tls"}


def test_every_file_is_applied_by_a_kustomization(tmp_path: Path) -> None:
    assert kustomization_findings() == []
    (tmp_path / "kind").mkdir()
    (tmp_path / "kind" / "kustomization.yaml").write_text("resources: [postgres.yaml]", encoding="utf-8")
    (tmp_path / "kind" / "redis.yaml").write_text("kind: Service", encoding="utf-8")
    assert kustomization_findings(tmp_path) == ["kind: postgres.yaml", "kind: redis.yaml"]


def documented_findings(page: str) -> Findings:
    """What the guards say of the objects that the page on deployment shows, beside those of production."""
    blocks = [textwrap.dedent(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    shown = [thing for block in blocks for thing in yaml.safe_load_all(block) if thing]
    # Who has a managed Postgres has written its policy into production.
    others = [thing for thing in stack("production") if name_of(thing) != "to-managed-postgres"]
    objects = [*others, *shown]
    return [*kubernetes_findings(shown), *namespace_findings(objects), *network_findings(objects)]


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("", "", None),
        ("ipBlock: {cidr:", "ipBlock: {cdir:", "'cidr' is a required property"),
        ("access.weather/internet:", "access.weather/company:", "a policy selects no pod"),
        ("      ports:\n        - {protocol: TCP, port: 443}\n", "", "a rule without a port"),
        ("name: to-company", "name: to-internet", "to-internet is there twice"),
    ],
)
def test_the_policy_that_the_page_shows_is_one(before: str, after: str, finding: str | None) -> None:
    page = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert before in page
    found = documented_findings(page.replace(before, after) if before else page)
    assert (found == []) if finding is None else any(finding in line for line in found), found


def unreadable(text: str) -> Findings:
    """What Terraform would read otherwise than Kubernetes: it splits a file at a line of three dashes, and reads each
    part by itself, so no part may lean on another's anchors."""
    findings = [f"anchor{found[0]}" for found in re.finditer(r"(^|\s)[&*][a-z_]+", text)]
    return findings + (["begins with ---"] if text.startswith("---") else [])


def test_manifests_read_the_same_in_terraform() -> None:
    for path in MANIFESTS.rglob("*.yaml"):
        assert unreadable(path.read_text(encoding="utf-8")) == [], path
    assert unreadable("resources: &small {cpu: 1}\n---\nresources: *small") == ["anchor &small", "anchor *small"]
    assert unreadable("---\nkind: Service") == ["begins with ---"]
