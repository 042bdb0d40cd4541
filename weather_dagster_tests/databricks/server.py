"""The stand-in itself, a process: ``python server.py FOLDER TOKEN``. It prints its port and serves until it is killed.

Thrift calls go to ``Service``, statements on to ``Lakehouse``, which answers itself what Sail does not know: the
information schema, volumes, ``describe ... as json`` and a few settings; it leaves ``cluster by`` out. All else runs
for real, one statement at a time.
Sessions share one Sail session, because its catalogs are a session's own; temporary views are therefore shared too.

Loopback only. Faults are set by ``POST /faults``, see ``Faults``.
"""

import base64
import json
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pyarrow as pa
from databricks.sql.thrift_api.TCLIService import TCLIService
from databricks.sql.thrift_api.TCLIService import ttypes as t
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TTransport import TMemoryBuffer

CATALOGS = ("weather", "other")
LAYERS = ("bronze", "silver", "gold")
CLIENT = ("stand-in-client", "stand-in-secret")
"""Id and secret of the service principal."""
PROTOCOL = t.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V7
SUCCESS = t.TStatus(statusCode=t.TStatusCode.SUCCESS_STATUS)
TYPES = {"INT": "int", "BIGINT": "bigint", "DOUBLE": "double", "STRING": "string", "BOOLEAN": "boolean", "DATE": "date",
         "TIMESTAMP": "timestamp", "TIMESTAMP_NTZ": "timestamp_ntz", "VOID": "string"}  # fmt: skip
STRING = re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
VOLUME = re.compile(r"/Volumes/(\w+)/(\w+)/(\w+)/([\w.-]+)")
UPDATING_MERGE = re.compile(
    r"(?is)merge\s+into\s+(\S+\s+as\s+\w+)\s+using\s+(.*)\s+on\s+(.*?)\s+when\s+matched\s+then\s+update\s+set\s+\S+\s*=.*"
)
COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
TABLES_VIEW = "information_schema_tables"
NOTHING = "('', '', '', '', '')"
NOTHING_VIEWS = {
    "views": "table_catalog, table_schema, table_name, view_definition",
    "table_tags": "catalog_name, schema_name, table_name, tag_name, tag_value",
    "column_tags": "catalog_name, schema_name, table_name, column_name, tag_name, tag_value",
    "row_filters": "table_catalog, table_schema, table_name, filter_name, target_columns",
    "column_masks": "table_catalog, table_schema, table_name, column_name, mask_name, using_columns",
    "table_constraints": "constraint_catalog, constraint_schema, constraint_name, table_catalog, table_schema, "
    "table_name, constraint_type",
    "key_column_usage": "constraint_catalog, constraint_schema, constraint_name, table_catalog, table_schema, "
    "table_name, column_name, ordinal_position",
    "referential_constraints": "constraint_catalog, constraint_schema, constraint_name, unique_constraint_catalog, "
    "unique_constraint_schema, unique_constraint_name",
    "constraint_table_usage": "constraint_catalog, constraint_schema, constraint_name, table_catalog, table_schema, "
    "table_name",
    "constraint_column_usage": "constraint_catalog, constraint_schema, constraint_name, table_catalog, table_schema, "
    "table_name, column_name",
}
"""Parts of the information schema that tell of what nobody has made here."""


@dataclass
class Faults:
    """What goes wrong for the time being."""

    asleep: int = 0
    """So many requests are answered by 503: the warehouse starts."""
    is_token_expired: bool = False
    stalled: str | None = None
    """Statements that match this wait as long as it is set; other sessions go on."""
    is_stalling: bool = False
    """Whether one waits."""
    failing: dict[str, str] = field(default_factory=dict)
    """The next statement that matches a key fails with that message, once."""

    def stall(self, statement: str) -> None:
        """Keep it waiting if it is to wait."""
        while self.stalled and re.search(self.stalled, statement, re.IGNORECASE | re.DOTALL):
            self.is_stalling = True
            time.sleep(0.02)
        self.is_stalling = False

    def strike(self, statement: str) -> None:
        """Fail it if it is to fail."""
        for pattern in list(self.failing):
            if re.search(pattern, statement, re.IGNORECASE | re.DOTALL):
                raise Refused(self.failing.pop(pattern))


