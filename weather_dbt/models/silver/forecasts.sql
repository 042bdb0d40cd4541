{{ config(unique_key=['location_id', 'issued_hour_utc', 'valid_hour_utc'], indexes=indexes(['location_id', 'issued_hour_utc', 'valid_hour_utc'])) }}

with winners as (

    {{ winning_versions(
        source('bronze', 'forecasts'),
        key=['location_id', 'issued_hour_utc', 'valid_hour_utc'],
    ) }}

)

select
    location_id,
    issued_hour_utc,
    valid_hour_utc,
    cast({{ seconds_between('issued_hour_utc', 'valid_hour_utc') }} / 3600 as bigint) as lead_hours,
    provider,
    endpoint,
    {%- for quantity in quantity_names('forecast') %}
    {{ without_negative_zero(quantity) }} as {{ quantity }},
    {%- endfor %}
    precipitation_hours,
    condition_id,
    {{ condition_group('condition_id') }} as condition_group,
    rejected_fields,
    rejected_fields is null as is_plausible,
    ingested_at_utc,
    newest_load_id as load_id
from winners
