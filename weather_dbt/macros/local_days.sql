{#
    The hours of local days, as a query: time_zone, local_date, hours_expected.

    A day is the set of UTC hour starts whose local date it is. In zones from UTC-12 to UTC+14 they
    lie between 15 hours before and 37 hours after midnight UTC of the same date.

    days    relation with time_zone and local_date, each pair once or more
#}
{% macro hours_of_local_days(days) %}
    select
        time_zone,
        local_date,
        count(*) as hours_expected
    from (
        select
            zone_days.time_zone,
            zone_days.local_date,
            {{ utc_instant(add_hours('cast(zone_days.local_date as timestamp)', 'numbers.n')) }} as hour_utc
        from (select distinct time_zone, local_date from {{ days }}) as zone_days
        cross join {{ numbers(-15, 37) }}
    ) as zone_hours
    where cast({{ local_time('time_zone', 'hour_utc') }} as date) = local_date
    group by time_zone, local_date
{% endmacro %}
