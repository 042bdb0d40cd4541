{{ config(
    unique_key=['location_id', 'local_date'],
    indexes=indexes(['location_id', 'local_date']),
    pre_hook="{{ forget_former_zones(ref('air_quality')) }}",
) }}

{%- set frame_hours = 8 %}
{%- set frame_needs_hours = 6 %}

with hours as {{ not_materialized() }} (

    select
        *,
        {{ utc_time('valid_hour_utc') }} as utc_time,
        {{ utc_date('valid_hour_utc') }} as utc_date,
        cast({{ local_time('time_zone', 'valid_hour_utc') }} as date) as local_date
    from {{ ref('air_quality') }}

),

fresh_hours as (

    select * from hours where {{ is_fresh() }}

),

-- An hour has part in the means that end up to seven hours later, some of them on the next day.
touched_days as (

    select location_id, local_date
    from fresh_hours
    union
    select
        location_id,
        cast({{ local_time('time_zone', utc_instant(add_hours('utc_time', frame_hours - 1))) }} as date) as local_date
    from fresh_hours

),

-- The hours of a local day, and the seven before them, lie within a day of the same date in UTC, in any zone.
needed_hours as (

    {{ hours_around_days('hours', 'touched_days', 'local_date', first=-1, last=1) }}

),

framed as (

    select
        location_id,
        location_name,
        time_zone,
        local_date,
        provider,
        pm2_5_ug_m3,
        pm10_ug_m3,
        nitrogen_dioxide_ug_m3,
        sulphur_dioxide_ug_m3,
        carbon_monoxide_ug_m3,
        case
            when count(ozone_ug_m3) over last_8h >= {{ frame_needs_hours }}
                then {{ mean('ozone_ug_m3', over='last_8h') }}
        end as ozone_8h_mean_ug_m3,
        {{ european_aqi() }} as european_aqi,
        max(load_id) over last_8h as load_id
    from needed_hours
    window last_8h as (partition by location_id {{ trailing_hours('utc_time', frame_hours) }})

),

day_hours as (

    select framed.*
    from framed
    {%- if is_incremental() %}
    inner join touched_days
        on framed.location_id = touched_days.location_id and framed.local_date = touched_days.local_date
    {%- endif %}

),

expected as (

    {{ hours_of_local_days('day_hours') }}

),

days as (

    select
        location_id,
        location_name,
        time_zone,
        local_date,

        count(*) as hours_present,
        {{ mean('pm2_5_ug_m3') }} as pm2_5_mean_ug_m3,
        count(pm2_5_ug_m3) as pm2_5_hours,
        {{ mean('pm10_ug_m3') }} as pm10_mean_ug_m3,
        count(pm10_ug_m3) as pm10_hours,
        max(ozone_8h_mean_ug_m3) as ozone_8h_max_ug_m3,
        max(nitrogen_dioxide_ug_m3) as nitrogen_dioxide_max_ug_m3,
        max(sulphur_dioxide_ug_m3) as sulphur_dioxide_max_ug_m3,
        {{ mean('carbon_monoxide_ug_m3') }} as carbon_monoxide_mean_ug_m3,
        cast(max(european_aqi) as bigint) as european_aqi,

        {{ comma_list('provider') }} as providers,
        max(load_id) as load_id
    from day_hours
    group by location_id, location_name, time_zone, local_date

),

-- An index of a day needs three quarters of its hours: 18 of 24.
indexed as (

    select
        days.*,
        expected.hours_expected,
        case
            when 4 * days.pm2_5_hours >= 3 * expected.hours_expected
                then {{ us_aqi('days.pm2_5_mean_ug_m3', 'pm2_5') }}
        end as us_aqi_pm2_5,
        case
            when 4 * days.pm10_hours >= 3 * expected.hours_expected
                then {{ us_aqi('days.pm10_mean_ug_m3', 'pm10') }}
        end as us_aqi_pm10
    from days
    inner join expected
        on days.time_zone = expected.time_zone and days.local_date = expected.local_date

)

select
    location_id,
    location_name,
    time_zone,
    local_date,

    hours_expected,
    hours_present,

    pm2_5_mean_ug_m3,
    pm2_5_hours,
    pm10_mean_ug_m3,
    pm10_hours,
    ozone_8h_max_ug_m3,
    nitrogen_dioxide_max_ug_m3,
    sulphur_dioxide_max_ug_m3,
    carbon_monoxide_mean_ug_m3,

    us_aqi_pm2_5,
    us_aqi_pm10,
    greatest(us_aqi_pm2_5, us_aqi_pm10) as us_aqi,
    {{ us_aqi_category('greatest(us_aqi_pm2_5, us_aqi_pm10)') }} as us_aqi_category,
    european_aqi,

    providers,
    load_id
from indexed
