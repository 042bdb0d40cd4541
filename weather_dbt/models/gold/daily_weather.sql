{{ config(
    unique_key=['location_id', 'local_date'],
    indexes=indexes(['location_id', 'local_date']),
    pre_hook="{{ forget_former_zones(ref('hourly_weather')) }}",
) }}

{%- set degree_day_base_c = 18 %}

with touched_days as (

    select distinct
        location_id,
        local_date
    from {{ ref('hourly_weather') }}
    where {{ is_fresh() }}

),

hours as (

    select
        hourly.*,
        -- a calm has no direction
        case when wind_speed_ms > 0 then sin(radians(wind_direction_deg)) end as wind_sine,
        case when wind_speed_ms > 0 then cos(radians(wind_direction_deg)) end as wind_cosine,
        case
            when temperature_c < {{ degree_day_base_c }} then {{ degree_day_base_c }} - temperature_c
            when temperature_c is not null then 0
        end as heating_degrees,
        case
            when temperature_c > {{ degree_day_base_c }} then temperature_c - {{ degree_day_base_c }}
            when temperature_c is not null then 0
        end as cooling_degrees
    from {{ ref('hourly_weather') }} as hourly
    {%- if is_incremental() %}
    inner join touched_days
        on hourly.location_id = touched_days.location_id and hourly.local_date = touched_days.local_date
    {%- endif %}

),

expected as (

    {{ hours_of_local_days('hours') }}

),

days as (

    select
        location_id,
        location_name,
        time_zone,
        local_date,

        count(*) as hours_present,
        {{ mean('temperature_c') }} as temperature_mean_c,
        min(temperature_c) as temperature_min_c,
        max(temperature_c) as temperature_max_c,
        count(temperature_c) as temperature_hours,
        {{ mean('humidity_pct') }} as humidity_mean_pct,
        {{ mean('pressure_hpa') }} as pressure_mean_hpa,
        {{ mean('wind_speed_ms') }} as wind_speed_mean_ms,
        max(wind_speed_ms) as wind_speed_max_ms,
        max(wind_gust_ms) as wind_gust_max_ms,
        {{ mean('wind_sine') }} as wind_sine,
        {{ mean('wind_cosine') }} as wind_cosine,
        {{ total('precipitation_mm') }} as precipitation_mm,
        count(precipitation_mm) as precipitation_hours_present,
        {{ total('rain_mm') }} as rain_mm,
        {{ total('snow_mm') }} as snow_mm,
        {{ mean('heating_degrees') }} as heating_degree_days,
        {{ mean('cooling_degrees') }} as cooling_degree_days,

        {{ comma_list('provider') }} as providers,
        max(load_id) as load_id
    from hours
    group by location_id, location_name, time_zone, local_date

)

select
    days.location_id,
    days.location_name,
    days.time_zone,
    days.local_date,

    expected.hours_expected,
    days.hours_present,
    cast(days.hours_present as {{ double_type() }}) / expected.hours_expected as completeness,
    days.hours_present = expected.hours_expected as is_complete,

    days.temperature_mean_c,
    days.temperature_min_c,
    days.temperature_max_c,
    days.temperature_hours,
    days.humidity_mean_pct,
    days.pressure_mean_hpa,
    days.wind_speed_mean_ms,
    days.wind_speed_max_ms,
    days.wind_gust_max_ms,
    {{ resultant_direction_deg('days.wind_sine', 'days.wind_cosine') }} as wind_direction_mean_deg,
    days.precipitation_mm,
    days.precipitation_hours_present,
    days.rain_mm,
    days.snow_mm,
    days.heating_degree_days,
    days.cooling_degree_days,

    days.providers,
    days.load_id
from days
inner join expected
    on days.time_zone = expected.time_zone and days.local_date = expected.local_date
