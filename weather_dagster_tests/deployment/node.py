"""A node of a cluster, for the pods of rendered objects: containers without images, and the API that starts runs.

A container here is a process in mount and PID namespaces of its own, as the user and with the rights that its object
gives, in a root of the parts that its image has. Everything is taken from the object: command, environment, Secrets,
ConfigMaps, volumes, security context. The image's environment is read from the Dockerfile.

What is not as in a cluster: there is no image, so the root is put together from this machine's own /usr and /etc, its
Python and the virtual environment of the tests, all read-only, and from those files of the checkout that the Dockerfile
copies for the image; the ingestor therefore has Dagster beside it. PYTHONPATH stands for the image's editable
installation, and tini, seccomp, init containers, limits of CPU and memory, and network policies are left out. All pods
share one loopback.
"""

import ctypes
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from weather_dagster_tests.deployment import image_guards
from weather_dagster_tests.deployment.guards import ACCOUNT, quantity
from weather_dagster_tests.deployment.project import ROOT
from weather_dagster_tests.deployment.rendering import NAMESPACE, Object, name_of

DOCKERFILE = image_guards.DOCKERFILE.read_text(encoding="utf-8")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APPLICATION = "/opt/weather"
TOKEN = "token-of-the-node"
GRACE_SECONDS = 30
"""As Kubernetes has it when an object does not say it."""
LOOPBACK = "127.0.0.1"
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1


