{#
    Fails for each row in which a quantity lies outside its plausible limits, as declared in
    weather_dagster/quantities.py.

    group    weather, forecast or air_quality
    columns  those of the group that the model has; all by default
#}
{% test within_limits(model, group, columns=none) %}

{%- set limits = quantity_limits()[group] %}

select *
from {{ model }}
where
    {%- for column in columns or limits %}
    {{ 'or ' if not loop.first }}{{ column }} not between {{ limits[column][0] }} and {{ limits[column][1] }}
    {%- endfor %}

{% endtest %}
