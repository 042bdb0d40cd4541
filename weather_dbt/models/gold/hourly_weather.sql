{{ config(
    unique_key=['location_id', 'valid_hour_utc'],
    indexes=indexes(['location_id', 'valid_hour_utc'], day='local_date'),
) }}

with fresh_hours as (

    select
        *,
        {{ local_time('time_zone', 'valid_hour_utc') }} as local_time
    from {{ ref('observations') }}
    where {{ is_fresh() }}

)

select
    location_id,
    location_name,
    country,
    latitude,
    longitude,
    time_zone,

    valid_hour_utc,
    local_time,
    cast(local_time as date) as local_date,
    provider,
    observed_at_utc,

    temperature_c,
    apparent_temperature_c,
    dew_point_c,
    {{ heat_index_c('temperature_c', 'humidity_pct') }} as heat_index_c,
    {{ wind_chill_c('temperature_c', 'wind_speed_ms') }} as wind_chill_c,
    humidity_pct,
    pressure_hpa,
    wind_speed_ms,
    wind_gust_ms,
    wind_direction_deg,
    wind_compass,
    cloud_cover_pct,
    visibility_m,
    rain_mm,
    snow_mm,
    precipitation_mm,
    condition_id,
    condition_group,

    rejected_fields,
    load_id
from fresh_hours
