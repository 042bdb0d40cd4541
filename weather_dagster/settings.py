"""Settings from the environment and ``.env``. Nothing is read at import: call ``Settings.load()``."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import parse_hour
from weather_dagster.locations import DEFAULT_FILE

RECORDED_LOCATIONS = Path(__file__).parent / "simulator" / "recorded_locations.yaml"
RECORDED_FIRST_HOUR = datetime(2013, 1, 1, tzinfo=UTC)
DEFAULT_FIRST_HOUR = datetime(2025, 1, 1, tzinfo=UTC)
DBT_RUNS = "dbt"
"""Folder in the home."""


class ProviderName(StrEnum):
    """The providers, as in WEATHER_PROVIDER and in the rows."""

    OPENWEATHER = "openweather"
    OPEN_METEO = "open_meteo"
    SIMULATOR = "simulator"
    RECORDED = "recorded"


class HistoryProviderName(StrEnum):
    """Who brings the hours that openweather's plan does not serve, as in WEATHER_HISTORY_PROVIDER."""

    OPEN_METEO = "open_meteo"
    NONE = "none"


class EnvironmentName(StrEnum):
    """The environments, as in WEATHER_ENV."""

    LOCAL = "local"
    CLUSTER = "cluster"
    DATABRICKS = "databricks"


class LogFormat(StrEnum):
    """Forms of log lines, as in WEATHER_LOG_FORMAT."""

    TEXT = "text"
    JSON = "json"


def realm(provider: str) -> str:
    """Which data a provider's rows may lie beside: ``simulator``, ``recorded`` or ``live``."""
    return provider if provider in (ProviderName.SIMULATOR, ProviderName.RECORDED) else "live"


class Settings(BaseSettings):
    """What a person can set. Field names are the environment variables, in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    weather_env: EnvironmentName = EnvironmentName.LOCAL
    weather_provider: ProviderName | None = None
    weather_history_provider: HistoryProviderName = HistoryProviderName.OPEN_METEO
    weather_locations: Path | None = None
    weather_home: Path = Path(".weather")
    weather_duckdb_path: Path | None = None
    weather_postgres_url: SecretStr | None = None
    weather_dagster_storage_url: SecretStr | None = None
    databricks_host: str | None = None
    databricks_http_path: str | None = None
    databricks_catalog: str = "weather"
    databricks_token: SecretStr | None = None
    databricks_client_id: str | None = None
    databricks_client_secret: SecretStr | None = None
    weather_start_hour: Annotated[datetime | None, NoDecode] = None
    weather_log_format: LogFormat = LogFormat.TEXT
    weather_alert_urls: SecretStr | None = None
    weather_alert_window_minutes: Annotated[int, Field(ge=1)] = 360
    weather_ui_url: str = "http://127.0.0.1:3000"
    openweather_api_key: SecretStr | None = None
    openweather_plan: str = "free"
    openweather_base_url: str | None = None
    openweather_one_call_per_day: Annotated[int, Field(ge=1)] = 1000
    open_meteo_base_url: str | None = None

    @field_validator("weather_env", "weather_provider", "weather_history_provider", "weather_log_format", mode="before")
    @classmethod
    def _know_name(cls, value: Any, info: ValidationInfo) -> Any:
        names: type[StrEnum] = {
            "weather_env": EnvironmentName,
            "weather_provider": ProviderName,
            "weather_history_provider": HistoryProviderName,
            "weather_log_format": LogFormat,
        }[str(info.field_name)]
        if isinstance(value, str) and value not in list(names):
            raise ConfigurationError(f"{str(info.field_name).upper()} is {value!r}; known names: {', '.join(names)}")
        return value

    @field_validator("weather_locations", "weather_home", "weather_duckdb_path")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        return value and value.expanduser()

    @field_validator("weather_start_hour", mode="before")
    @classmethod
    def _read_start_hour(cls, value: Any) -> Any:
        return parse_hour(value, option="WEATHER_START_HOUR") if isinstance(value, str) else value

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """Read the environment; ``overrides`` win over it.

        Raises:
            ConfigurationError: naming the variable; its value is not repeated, it may be a secret.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            faults = "; ".join(
                f"{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors(include_input=False)
            )
            raise ConfigurationError(faults) from None

    @property
    def provider(self) -> ProviderName:
        """The provider asked for: WEATHER_PROVIDER, else openweather with a key, else the simulator."""
        by_key = ProviderName.OPENWEATHER if self.openweather_api_key else ProviderName.SIMULATOR
        return self.weather_provider or by_key

    @property
    def home(self) -> Path:
        """Folder of everything that is written, absolute.

        Simulated, recorded and live data live apart, each with its own warehouse and Dagster home:
        going live leaves no demo row in gold and no partition that only the demo filled.
        """
        return (self.weather_home / realm(self.provider)).absolute()

    @property
    def duckdb_path(self) -> Path:
        """The DuckDB warehouse file, absolute."""
        return (self.weather_duckdb_path or self.home / "warehouse.duckdb").absolute()

    @property
    def locations_path(self) -> Path:
        """The recording has places of its own; else WEATHER_LOCATIONS, else the default ones. Absolute."""
        if self.provider == ProviderName.RECORDED:
            return RECORDED_LOCATIONS
        return (self.weather_locations or DEFAULT_FILE).absolute()

    @property
    def dagster_home_path(self) -> Path:
        """The Dagster home that `weather` commands use, absolute. DAGSTER_HOME is for plain `dagster` commands."""
        return self.home / "dagster"

    @property
    def dbt_runs_path(self) -> Path:
        """Folder of what dbt leaves, a folder a run, absolute."""
        return self.home / DBT_RUNS

    @property
    def report_path(self) -> Path:
        """The HTML report, absolute."""
        return self.home / "report.html"

    @property
    def start_hour(self) -> datetime:
        """First hour of the partition grid: the recording's own, else WEATHER_START_HOUR, else a fixed one."""
        if self.provider == ProviderName.RECORDED:
            return RECORDED_FIRST_HOUR
        return self.weather_start_hour or DEFAULT_FIRST_HOUR