class Refused(Exception):
    """A statement came to nothing; the text is Databricks' own as far as is known."""


class Lakehouse:
    """Sail with its catalogs, and what it lacks of Databricks."""

    def __init__(self, folder: Path) -> None:
        self.volumes = folder / "volumes"
        self._log = (folder / "statements.jsonl").open("a", encoding="utf-8")
        self._lock = threading.RLock()
        self._required: set[tuple[str, ...]] = set()
        """Columns that are not null: catalog, schema, table, column."""
        catalogs = ", ".join(
            f'{{name="{name}", type="memory", initial_database=["default"], initial_database_comment=""}}'
            for name in CATALOGS
        )
        os.environ |= {
            "SAIL_CATALOG__LIST": f"[{catalogs}]",
            "SAIL_CATALOG__DEFAULT_CATALOG": CATALOGS[0],
            "SAIL_CATALOG__DEFAULT_DATABASE": '["default"]',
        }
        # Sail reads its settings when it is imported.
        from pysail.spark import SparkConnectServer
        from pyspark.sql import SparkSession

        self._server = SparkConnectServer("127.0.0.1", 0)
        self._server.start(background=True)
        port = self._server.listening_address[1]
        self._spark = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
        self._spark.conf.set("spark.sql.session.timeZone", "UTC")
        self._spark.conf.set("spark.sql.warehouse.dir", str(folder / "tables"))
        self._sail("select 1")

    def reset(self) -> None:
        """Forget all tables."""
        with self._lock:
            self._required.clear()
            for catalog in CATALOGS:
                for schema in LAYERS:
                    self._sail(f"drop schema if exists {catalog}.{schema} cascade")

    def run(self, statement: str, catalog: str, faults: Faults) -> pa.Table:
        """Run one statement of a session; it is logged with its time or error."""
        began = time.monotonic()
        outcome = {}
        try:
            faults.strike(statement)
            with self._lock:
                return self._answer(statement, catalog)
        except Exception as error:
            outcome = {"error": str(error)}
            raise
        finally:
            line = {"ms": round(1000 * (time.monotonic() - began)), "sql": statement, **outcome}
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()

    def _sail(self, sql: str) -> pa.Table:
        return self._spark.sql(sql).toArrow()

    def _answer(self, statement: str, catalog: str) -> pa.Table:
        sql = COMMENT.sub("", statement).strip().rstrip(";")
        # A comment sign within a string would be taken for one; statements with such strings are left as they are.
        if "--" in "".join(STRING.findall(statement)) or "/*" in "".join(STRING.findall(statement)):
            sql = statement.strip().rstrip(";")
        words = sql.lower().split()
        if words[:1] in (["put"], ["remove"]) or words[:2] == ["create", "volume"]:
            return pa.table({"status": ["done"]})
        if words[:1] == ["set"] and "sparkversion" in sql.lower():
            return pa.table({"key": ["spark.databricks.clusterUsageTags.sparkVersion"], "value": ["17.3.x-scala2.13"]})
        if words[:1] == ["set"]:
            return pa.table({"key": [" ".join(words[1:])], "value": [""]})
        if words[:2] == ["show", "tblproperties"]:
            return pa.table({"key": ["delta.minReaderVersion"], "value": ["1"]})
        if words[:4] == ["create", "or", "replace", "table"]:
            made = tuple(words[4].replace("`", "").split("."))
            self._required = {column for column in self._required if column[:3] != made}
        if words[:2] == ["create", "table"]:
            sql = re.sub(r"\bcluster by \([^)]*\)", "", sql)
        self._spark.catalog.setCurrentCatalog(catalog)
        if words[:2] == ["alter", "table"] and words[-3:] == ["set", "not", "null"]:
            return self._require_no_null(sql)
        if words[:2] == ["describe", "table"] and words[-2:] == ["as", "json"]:
            return self._describe_as_json(sql)
        if "information_schema" in sql.lower():
            sql = self._with_information_schema(sql, catalog)
        sql = VOLUME.sub(lambda path: str(self.volumes.joinpath(*path.groups())), sql)
        if words[:2] == ["merge", "into"] and sql.lower().endswith("when matched then delete"):
            return self._delete_by_merge(sql)
        if update := UPDATING_MERGE.fullmatch(sql):
            # Sail counts the rows too that it copies beside those it changes.
            (count,) = self._sail(f"select count(*) from {update[1]} join {update[2]} on {update[3]}")[0]
            self._sail(sql)
            return pa.table({"num_affected_rows": [count.as_py()]})
        answer = self._sail(sql)
        if words[0] in ("insert", "update", "delete", "merge") and answer.column_names == ["count"]:
            answer = answer.rename_columns(["num_affected_rows"])
        return answer

    def _require_no_null(self, sql: str) -> pa.Table:
        """Sail changes no column; that it could be done is looked at, and that it was is remembered."""
        table, column = sql.split()[2], sql.split()[5]
        ((nulls,),) = (
            row.values() for row in self._sail(f"select count_if({column} is null) from {table}").to_pylist()
        )
        if nulls:
            raise Refused(f"[DELTA_NOT_NULL_COLUMN_NOT_FOUND_IN_STRUCT] {nulls} rows of {table} have no {column}")
        self._required.add((*table.replace("`", "").split("."), column.strip("`")))
        return pa.table({"status": ["done"]})

    def _delete_by_merge(self, sql: str) -> pa.Table:
        """Sail deletes the rows, and says that it were none."""
        count = f"select count(*) from {sql.split()[2]}"
        before = self._sail(count)[0][0].as_py()
        self._sail(sql)
        return pa.table({"num_affected_rows": [before - self._sail(count)[0][0].as_py()]})

    def _describe_as_json(self, sql: str) -> pa.Table:
        name = re.sub(r"(?is)^\s*describe\s+table\s+extended\s+(.*?)\s+as\s+json\s*$", r"\1", sql)
        columns = []
        for row in self._sail(f"describe table {name}").to_pylist():
            if not row["col_name"] or row["col_name"].startswith("#"):
                break
            kind = {"timestamp": "timestamp_ltz"}.get(row["data_type"], row["data_type"])
            columns.append({"name": row["col_name"], "type": {"name": kind}, "nullable": True})
        # A temporary view has one name.
        catalog, schema, table = ["", "", *name.replace("`", "").split(".")][-3:]
        told = {"catalog_name": catalog, "schema_name": schema, "table_name": table, "type": "MANAGED",
                "provider": "delta", "columns": columns, "table_properties": {}}  # fmt: skip
        return pa.table({"json_metadata": [json.dumps(told)]})

    def _with_information_schema(self, sql: str, catalog: str) -> str:
        """The same query on views that say what the information schema would."""
        reference = re.compile(r"(?:[\w`]+\.)?`?information_schema`?\.`?(\w+)`?", re.IGNORECASE)
        for name in {match[1].lower() for match in reference.finditer(sql)}:
            if name == "tables":
                self._list_tables()
            elif name == "columns":
                self._list_required_columns()
            else:
                columns = ", ".join(f"cast(null as string) as {c.strip()}" for c in NOTHING_VIEWS[name].split(","))
                self._sail(f"create or replace temporary view information_schema_{name} as select {columns} limit 0")
        sql = reference.sub(lambda match: f"information_schema_{match[1].lower()}", sql)
        if "table_catalog" not in sql.lower():  # of the session's catalog, not of the system's
            sql = sql.replace(TABLES_VIEW, f"(select * from {TABLES_VIEW} where table_catalog = '{catalog}')")
        return sql

    def _list_tables(self) -> None:
        rows = []
        for catalog in CATALOGS:
            for schema in self._sail(f"show schemas in {catalog}")["name"].to_pylist():
                views = {row["tableName"] for row in self._sail(f"show views in {catalog}.{schema}").to_pylist()}
                rows += [
                    f"('{catalog}', '{schema}', '{row['tableName']}', "
                    f"'{'VIEW' if row['tableName'] in views else 'MANAGED'}', 'DELTA', 'someone')"
                    for row in self._sail(f"show tables in {catalog}.{schema}").to_pylist()
                    if not row["isTemporary"]
                ]
        names = "table_catalog, table_schema, table_name, table_type, data_source_format, table_owner"
        values = ", ".join(rows or ["('', '', '', '', '', '')"])
        self._sail(f"create or replace temporary view {TABLES_VIEW} as select * from values {values} as t({names})")

    def _list_required_columns(self) -> None:
        rows = ", ".join(f"('{catalog}', '{s}', '{t}', '{c}', 'NO')" for catalog, s, t, c in self._required)
        names = "table_catalog, table_schema, table_name, column_name, is_nullable"
        self._sail(
            f"create or replace temporary view information_schema_columns as "
            f"select * from values {rows or NOTHING} as t({names})"
        )

    def schemas(self, catalog: str) -> list[str]:
        """Names of the schemas of a catalog."""
        with self._lock:
            return self._sail(f"show schemas in {catalog}")["name"].to_pylist()


