{{ config(
    unique_key=['location_id', 'valid_hour_utc'],
    indexes=indexes(['location_id', 'valid_hour_utc'], day=utc_date('valid_hour_utc')),
) }}

with winners as (

    {{ winning_versions(
        source('bronze', 'observations'),
        key=['location_id', 'valid_hour_utc'],
        observed_at='observed_at_utc',
        locations=source('bronze', 'locations'),
    ) }}

),

locations as (

    select * from {{ source('bronze', 'locations') }}

),

cleaned as (

    select
        winners.location_id,
        locations.name as location_name,
        locations.country,
        locations.latitude,
        locations.longitude,
        locations.time_zone,

        winners.valid_hour_utc,
        winners.provider,
        winners.endpoint,
        winners.observed_at_utc,

        {%- for quantity in quantity_names('weather') %}
        {%- if quantity == 'wind_direction_deg' %}
        case when winners.wind_direction_deg = 360 then cast(0 as {{ double_type() }}) else winners.wind_direction_deg end + 0.0 as wind_direction_deg,
        {%- else %}
        {{ without_negative_zero('winners.' ~ quantity) }} as {{ quantity }},
        {%- endif %}
        {%- endfor %}
        winners.precipitation_hours,
        winners.condition_id,

        winners.rejected_fields,
        winners.ingested_at_utc,
        greatest(winners.newest_load_id, coalesce(locations.load_id, 0)) as load_id
    from winners
    left join locations on winners.location_id = locations.location_id

)

select
    *,
    {{ condition_group('condition_id') }} as condition_group,
    case when wind_speed_ms = 0 then null else {{ compass_sector('wind_direction_deg') }} end as wind_compass,
    {{ dew_point_c('temperature_c', 'humidity_pct') }} as dew_point_c,
    {{ rounded('abs(precipitation_mm - rain_mm - snow_mm)', 6) }} > 0.05 as precipitation_parts_disagree,
    rejected_fields is null as is_plausible
from cleaned
