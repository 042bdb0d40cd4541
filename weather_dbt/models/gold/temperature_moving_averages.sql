{{ config(unique_key=['location_id', 'valid_hour_utc'], indexes=indexes(['location_id', 'valid_hour_utc'])) }}

{#- A row of one UTC day has part in the frames of that day and of as many days after it. -#}
{%- set reach_days = 7 %}

with hours as {{ not_materialized() }} (

    select
        location_id,
        location_name,
        valid_hour_utc,
        {{ utc_time('valid_hour_utc') }} as utc_time,
        {{ utc_date('valid_hour_utc') }} as utc_date,
        temperature_c,
        load_id
    from {{ ref('observations') }}

),

touched_days as (

    select distinct
        fresh_days.location_id,
        {{ add_days('fresh_days.utc_date', 'numbers.n') }} as utc_date
    from (select distinct location_id, utc_date from hours where {{ is_fresh() }}) as fresh_days
    cross join {{ numbers(0, reach_days) }}

),

needed_hours as (

    {{ hours_around_days('hours', 'touched_days', 'utc_date', first=-reach_days, last=0) }}

),

framed as (

    select
        location_id,
        location_name,
        valid_hour_utc,
        utc_date,
        temperature_c,
        {{ mean('temperature_c', over='last_3h') }} as mean_3h_c,
        count(temperature_c) over last_3h as hours_present_3h,
        {{ mean('temperature_c', over='last_24h') }} as mean_24h_c,
        count(temperature_c) over last_24h as hours_present_24h,
        {{ mean('temperature_c', over='last_7d') }} as mean_7d_c,
        count(temperature_c) over last_7d as hours_present_7d,
        max(load_id) over last_7d as load_id
    from needed_hours
    window
        last_3h as (partition by location_id {{ trailing_hours('utc_time', 3) }}),
        last_24h as (partition by location_id {{ trailing_hours('utc_time', 24) }}),
        last_7d as (partition by location_id {{ trailing_hours('utc_time', 168) }})

)

select
    framed.location_id,
    framed.location_name,
    framed.valid_hour_utc,
    framed.temperature_c,
    framed.mean_3h_c,
    framed.hours_present_3h,
    framed.mean_24h_c,
    framed.hours_present_24h,
    framed.mean_7d_c,
    framed.hours_present_7d,
    framed.load_id
from framed
{%- if is_incremental() %}
inner join touched_days
    on framed.location_id = touched_days.location_id and framed.utc_date = touched_days.utc_date
{%- endif %}
