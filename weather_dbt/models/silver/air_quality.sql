{{ config(
    unique_key=['location_id', 'valid_hour_utc'],
    indexes=indexes(['location_id', 'valid_hour_utc'], day=utc_date('valid_hour_utc')),
) }}

with winners as (

    {{ winning_versions(
        source('bronze', 'air_quality'),
        key=['location_id', 'valid_hour_utc'],
        observed_at='observed_at_utc',
        locations=source('bronze', 'locations'),
    ) }}

),

locations as (

    select * from {{ source('bronze', 'locations') }}

)

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

    {%- for quantity in quantity_names('air_quality') %}
    {{ without_negative_zero('winners.' ~ quantity) }} as {{ quantity }},
    {%- endfor %}
    winners.provider_aqi,

    winners.rejected_fields,
    winners.rejected_fields is null as is_plausible,
    winners.ingested_at_utc,
    greatest(winners.newest_load_id, coalesce(locations.load_id, 0)) as load_id
from winners
left join locations on winners.location_id = locations.location_id
