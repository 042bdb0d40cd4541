{#
    How increments follow loads.

    Every bronze row carries the load_id of the transaction that landed it, and load_ids grow in commit
    order. Every silver and gold row carries the highest load_id of all that went into it, so the
    highest load_id of a table is its watermark: a model recomputes the keys that rows above its
    watermark touch, completely, and replaces them. No window comes from outside, and after any
    sequence of loads and runs the tables equal those of `dbt build --full-refresh`.

    Three rules keep the watermark honest: load_id is taken over all rows that were considered, losers
    included; a model keeps a row for whatever a load touched; and a model reads bronze, or one other model.
    On a shared store loads land while dbt runs: of two models one may know a load that the other lacks,
    and what reads both would take it for seen.
#}

{# Condition: the row has not been seen by this model yet. #}
{% macro is_fresh(load_id='load_id') %}
    {%- if is_incremental() -%}
        {{ load_id }} > {{ at_hand('coalesce(max(load_id), 0)', this) }}
    {%- else -%}
        true
    {%- endif -%}
{% endmacro %}


{#
    The winning version of every touched key of a bronze dataset, as a query: all columns of bronze,
    and newest_load_id, the highest load_id of all versions of the key.

    The winner is of the provider that stands first in var('provider_precedence'); of its readings the
    one nearest to the hour, of two equally near the earlier; of its versions the newest.

    key          columns of one row of silver
    observed_at  the provider's own time, where one hour can have several readings
    locations    relation of places whose new description touches all of their keys
#}
{% macro winning_versions(bronze, key, observed_at=none, locations=none) %}
    select *
    from (
        select
            versions.*,
            row_number() over (
                partition by {{ prefixed('versions', key) }}
                order by
                    {{ provider_rank('versions.provider') }},
                    {{ in_byte_order('versions.provider') }}
                    {%- if observed_at %},
                    abs({{ seconds_between('versions.' ~ observed_at, 'versions.valid_hour_utc') }}),
                    versions.{{ observed_at }}
                    {%- endif %},
                    versions.load_id desc
            ) as ranking,
            max(versions.load_id) over (partition by {{ prefixed('versions', key) }}) as newest_load_id
        {%- if is_incremental() %}
        from (
            select known.*
            from {{ bronze }} as known
            inner join (
                select distinct {{ key | join(', ') }}
                from {{ bronze }}
                where {{ is_fresh() }}
            ) as touched on {{ same('known', 'touched', key) }}
            {%- if locations %}
            -- A row that comes by both ways does no harm, and each of the two is planned by itself.
            union all
            select *
            from {{ bronze }}
            where location_id in (select location_id from {{ locations }} where {{ is_fresh() }})
            {%- endif %}
        ) as versions
        {%- else %}
        from {{ bronze }} as versions
        {%- endif %}
    ) as ranked
    where ranking = 1
{% endmacro %}


{#
    The hours that the days touched by a load are computed from, as a query: all columns of the hours, and in a
    full refresh all hours.

    hours   relation with location_id and utc_date
    days    relation with location_id and a date, each pair once or more
    date    name of that date
    first, last   the dates in UTC that are needed, in days from that date
#}
{% macro hours_around_days(hours, days, date, first, last) %}
    select hours.*
    from {{ hours }} as hours
    {%- if is_incremental() %}
    inner join (
        select distinct
            days.location_id,
            {{ add_days('days.' ~ date, 'numbers.n') }} as utc_date
        from {{ days }} as days
        cross join {{ numbers(first, last) }}
    ) as needed on {{ same('hours', 'needed', ['location_id', 'utc_date']) }}
    {%- endif %}
{% endmacro %}


{#
    Hook before a model of local days: deletes the days of zones that a place no longer has. A changed zone
    makes all hours of the place fresh, so the model computes all days of the present zone; a former day that
    the present zone does not have would stay for ever.
#}
{% macro forget_former_zones(hours) %}
    {%- if is_incremental() -%}
    {%- set present -%} (select distinct location_id, time_zone from {{ hours }} where {{ is_fresh() }}) as present {%- endset -%}
    {%- set condition = 'present.location_id = days.location_id and present.time_zone <> days.time_zone' -%}
    {{ delete_where_exists(this, 'days', present, condition) }}
    {%- endif -%}
{% endmacro %}


{# Rank of a provider by declared precedence, 0 first; providers without one come last. #}
{% macro provider_rank(provider) %}
    {%- set precedence = var('provider_precedence') -%}
    case {{ provider }}
    {%- for name in precedence %} when '{{ name }}' then {{ loop.index0 }}{% endfor %} else {{ precedence | length }} end
{%- endmacro %}


{% macro prefixed(relation, columns) -%}
    {% for column in columns %}{{ relation }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
{%- endmacro %}


{% macro same(left, right, columns) -%}
    {% for column in columns %}{{ left }}.{{ column }} = {{ right }}.{{ column }}{{ ' and ' if not loop.last }}{% endfor %}
{%- endmacro %}
