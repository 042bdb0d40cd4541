"""What can go wrong, and what each case asks of us.

WeatherError                   every error of ours; its text is meant for a person
├── ConfigurationError         a person must correct a setting, a file or an argument
├── WarehouseError             the store cannot be opened or written
└── ProviderError              a call to a weather provider came to nothing
    ├── TransientProviderError may heal: network, time-out, 408, 5xx, HTML or cut JSON; retried with back-off
    ├── QuotaExceeded          429: the account is over its limit; the run ends, a later one may succeed
    │   └── BudgetExceeded     more calls than are left under the plan: no further one is made
    ├── RequestRefused         400, 404 and the like: a person must act; not retried, other calls go on
    │   └── AccountRefused     401, 403: the key or its plan; no other call is made
    ├── MalformedAnswer        valid JSON of another shape than the endpoint's envelope; not retried
    ├── HourNotServed          no endpoint of the provider and plan can answer for that hour; no call is made
    └── RangeIncomplete        some calls of a range came to nothing; the rest has landed

A single record that breaks its contract is not an error: it is kept in quarantine
(``weather_dagster.datasets.Rejection``) and the records beside it land.
"""


class WeatherError(Exception):
    """Base of all errors whose text names the thing, the value and the way out."""


class ConfigurationError(WeatherError):
    """A setting, file or argument is wrong."""


class WarehouseError(WeatherError):
    """The warehouse cannot be opened, read or written."""


class ProviderError(WeatherError):
    """A provider call came to nothing.

    Args:
        body: what the provider sent instead of an answer, secrets hidden; None when it sent nothing.
    """

    def __init__(self, message: str, *, body: str | None = None) -> None:
        super().__init__(message)
        self.body = body


class TransientProviderError(ProviderError):
    """A fault that may heal by itself: network, time-out, 408, 5xx, unreadable body."""


class QuotaExceeded(ProviderError):
    """The account is over its limit (HTTP 429)."""


class BudgetExceeded(QuotaExceeded):
    """More calls are needed than are left under the plan: seen before the first one, or when a limit is used up."""


class RequestRefused(ProviderError):
    """The provider refuses the request for good (HTTP 4xx but 408 and 429)."""


class AccountRefused(RequestRefused):
    """The provider refuses the key or what its plan does not cover (HTTP 401 and 403)."""


class MalformedAnswer(ProviderError):
    """A readable answer whose envelope is not the endpoint's."""


class HourNotServed(ProviderError):
    """No endpoint of this provider and plan serves the hour that was asked for."""


class RangeIncomplete(ProviderError):
    """Some calls of a range came to nothing; what the others brought has landed."""
