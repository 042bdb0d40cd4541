{#
    Data tests of large tables read what landed lately, so that their cost does not grow with the store:
    `where: fresh_loads` means rows of the newest 100 loads, which is about a day of hourly runs (each lands
    up to three datasets).

    A bad row fails its test in every run, and what depends on the model is skipped, until a newer version
    repairs the row or 100 loads have passed. After that it is in the store and no test speaks of it:
    a pass says that lately landed rows are good. `dbt build --full-refresh` tests all rows.
#}
{% macro fresh_loads(relation) -%}
    {{ 'true' if flags.FULL_REFRESH else 'load_id > ' ~ at_hand('coalesce(max(load_id), 0) - 100', relation) }}
{%- endmacro %}


{# dbt calls it for the rows that a data test reads. #}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if not where -%}
        {% do return(relation) %}
    {%- endif -%}
    {%- if where == 'fresh_loads' -%}
        {%- set where = fresh_loads(relation) -%}
    {%- endif -%}
    {% do return('(select * from ' ~ relation ~ ' where ' ~ where ~ ') as tested') %}
{%- endmacro %}
