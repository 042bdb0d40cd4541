"""Stand-ins for Terraform's provider plugins, which know their schemas and nothing of the world.

Terraform talks to a running provider over gRPC when TF_REATTACH_PROVIDERS names it: ``init``, ``validate`` and ``test``
with ``mock_provider`` then do their real work without a download, and so do ``plan`` and ``apply``, in a world without
a cluster. ``provider_schemas.json`` has the format of ``terraform providers schema -json``, and the part of it that our
modules use.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import msgpack

AttributePath = tuple[str | int, ...]
SCHEMAS = Path(__file__).with_name("provider_schemas.json")
PROTOCOL = 6
NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
PASSWORD = "drawnByTheStandIn"
# Attributes whose change makes a thing anew, which a schema does not tell; by the providers' sources.
REPLACING: dict[str, list[AttributePath]] = {
    "kind_cluster": [("name",), ("node_image",), ("wait_for_ready",), ("kind_config",), ("kubeconfig_path",)],
    "kubernetes_namespace_v1": [("metadata", 0, "name")],
    "kubernetes_default_service_account_v1": [("metadata", 0, "name"), ("metadata", 0, "namespace")],
    "kubernetes_secret_v1": [("metadata", 0, "name"), ("metadata", 0, "namespace"), ("type",)],
    "helm_release": [("name",), ("namespace",)],
}
VALID = (
    "ValidateProviderConfig",
    "ValidateResourceConfig",
    "ValidateEphemeralResourceConfig",
    "ConfigureProvider",
    "CloseEphemeralResource",
    "StopProvider",
)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _map(field: int, values: Mapping[str, bytes]) -> bytes:
    return b"".join(_bytes(field, _bytes(1, key) + _bytes(2, value)) for key, value in values.items())


def _attribute(name: str, told: Mapping[str, Any]) -> bytes:
    nested = told.get("nested_type")
    flags = {4: "required", 5: "optional", 6: "computed", 7: "sensitive", 11: "write_only"}
    return (
        _bytes(1, name)
        + (_bytes(10, _object(nested)) if nested else _bytes(2, json.dumps(told["type"])))
        + b"".join(_number(field, told.get(flag, False)) for field, flag in flags.items())
    )


def _object(told: Mapping[str, Any]) -> bytes:
    attributes = b"".join(_bytes(1, _attribute(name, value)) for name, value in told["attributes"].items())
    return attributes + _number(3, NESTING[told["nesting_mode"]])


def _block(told: Mapping[str, Any]) -> bytes:
    attributes = (_bytes(2, _attribute(name, value)) for name, value in told.get("attributes", {}).items())
    blocks = (_bytes(3, _nested_block(name, value)) for name, value in told.get("block_types", {}).items())
    return b"".join([*attributes, *blocks])


def _nested_block(name: str, told: Mapping[str, Any]) -> bytes:
    return (
        _bytes(1, name)
        + _bytes(2, _block(told["block"]))
        + _number(3, NESTING[told["nesting_mode"]])
        + _number(4, told.get("min_items", 0))
        + _number(5, told.get("max_items", 0))
    )


def _schema(told: Mapping[str, Any]) -> bytes:
    return _number(1, told["version"]) + _bytes(2, _block(told["block"]))


def _provider_schema(told: Mapping[str, Any]) -> bytes:
    kinds = {2: "resource_schemas", 8: "ephemeral_resource_schemas"}
    return _bytes(1, _schema(told["provider"])) + b"".join(
        _map(field, {name: _schema(value) for name, value in told.get(kind, {}).items()})
        for field, kind in kinds.items()
    )


def _fields(message: bytes) -> dict[int, bytes]:
    """The texts and messages in a message, by field."""
    found = {}
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        length, at = _read_varint(message, at)
        if key & 7 == 2:
            found[key >> 3] = message[at : at + length]
            at += length
    return found


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _packed(value: Any) -> bytes:
    return _bytes(1, msgpack.packb(value))


def _unpacked(message: bytes) -> Any:
    return msgpack.unpackb(_fields(message)[1], ext_hook=lambda code, _: f"unknown {code}")


def _step(step: str | int) -> bytes:
    return _bytes(1, _bytes(1, step) if isinstance(step, str) else _varint(3 << 3) + _varint(step))


def _at(value: Any, path: AttributePath) -> Any:
    for step in path:
        value = value[step]
    return value


class _Provider(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds valid what keeps to the schema, which Terraform compares, and keeps nothing of what it is asked to make.

    What is planned, made and read is what was asked for; what a real provider would fill in is null.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._resources = told.get("resource_schemas", {})
        self._answers: dict[str, Callable[[dict[int, bytes]], bytes]] = {
            **dict.fromkeys(VALID, lambda _: b""),
            "GetProviderSchema": lambda _: _provider_schema(told),
            "UpgradeResourceState": lambda request: _bytes(1, _bytes(2, _fields(request[3])[1])),
            "ReadResource": lambda request: _bytes(1, request[2]),
            "PlanResourceChange": self._plan,
            "ApplyResourceChange": lambda request: _bytes(1, request[3]),
            "OpenEphemeralResource": lambda request: _bytes(3, _packed(_unpacked(request[2]) | {"result": PASSWORD})),
        }

    def _plan(self, request: dict[int, bytes]) -> bytes:
        prior, proposed, resource = _unpacked(request[2]), _unpacked(request[3]), request[1].decode()
        if proposed is None:
            return _bytes(1, _packed(proposed))
        attributes = self._resources[resource]["block"]["attributes"]
        proposed |= {name: None for name in proposed if attributes.get(name, {}).get("write_only")}
        replacing = [path for path in REPLACING[resource] if prior and _at(prior, path) != _at(proposed, path)]
        return _bytes(1, _packed(proposed)) + b"".join(
            _bytes(2, b"".join(_step(step) for step in path)) for path in replacing
        )

    def service(self, details: Any) -> Any:
        answer = self._answers.get(details.method.rpartition("/")[2])
        return answer and grpc.unary_unary_rpc_method_handler(lambda request, _: answer(_fields(request)))


@contextmanager
def stand_ins() -> Iterator[str]:
    """Serve the providers; yields the value of TF_REATTACH_PROVIDERS."""
    reattach = {}
    with ExitStack() as stack:
        for name, told in json.loads(SCHEMAS.read_text(encoding="utf-8"))["provider_schemas"].items():
            server = grpc.server(ThreadPoolExecutor(4))
            server.add_generic_rpc_handlers([_Provider(told)])
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            stack.callback(server.stop, None)
            reattach[name] = {
                "Protocol": "grpc",
                "ProtocolVersion": PROTOCOL,
                "Pid": os.getpid(),
                "Test": True,
                "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
            }
        yield json.dumps(reattach)
