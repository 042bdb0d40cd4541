"""What can go wrong, and what each case asks of us.

WeatherError                   every error of ours; its text is meant for a person
├── ConfigurationError         a person must correct a setting, a file or an argument
├── WarehouseError             the store cannot be opened or written
└── ProviderError              a call to a weather provider came to nothing
    ├── TransientProviderError may heal: network, time-out, 408, 5xx, HTML or cut JSON; retried with back-off
    ├── QuotaExceeded          429: the account is over its limit; not retried, later runs may succeed
    ├── RequestRefused         400, 401, 403, 404 and the like: a person must act; not retried
    ├── MalformedAnswer        valid JSON of another shape than the endpoint's envelope; not retried
    └── HourNotServed          no endpoint of the provider and plan can answer for that hour; no call is made

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
    """A provider call came to nothing."""


class TransientProviderError(ProviderError):
    """A fault that may heal by itself: network, time-out, 408, 5xx, unreadable body."""


class QuotaExceeded(ProviderError):
    """The account is over its limit (HTTP 429)."""


class RequestRefused(ProviderError):
    """The provider refuses the request for good (HTTP 4xx but 408 and 429)."""


class MalformedAnswer(ProviderError):
    """A readable answer whose envelope is not the endpoint's."""


class HourNotServed(ProviderError):
    """No endpoint of this provider and plan serves the hour that was asked for."""
