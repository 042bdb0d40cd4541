"""Settings from the environment and ``.env``. Nothing is read at import: call ``Settings.load()``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import parse_hour
from weather_dagster.locations import DEFAULT_FILE

RECORDED_LOCATIONS = Path(__file__).parent / "simulator" / "recorded_locations.yaml"
RECORDED_FIRST_HOUR = datetime(2013, 1, 1, tzinfo=UTC)
DEFAULT_FIRST_HOUR = datetime(2025, 1, 1, tzinfo=UTC)


def realm(provider: str) -> str:
    """Which data a provider's rows may lie beside: ``simulator``, ``recorded`` or ``live``."""
    return provider if provider in ("simulator", "recorded") else "live"


class Settings(BaseSettings):
    """What a person can set. Field names are the environment variables, in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    weather_env: str = "local"
    weather_provider: str | None = None
    weather_locations: Path | None = None
    weather_home: Path = Path(".weather")
    weather_duckdb_path: Path | None = None
    weather_start_hour: Annotated[datetime | None, NoDecode] = None
    openweather_api_key: SecretStr | None = None
    openweather_plan: str = "free"
    openweather_base_url: str | None = None
    dagster_home: Path | None = None

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
    def provider(self) -> str:
        """The provider asked for: WEATHER_PROVIDER, else openweather with a key, else the simulator."""
        return self.weather_provider or ("openweather" if self.openweather_api_key else "simulator")

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
        """WEATHER_LOCATIONS, else the provider's own places, else the default ones; absolute."""
        own = RECORDED_LOCATIONS if self.provider == "recorded" else DEFAULT_FILE
        return (self.weather_locations or own).absolute()

    @property
    def dagster_home_path(self) -> Path:
        """DAGSTER_HOME, else a folder of the home; absolute."""
        return (self.dagster_home or self.home / "dagster").absolute()

    @property
    def report_path(self) -> Path:
        """The HTML report, absolute."""
        return self.home / "report.html"

    @property
    def start_hour(self) -> datetime:
        """First hour of the partition grid."""
        default = RECORDED_FIRST_HOUR if self.provider == "recorded" else DEFAULT_FIRST_HOUR
        return self.weather_start_hour or default
