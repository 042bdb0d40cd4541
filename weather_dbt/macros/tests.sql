{#
    The rows that a data test reads. `where: fresh_loads` limits it to rows of the newest 1,000 loads, some
    two weeks of hourly runs, so that the cost of a check does not grow with the store and one bad old row
    does not fail every new hour. `dbt build --full-refresh` reads all rows.
#}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if where == 'fresh_loads' -%}
        {%- set where = none if flags.FULL_REFRESH else 'load_id > (select max(load_id) - 1000 from ' ~ relation ~ ')' -%}
    {%- endif -%}
    {%- if not where -%}
        {% do return(relation) %}
    {%- endif -%}
    {% do return('(select * from ' ~ relation ~ ' where ' ~ where ~ ') as tested') %}
{%- endmacro %}