class Service(TCLIService.Iface):
    """Databricks' protocol, as far as connector and adapter use it. Results are direct and in Arrow."""

    def __init__(self, lakehouse: Lakehouse, faults: Faults, url: Callable[[], str]) -> None:
        self._lakehouse = lakehouse
        self._faults = faults
        self._url = url
        self._catalogs: dict[bytes, str] = {}

    def OpenSession(self, request: t.TOpenSessionReq) -> t.TOpenSessionResp:  # noqa: N802
        """A session is a catalog."""
        namespace = request.initialNamespace
        catalog = (namespace and namespace.catalogName) or CATALOGS[0]
        if catalog not in CATALOGS:
            message = (
                f"[NO_SUCH_CATALOG_EXCEPTION] Catalog '{catalog}' was not found. Please verify the catalog name and "
                "then retry the query or command again. SQLSTATE: 42704"
            )
            failed = t.TStatus(statusCode=t.TStatusCode.ERROR_STATUS, errorMessage=message, sqlState="42704")
            return t.TOpenSessionResp(status=failed, serverProtocolVersion=PROTOCOL)
        handle = _handle()
        self._catalogs[handle.guid] = catalog
        return t.TOpenSessionResp(
            status=SUCCESS,
            serverProtocolVersion=PROTOCOL,
            sessionHandle=t.TSessionHandle(sessionId=handle, serverProtocolVersion=PROTOCOL),
            configuration={},
            initialNamespace=namespace,
            canUseMultipleCatalogs=True,
        )

    def CloseSession(self, request: t.TCloseSessionReq) -> t.TCloseSessionResp:  # noqa: N802
        """Forget it."""
        self._catalogs.pop(request.sessionHandle.sessionId.guid, None)
        return t.TCloseSessionResp(status=SUCCESS)

    def ExecuteStatement(self, request: t.TExecuteStatementReq) -> t.TExecuteStatementResp:  # noqa: N802
        """Run it to its end."""
        catalog = self._catalogs[request.sessionHandle.sessionId.guid]
        statement = _bound(request.statement, request.parameters or [])
        self._faults.stall(statement)
        operation, results = self._directly(
            lambda: self._lakehouse.run(statement, catalog, self._faults),
            transfer=self._transfer(request.statement),
        )
        return t.TExecuteStatementResp(status=SUCCESS, operationHandle=operation, directResults=results)

    def GetSchemas(self, request: t.TGetSchemasReq) -> t.TGetSchemasResp:  # noqa: N802
        """Schemas of one catalog."""
        catalog = request.catalogName or CATALOGS[0]
        operation, results = self._directly(
            lambda: pa.table(
                {"TABLE_SCHEM": (names := self._lakehouse.schemas(catalog)), "TABLE_CATALOG": [catalog] * len(names)}
            )
        )
        return t.TGetSchemasResp(status=SUCCESS, operationHandle=operation, directResults=results)

    def GetOperationStatus(self, request: t.TGetOperationStatusReq) -> t.TGetOperationStatusResp:  # noqa: N802
        """Whatever was asked has ended."""
        return t.TGetOperationStatusResp(status=SUCCESS, operationState=t.TOperationState.FINISHED_STATE)

    def CloseOperation(self, request: t.TCloseOperationReq) -> t.TCloseOperationResp:  # noqa: N802
        """Closed already."""
        return t.TCloseOperationResp(status=SUCCESS)

    def CancelOperation(self, request: t.TCancelOperationReq) -> t.TCancelOperationResp:  # noqa: N802
        """Ended already."""
        return t.TCancelOperationResp(status=SUCCESS)

    def _transfer(self, statement: str) -> pa.Table | None:
        """What a client is told to do for a PUT or REMOVE of a file in a volume."""
        match = re.match(r"\s*(put|remove)\b", statement, re.IGNORECASE)
        if not match:
            return None
        path = VOLUME.search(statement)
        assert path, statement
        local = re.match(r"\s*put\s+'([^']*)'", statement, re.IGNORECASE)
        return pa.table(
            {
                "operation": [match[1].upper()],
                "presignedUrl": [f"{self._url()}/files/{'/'.join(path.groups())}"],
                "headers": ["{}"],
                "localFile": [local and local[1]],
            }
        )

    def _directly(
        self, run: Callable[[], pa.Table], transfer: pa.Table | None = None
    ) -> tuple[t.TOperationHandle, t.TSparkDirectResults]:
        operation = t.TOperationHandle(
            operationId=_handle(), operationType=t.TOperationType.EXECUTE_STATEMENT, hasResultSet=True
        )
        closed = t.TCloseOperationResp(status=SUCCESS)
        try:
            table = run()
        except Exception as error:  # noqa: BLE001 - told to the client
            failed = t.TGetOperationStatusResp(
                status=SUCCESS,
                operationState=t.TOperationState.ERROR_STATE,
                errorMessage=str(error),
                displayMessage=str(error),
                sqlState="42000",
            )
            return operation, t.TSparkDirectResults(operationStatus=failed, closeOperation=closed)
        if transfer is not None:
            table = transfer
        schema = table.schema.remove_metadata()
        batches = table.combine_chunks().to_batches()
        return operation, t.TSparkDirectResults(
            operationStatus=t.TGetOperationStatusResp(status=SUCCESS, operationState=t.TOperationState.FINISHED_STATE),
            resultSetMetadata=t.TGetResultSetMetadataResp(
                status=SUCCESS,
                schema=t.TTableSchema([_column(f, place) for place, f in enumerate(schema, 1)]),
                resultFormat=t.TSparkRowSetType.ARROW_BASED_SET,
                lz4Compressed=False,
                arrowSchema=schema.serialize().to_pybytes(),
                isStagingOperation=transfer is not None,
            ),
            resultSet=t.TFetchResultsResp(
                status=SUCCESS,
                hasMoreRows=False,
                results=t.TRowSet(
                    startRowOffset=0,
                    rows=[],
                    arrowBatches=[
                        t.TSparkArrowBatch(batch=batch.serialize().to_pybytes(), rowCount=batch.num_rows)
                        for batch in batches
                    ],
                ),
            ),
            closeOperation=closed,
        )