@contextmanager
def own_network() -> Iterator[None]:
    """A network of this thread's own, and of what it starts: a loopback, so that every port is free. Asks for root."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: int) -> None:
        if getattr(libc, name)(*arguments):
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")

    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        call("unshare", CLONE_NEWNET)
        try:
            with socket.socket() as any_socket:
                fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
            yield
        finally:
            call("setns", before, CLONE_NEWNET)
    finally:
        os.close(before)


def image_environment(image: str) -> dict[str, str]:
    """What the Dockerfile sets in an image of ours."""
    variables = {"PATH": SYSTEM_PATH}
    for one in reversed(image_guards.lineage(DOCKERFILE, image_guards.target_of(image))):
        for line in one.all("ENV"):
            for word in shlex.split(line):
                name, _, value = word.partition("=")
                variables[name] = re.sub(r"\$(\w+)", lambda found: variables[found[1]], value)
    return variables


@dataclass(frozen=True)
class Pod:
    """A container that runs, or has run."""

    name: str
    container: Object
    user: Sequence[str]
    """The command that gives the rights of its object."""
    environment: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def output(self) -> str:
        """What it has said."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Of its first process, as seen from here, once it is in its root."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            for child in children.read_text().split():
                if Path(f"/proc/{child}/root").readlink() != Path("/"):
                    return int(child)
            time.sleep(0.02)
        raise AssertionError(f"{self.name} is not running:\n{self.output[-4000:]}")

    def exec(self, *command: str, timeout: float | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container, as ``kubectl exec`` and probes do."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--root"]
        return subprocess.run(
            [*enter, *self.user, *command],
            env=self.environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def answers(self, probe: str) -> bool:
        """Whether it runs and passes one of its probes, once."""
        if self.process.poll() is not None:
            return False
        told = self.container[probe]
        timeout = told["timeoutSeconds"]
        if command := told.get("exec", {}).get("command"):
            try:
                return self.exec(*command, timeout=timeout).returncode == 0
            except subprocess.TimeoutExpired:
                return False
        asked = told["httpGet"]
        try:
            answer = httpx.get(f"http://{LOOPBACK}:{asked['port']}{asked['path']}", timeout=timeout)
        except httpx.TransportError:
            return False
        return answer.is_success

    def wait_until_started(self) -> None:
        """Ask its startup probe, more often than a cluster does and no longer than that."""
        told = self.container["startupProbe"]
        deadline = time.monotonic() + told["periodSeconds"] * told["failureThreshold"]
        while not self.answers("startupProbe"):
            assert self.process.poll() is None, f"{self.name} ended:\n{self.output[-4000:]}"
            assert time.monotonic() < deadline, f"{self.name} does not start:\n{self.output[-4000:]}"
            time.sleep(0.5)

    def wait(self, timeout: float) -> int:
        """Its exit code."""
        return self.process.wait(timeout)

    def stop(self) -> float:
        """Stop it as a cluster does: ask, and kill when the grace is over. Returns the seconds that it took."""
        begun = time.monotonic()
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
            try:
                self.process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return time.monotonic() - begun

    def kill(self) -> None:
        """End it with all that it started."""
        self.process.kill()
        self.process.wait()


@dataclass
class Node:
    """Starts pods of objects. ``secrets`` are those that were made in the cluster."""

    folder: Path
    objects: list[Object]
    secrets: Mapping[str, Mapping[str, str]]
    pods: list[Pod] = field(default_factory=list)
    jobs: dict[str, tuple[Object, Pod]] = field(default_factory=dict)
    """The Jobs that came in through the API, with their pods."""
    api_port: int = 0

    def __post_init__(self) -> None:
        services = [name_of(thing) for thing in self.objects if thing["kind"] == "Service"]
        self._file("hosts", f"{LOOPBACK} localhost {' '.join(services)}\n")
        self._file("serviceaccount/namespace", NAMESPACE)
        self._file("serviceaccount/token", TOKEN)
        for thing in self.objects:
            if thing["kind"] == "ConfigMap":
                for key, text in thing["data"].items():
                    self._file(f"config/{name_of(thing)}/{key}", text)

    def _file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def find(self, kind: str, name: str) -> Object:
        """An object."""
        (found,) = [thing for thing in self.objects if (thing["kind"], name_of(thing)) == (kind, name)]
        return found

    def start(self, name: str, template: Object, container: Object | None = None) -> Pod:
        """Start a container of a pod's template; the first one that is no init container, unless one is given."""
        spec = template["spec"]
        container = container or spec["containers"][0]
        environment = self.environment(container)
        user = rights(spec, container)
        command = [*container.get("command", []), *container.get("args", [])]
        log = self.folder / f"{len(self.pods):02}-{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child",
                 "sh", "-ec", self._setup(name, spec, container), "sh", *user, *command],
                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        pod = Pod(name, container, user, environment, log, process)
        self.pods.append(pod)
        return pod

    def environment(self, container: Object) -> dict[str, str]:
        """The image's variables, the cluster's, and the object's own. Nothing of this process."""
        variables = {
            **image_environment(container["image"]),
            "HOME": APPLICATION,
            "PYTHONPATH": APPLICATION,
            "KUBERNETES_SERVICE_HOST": LOOPBACK,
            "KUBERNETES_SERVICE_PORT": str(self.api_port),
        }
        for source in container.get("envFrom", []):
            if reference := source.get("secretRef"):
                if reference["name"] in self.secrets or not reference.get("optional"):
                    variables |= self.secrets[reference["name"]]
            else:
                variables |= self.find("ConfigMap", source["configMapRef"]["name"])["data"]
        config_maps = {name_of(thing): thing["data"] for thing in self.objects if thing["kind"] == "ConfigMap"}
        for entry in container.get("env", []):
            value = entry.get("value", "")
            source = entry.get("valueFrom", {})
            if reference := source.get("secretKeyRef") or source.get("configMapKeyRef"):
                known = self.secrets if "secretKeyRef" in source else config_maps
                data = known.get(reference["name"], {})
                if reference["key"] not in data and reference.get("optional"):
                    continue
                value = data[reference["key"]]
            variables[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], value)
        return variables

    def _setup(self, name: str, spec: Object, container: Object) -> str:
        """The script that makes the root of a container and changes into it."""
        root = self.folder / "roots" / f"{len(self.pods):02}-{name}"
        root.mkdir(parents=True)
        user = spec["securityContext"]
        passwd = f"weather:x:{user['runAsUser']}:{user['runAsGroup']}::{APPLICATION}:/usr/sbin/nologin\n"
        self._file("passwd", Path("/etc/passwd").read_text(encoding="utf-8") + passwd)
        lines = ["mount --make-rprivate /", f"mount -t tmpfs -o mode=755 root {root}"]

        def show(path: Path, where: str) -> None:
            place = shlex.quote(f"{root}{where}")
            make = f"mkdir -p {place}" if path.is_dir() else f"install -D /dev/null {place}"
            bind = f"mount --bind {shlex.quote(str(path))} {place}; mount -o remount,bind,ro {place}"
            # What lies below a read-only mount is there already.
            lines.append(f"test -e {place} || {{ {make}; }}; {bind}")

        for path in map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")):
            if path.is_symlink():
                lines.append(f"ln -s {path.readlink()} {root}{path}")
            elif path.exists():
                show(path, str(path))
        show(Path("/etc"), "/etc")
        for file in ("hosts", "passwd"):
            show(self.folder / file, f"/etc/{file}")
        for source in sorted(image_guards.context_sources(DOCKERFILE, [image_guards.target_of(container["image"])])):
            show(ROOT / source, f"{APPLICATION}/{source}")
        lines += [
            f"ln -s {shlex.quote(sys.prefix)} {root}/opt/venv",
            # As the Dockerfile makes them; a volume covers them.
            f"install --directory --owner=10001 --group=10001 {root}/var/lib/weather {root}/opt/dagster/dagster_home",
            f"cd {root}; mkdir -p proc dev tmp; mount -t proc proc proc; mount -t tmpfs -o mode=755 dev dev",
            "mkdir dev/shm; mount -t tmpfs -o mode=1777,size=64m shm dev/shm",
            *(
                f"mknod -m 666 dev/{device} c {number}"
                for device, number in {"null": "1 3", "zero": "1 5", "random": "1 8", "urandom": "1 9"}.items()
            ),
        ]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        covered = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
        for mount in sorted(container.get("volumeMounts", []), key=lambda one: len(one["mountPath"])):
            volume, where = volumes[mount["name"]], mount["mountPath"].rstrip("/")
            if "configMap" in volume:
                folder = self.folder / "config" / volume["configMap"]["name"]
                if volume["configMap"].get("optional"):
                    folder.mkdir(exist_ok=True)
                show(folder / mount.get("subPath", ""), where)
            elif "secret" in volume:
                show(self._secret(volume["secret"]), where)
            else:
                size = int(quantity(volume["emptyDir"]["sizeLimit"]))
                lines.append(f"mkdir -p {root}{where}")
                access = "ro" if mount.get("readOnly") else "rw"
                options = f"{access},mode=2777,gid={user['fsGroup']},size={size}"
                lines.append(f"mount -t tmpfs -o {options} {mount['name']} {root}{where}")
        # After the volumes, one of which may cover where this clone lies.
        for prefix in {sys.prefix, sys.base_prefix}:
            if not prefix.startswith("/usr"):
                show(Path(prefix), prefix)
        if spec.get("automountServiceAccountToken", True) and ACCOUNT not in covered:
            show(self.folder / "serviceaccount", ACCOUNT)
        if container["securityContext"]["readOnlyRootFilesystem"]:
            lines += [f"mount -o remount,ro {root}/dev", f"mount -o remount,ro {root}"]
        lines.append(f'exec chroot {root} "$@"')
        return "\n".join(lines)

    def _secret(self, told: Object) -> Path:
        """The folder of a volume that is made of a Secret."""
        name = str(told["secretName"])
        folder = self.folder / "secrets" / name
        folder.mkdir(parents=True, exist_ok=True)
        if name in self.secrets or not told.get("optional"):
            for item in told["items"]:
                self._file(f"secrets/{name}/{item['path']}", self.secrets[name][item["key"]])
        return folder

    @contextmanager
    def api(self) -> Iterator[None]:
        """The part of the Kubernetes API that Dagster's launcher speaks to: makes Jobs, and tells how they are."""
        account = self.folder / "serviceaccount"
        key = self.folder / "api.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=kubernetes",
             "-addext", f"subjectAltName=IP:{LOOPBACK}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
             "-keyout", key, "-out", account / "ca.crt"],
            capture_output=True, check=True,
        )  # fmt: skip
        path = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
        node = self

        class Api(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == path, self.path
                name = name_of(job)
                node.jobs[name] = (job, node.start(name, job["spec"]["template"]))
                self._answer(201, job)

            def do_GET(self) -> None:
                name = self.path.removeprefix(f"{path}/").removesuffix("/status")
                if name not in node.jobs:
                    return self._answer(404, {"kind": "Status", "code": 404})
                job, pod = node.jobs[name]
                ended = pod.process.poll()
                key = "active" if ended is None else "failed" if ended else "succeeded"
                return self._answer(200, {**job, "status": {key: 1}})

            def _answer(self, code: int, body: Object) -> None:
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer((LOOPBACK, 0), Api)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(account / "ca.crt", key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.api_port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()

    def close(self) -> None:
        """End all pods."""
        for pod in self.pods:
            pod.kill()
        shutil.rmtree(self.folder / "roots", ignore_errors=True)


def rights(spec: Object, container: Object) -> list[str]:
    """The command that takes the user and the rights of a container, and no more than its object gives."""
    pod, own = spec["securityContext"], container["securityContext"]
    command = [
        *("setpriv", f"--reuid={pod['runAsUser']}", f"--regid={pod['runAsGroup']}", f"--groups={pod['fsGroup']}"),
        # What unshare asked for is forgotten when the user changes.
        *("--inh-caps=-all", "--pdeathsig=KILL"),
    ]
    if own["allowPrivilegeEscalation"] is False:
        command.append("--no-new-privs")
    if own["capabilities"]["drop"] == ["ALL"]:
        command.append("--bounding-set=-all")
    return [*command, "env", f"--chdir={APPLICATION}"]
