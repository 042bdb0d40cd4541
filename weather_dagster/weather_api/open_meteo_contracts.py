"""Pydantic contracts of what the Open-Meteo adapter reads.

An answer is columnar: a list of times, and for each variable a list of as many values, null where there is none. So the
contracts are of an envelope and of whole columns; a column that breaks its contract is gone through value by value.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Instant = Annotated[int, Field(strict=True, ge=0, lt=10**11)]
"""Whole unix seconds; the bound catches milliseconds."""
LocalText = Annotated[str, Field(strict=True, pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?$")]
"""A local time without zone or offset."""


def _usable(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN and infinities compare as false too.
    return float(value) if is_number and abs(value) <= 180 else None


Degrees = Annotated[float | None, BeforeValidator(_usable)]
"""A coordinate. The service has sent bare nan words; whatever is no coordinate is None."""


class Place(BaseModel):
    """The answer for one place. A coordinate that is left out was not sent; one that is None is unusable."""

    latitude: Degrees = None
    longitude: Degrees = None
    location_id: int | None = None
    """Place in the order asked for; left out for the first."""
    utc_offset_seconds: Annotated[int, Field(gt=-86_400, lt=86_400)]
    hourly_units: dict[str, str]
    hourly: dict[str, list[Any]]

    @property
    def tells_place(self) -> bool:
        """Whether the answer has both coordinates of its grid cell."""
        return self.latitude is not None and self.longitude is not None

    @property
    def hides_place(self) -> bool:
        """Whether the answer has coordinates that are of no use."""
        return not self.tells_place and not self.model_fields_set.isdisjoint({"latitude", "longitude"})


INSTANTS = TypeAdapter(list[Instant])
INSTANT = TypeAdapter(Instant)
LOCAL_TEXT = TypeAdapter(LocalText)
LOCAL_TIME = TypeAdapter(datetime)
NUMBERS: TypeAdapter[list[float | None]] = TypeAdapter(list[Number | None])
NUMBER: TypeAdapter[float | None] = TypeAdapter(Number | None)