def _handle() -> t.THandleIdentifier:
    return t.THandleIdentifier(guid=uuid.uuid4().bytes, secret=b"-")


def _column(arrow: pa.Field, position: int) -> t.TColumnDesc:
    qualifiers = None
    if pa.types.is_decimal(arrow.type):
        kind = "DECIMAL"
        digits = {"precision": arrow.type.precision, "scale": arrow.type.scale}
        qualifiers = t.TTypeQualifiers({name: t.TTypeQualifierValue(i32Value=n) for name, n in digits.items()})
    elif pa.types.is_timestamp(arrow.type):
        kind = "TIMESTAMP"
    else:
        kind = {"bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INT", "int64": "BIGINT",
                "float": "FLOAT", "double": "DOUBLE", "binary": "BINARY", "date32[day]": "DATE",
                "null": "NULL"}.get(str(arrow.type), "STRING")  # fmt: skip
    entry = t.TPrimitiveTypeEntry(getattr(t.TTypeId, f"{kind}_TYPE"), qualifiers)
    description = t.TTypeDesc([t.TTypeEntry(primitiveEntry=entry)])
    return t.TColumnDesc(columnName=arrow.name, typeDesc=description, position=position)


def _bound(statement: str, parameters: list[t.TSparkParameter]) -> str:
    """The statement with its parameters written out, which Sail takes for queries alone."""
    if not parameters:
        return statement
    literals = {p.name: _literal(p) for p in parameters if p.name}
    ordered = iter([_literal(p) for p in parameters if not p.name])

    def bind(match: re.Match[str]) -> str:
        if match["string"]:
            return match["string"]
        return literals[match["name"]] if match["name"] else next(ordered)

    marker = rf"(?P<string>{STRING.pattern})|(?<!:):(?P<name>[A-Za-z_]\w*)|\?"
    return re.sub(marker, bind, statement, flags=re.DOTALL)


