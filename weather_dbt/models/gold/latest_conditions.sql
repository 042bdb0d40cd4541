{{ config(unique_key=['location_id'], indexes=indexes(['location_id'])) }}

{%- set columns = [
    'location_id', 'location_name', 'country', 'latitude', 'longitude', 'time_zone', 'valid_hour_utc', 'local_time',
    'local_date', 'provider', 'observed_at_utc', 'temperature_c', 'apparent_temperature_c', 'dew_point_c', 'heat_index_c',
    'wind_chill_c', 'humidity_pct', 'pressure_hpa', 'wind_speed_ms', 'wind_gust_ms', 'wind_direction_deg', 'wind_compass',
    'cloud_cover_pct', 'visibility_m', 'rain_mm', 'snow_mm', 'precipitation_mm', 'condition_id', 'condition_group',
    'rejected_fields', 'load_id',
] %}

with fresh_hours as (

    select {{ columns | join(', ') }}
    from {{ ref('hourly_weather') }}
    where {{ is_fresh() }}

),

candidates as (

    select *
    from fresh_hours
    {%- if is_incremental() %}
    union all
    -- what is known stays, unless a fresh row is for the same hour or a newer one
    select {{ prefixed('known', columns) }}
    from {{ this }} as known
    where
        exists (select 1 from fresh_hours where fresh_hours.location_id = known.location_id)
        and not exists (
            select 1 from fresh_hours
            where fresh_hours.location_id = known.location_id and fresh_hours.valid_hour_utc = known.valid_hour_utc
        )
    {%- endif %}

),

ranked as (

    select
        *,
        row_number() over (partition by location_id order by valid_hour_utc desc) as ranking,
        max(load_id) over (partition by location_id) as newest_load_id
    from candidates

)

select
    {%- for column in columns if column != 'load_id' %}
    {{ column }},
    {%- endfor %}
    newest_load_id as load_id
from ranked
where ranking = 1
