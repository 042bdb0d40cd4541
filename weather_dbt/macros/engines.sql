{#
    Every difference between SQL engines. The default is what DuckDB and Postgres both understand;
    an engine that differs gets its own variant here, and the models stay as they are. The sessions of
    Databricks are in UTC (profiles.yml): there a naive timestamp is one of the session's zone.
#}

{#
    Naive timestamp that clocks in an IANA zone show at an instant; the session's zone has no part in it.

    The rules of the zones are the engine's own: ICU's in DuckDB, in Postgres those that it was built with or the
    server's tzdata, Java's in Databricks. They can differ from each other and from Python's where a law is recent
    (America/Vancouver from November 2026, say), and what was stored stays as it was. After an update of the engine or
    its tzdata: dbt build --full-refresh.
#}
{% macro local_time(zone, instant) %}{{ return(adapter.dispatch('local_time')(zone, instant)) }}{% endmacro %}

{% macro default__local_time(zone, instant) %}timezone({{ zone }}, {{ instant }}){% endmacro %}

{% macro databricks__local_time(zone, instant) %}cast(from_utc_timestamp({{ instant }}, {{ zone }}) as timestamp_ntz){% endmacro %}


{# Naive timestamp of an instant in UTC. #}
{% macro utc_time(instant) %}{{ return(local_time("'UTC'", instant)) }}{% endmacro %}


{# Date of an instant in UTC. #}
{% macro utc_date(instant) %}cast({{ utc_time(instant) }} as date){% endmacro %}


{# The instant at which clocks in UTC show a naive timestamp. #}
{% macro utc_instant(naive) %}{{ return(adapter.dispatch('utc_instant')(naive)) }}{% endmacro %}

{% macro default__utc_instant(naive) %}timezone('UTC', {{ naive }}){% endmacro %}

{% macro databricks__utc_instant(naive) %}cast({{ naive }} as timestamp){% endmacro %}


{# A date moved by a number of days. #}
{% macro add_days(date, days) %}{{ return(adapter.dispatch('add_days')(date, days)) }}{% endmacro %}

{% macro default__add_days(date, days) %}cast({{ date }} + {{ days }} * interval '1 day' as date){% endmacro %}

{% macro databricks__add_days(date, days) %}date_add({{ date }}, {{ days }}){% endmacro %}


{# A naive timestamp moved by a number of hours. #}
{% macro add_hours(timestamp, hours) %}{{ return(adapter.dispatch('add_hours')(timestamp, hours)) }}{% endmacro %}

{% macro default__add_hours(timestamp, hours) %}({{ timestamp }} + {{ hours }} * interval '1 hour'){% endmacro %}

{% macro databricks__add_hours(timestamp, hours) %}(cast({{ timestamp }} as timestamp_ntz) + {{ hours }} * interval '1' hour){% endmacro %}


{# Seconds from one instant to another, fractions included. #}
{% macro seconds_between(earlier, later) %}{{ return(adapter.dispatch('seconds_between')(earlier, later)) }}{% endmacro %}

{% macro default__seconds_between(earlier, later) %}(extract(epoch from {{ later }}) - extract(epoch from {{ earlier }})){% endmacro %}

{% macro databricks__seconds_between(earlier, later) %}(cast({{ later }} as double) - cast({{ earlier }} as double)){% endmacro %}


{# Frame of a window: the hours that end with the current one, by time and not by row count. #}
{% macro trailing_hours(naive, hours) %}{{ return(adapter.dispatch('trailing_hours')(naive, hours)) }}{% endmacro %}

{% macro default__trailing_hours(naive, hours) %}order by {{ naive }} range between interval '{{ hours - 1 }} hours' preceding and current row{% endmacro %}

{% macro databricks__trailing_hours(naive, hours) %}order by {{ naive }} range between interval '{{ hours - 1 }}' hour preceding and current row{% endmacro %}


{# The whole numbers from first to last, one row each, column n. #}
{% macro numbers(first, last) %}{{ return(adapter.dispatch('numbers')(first, last)) }}{% endmacro %}

{% macro default__numbers(first, last) %}(values {% for n in range(first, last + 1) %}({{ n }}){{ ', ' if not loop.last }}{% endfor %}) as numbers (n){% endmacro %}

{% macro databricks__numbers(first, last) %}(select explode(sequence({{ first }}, {{ last }})) as n) as numbers{% endmacro %}


{# A text as something to sort by: bytes, whatever collation the database has. #}
{% macro in_byte_order(text) %}{{ return(adapter.dispatch('in_byte_order')(text)) }}{% endmacro %}

{% macro default__in_byte_order(text) %}{{ text }}{% endmacro %}

{% macro postgres__in_byte_order(text) %}cast({{ text }} as text) collate "C"{% endmacro %}


{# Aggregate: the different texts of a column in the order of their bytes, separated by commas. #}
{% macro comma_list(column) %}{{ return(adapter.dispatch('comma_list')(column)) }}{% endmacro %}

{% macro default__comma_list(column) %}string_agg(distinct {{ in_byte_order(column) }}, ',' order by {{ in_byte_order(column) }}){% endmacro %}

{% macro databricks__comma_list(column) %}array_join(array_sort(collect_set({{ column }})), ','){% endmacro %}


{#
    A double as a whole number of its last decimal, half to even.

    By way of the product of two doubles, which is the same everywhere: engines differ in how they make a decimal
    of a double (Postgres takes 15 digits of it).
#}
{% macro fixed_point(value, decimals) %}{{ return(adapter.dispatch('fixed_point')(value, decimals)) }}{% endmacro %}

{% macro default__fixed_point(value, decimals) %}cast(({{ value }}) * 1e{{ decimals }} as bigint){% endmacro %}

{% macro databricks__fixed_point(value, decimals) %}cast(rint(({{ value }}) * 1e{{ decimals }}) as bigint){% endmacro %}


{#
    Sum and mean of doubles, as aggregate or over a named window.

    Doubles add up to other last digits in another order, and neither a scan nor a window has a fixed one. So
    they are added as whole numbers, which is exact: any order, increment or refresh gives the same double. Nine
    decimals are more than any measure has; a term can be up to nine thousand million.
#}
{% macro total(value, over=none) -%}
    (cast(sum({{ fixed_point(value, 9) }}){{ ' over ' ~ over if over }} as {{ double_type() }}) / 1e9)
{%- endmacro %}

{% macro mean(value, over=none) -%}
    ({{ total(value, over) }} / nullif(count({{ value }}){{ ' over ' ~ over if over }}, 0))
{%- endmacro %}


{#
    A double rounded to a number of decimals, as a double. What comes out of sin, ln or power is rounded:
    its last digits belong to the mathematics library of the engine.
#}
{% macro rounded(value, decimals) -%}
    (cast({{ fixed_point(value, decimals) }} as {{ double_type() }}) / 1e{{ decimals }})
{%- endmacro %}


{# Statement: deletes the rows of a table, under a name, for which another relation has one that meets the condition. #}
{% macro delete_where_exists(table, name, relation, condition) %}{{ return(adapter.dispatch('delete_where_exists')(table, name, relation, condition)) }}{% endmacro %}

{% macro default__delete_where_exists(table, name, relation, condition) -%}
    delete from {{ table }} as {{ name }} where exists (select 1 from {{ relation }} where {{ condition }})
{%- endmacro %}

{# Databricks allows no query within the query of a deletion. #}
{% macro databricks__delete_where_exists(table, name, relation, condition) -%}
    merge into {{ table }} as {{ name }} using {{ relation }} on {{ condition }} when matched then delete
{%- endmacro %}


{# Name of the double type, for casts. Contracts cannot call it: YAML knows no macros of ours, and spells it float8. #}
{% macro double_type() %}{{ return(adapter.dispatch('double_type')()) }}{% endmacro %}

{% macro default__double_type() %}float8{% endmacro %}

{% macro databricks__double_type() %}double{% endmacro %}


{# After `as` of a query in WITH that several others read: each takes of its tables what it needs, by their indexes. #}
{% macro not_materialized() %}{{ return(adapter.dispatch('not_materialized')()) }}{% endmacro %}

{% macro default__not_materialized() %}not materialized{% endmacro %}

{% macro databricks__not_materialized() %}{% endmacro %}


{#
    An aggregate of a table, for use in a condition: a subquery.

    Postgres plans before it would know the result, and then takes a third of a table to be above it, whatever the
    index. There it is asked for first; not in a unit test, where the table is a name within the query.
#}
{% macro at_hand(aggregate, relation) %}{{ return(adapter.dispatch('at_hand')(aggregate, relation)) }}{% endmacro %}

{% macro default__at_hand(aggregate, relation) %}(select {{ aggregate }} from {{ relation }}){% endmacro %}

{% macro postgres__at_hand(aggregate, relation) -%}
    {%- set subquery = default__at_hand(aggregate, relation) -%}
    {%- set is_there = execute and relation is not string and load_cached_relation(relation) -%}
    {{ run_query('select ' ~ subquery)[0][0] if is_there else subquery }}
{%- endmacro %}


{#
    Indexes of a table whose rows are replaced by a key: on the key, on load_id, by which increments find what is
    fresh, and on the days that they are computed from. DuckDB needs none: it skips what lies outside a range.

    day    expression of the date, where increments look for the hours of the days of a place
#}
{% macro indexes(key, day=none) %}{{ return(adapter.dispatch('indexes')(key, day)) }}{% endmacro %}

{% macro default__indexes(key, day) %}{{ return([]) }}{% endmacro %}

{% macro postgres__indexes(key, day) -%}
    {%- set by_day = [{'columns': ['location_id', '(' ~ day ~ ')']}] if day else [] -%}
    {{ return([{'columns': key, 'unique': true}, {'columns': ['load_id']}] + by_day) }}
{%- endmacro %}


{# dbt calls it to compare a model with its contract: the types of a contract in the words of Databricks. #}
{% macro databricks__get_empty_schema_sql(columns) %}
    {%- set types = {'text': 'string', 'float8': 'double', 'timestamp': 'timestamp_ntz', 'timestamptz': 'timestamp'} -%}
    select
    {%- for column in columns.values() %}
        cast(null as {{ types.get(column['data_type'], column['data_type']) }}) as {{ column['name'] }}{{ ',' if not loop.last }}
    {%- endfor %}
{% endmacro %}