def _literal(parameter: t.TSparkParameter) -> str:
    kind = TYPES.get(parameter.type) or parameter.type.lower()
    if parameter.value is None or parameter.value.stringValue is None or parameter.type == "VOID":
        return f"cast(null as {kind})"
    text = parameter.value.stringValue.replace("\\", "\\\\").replace("'", "\\'")
    return f"cast('{text}' as {kind})"


class Handler(BaseHTTPRequestHandler):
    """One HTTP request: Thrift, the OAuth endpoints, files of volumes, or the faults."""

    protocol_version = "HTTP/1.1"
    lakehouse: Lakehouse
    processor: TCLIService.Processor
    faults: Faults
    token: str

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def do_GET(self) -> None:
        """The faults, or where the OAuth endpoints are; an SDK that is not told asks for minutes."""
        if self.path == "/faults":
            self._answer(200, json.dumps(vars(self.faults)).encode())
            return
        here = f"http://{self.headers['Host']}/oidc"
        if self.path.endswith("databricks-config"):
            told = {"oidc_endpoint": here}
        else:
            told = {"token_endpoint": f"{here}/v1/token", "authorization_endpoint": f"{here}/v1/authorize"}
        self._answer(200, json.dumps(told).encode())

    def do_POST(self) -> None:
        """Thrift, a token for the service principal, or faults."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlparse(self.path).path
        if path == "/faults":
            for name, value in json.loads(body).items():
                setattr(self.faults, name, value)
            self._answer(200, b"{}")
        elif path == "/reset":
            for known in fields(Faults):
                setattr(self.faults, known.name, getattr(Faults(), known.name))
            self.lakehouse.reset()
            self._answer(200, b"{}")
        elif path == "/oidc/v1/token":
            self._give_token(body)
        else:
            self._call(body)

    def do_PUT(self) -> None:
        """A file for a volume."""
        file = self._file()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(201, b"")

    def do_DELETE(self) -> None:
        """A file of a volume is not needed any more."""
        self._file().unlink(missing_ok=True)
        self._answer(200, b"")

    def _file(self) -> Path:
        return self.lakehouse.volumes / urlparse(self.path).path.removeprefix("/files/")

    def _give_token(self, body: bytes) -> None:
        asked = parse_qs(body.decode())
        basic = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        given = tuple(basic.split(":", 1)) if basic else (asked["client_id"][0], asked["client_secret"][0])
        if given != CLIENT:
            self._answer(
                401,
                json.dumps({"error": "invalid_client", "error_description": "Client authentication failed"}).encode(),
            )
            return
        told = {"access_token": self.token, "token_type": "Bearer", "expires_in": 3600}
        self._answer(200, json.dumps(told).encode())

    def _call(self, body: bytes) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.token}" or self.faults.is_token_expired:
            self._answer(403, b"", **{"X-Databricks-Reason-Phrase": "Invalid access token. [ReqId: 0]"})
            return
        if self.faults.asleep:
            self.faults.asleep -= 1
            told = {"Retry-After": "1", "X-Thriftserver-Error-Message": "The warehouse is starting"}
            self._answer(503, b"", **told)
            return
        answer = TMemoryBuffer()
        self.processor.process(TBinaryProtocol(TMemoryBuffer(body)), TBinaryProtocol(answer))
        self._answer(200, answer.getvalue(), **{"Content-Type": "application/x-thrift"})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except BrokenPipeError:  # the client was killed
            self.close_connection = True


def main(folder: Path, token: str) -> None:
    """Serve on a free port."""
    os.environ["TZ"] = "UTC"
    folder.mkdir(parents=True, exist_ok=True)
    lakehouse = Lakehouse(folder)
    faults = Faults()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    Handler.lakehouse, Handler.faults, Handler.token = lakehouse, faults, token
    Handler.processor = TCLIService.Processor(Service(lakehouse, faults, lambda: url))
    print(server.server_address[1], flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
