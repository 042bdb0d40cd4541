{# Meteorology as SQL expressions. Source and domain of each formula stand in the description of the column that shows it. #}

{# Dew point, °C. Magnus form with 17.625 and 243.04 °C (Alduchov and Eskridge 1996), -40 to 50 °C. #}
{% macro dew_point_c(temperature_c, humidity_pct) %}
    {%- set gamma = 'ln(nullif(' ~ humidity_pct ~ ', 0) / 100) + 17.625 * ' ~ temperature_c ~ ' / (243.04 + ' ~ temperature_c ~ ')' -%}
    case
        when {{ temperature_c }} < -40 or {{ temperature_c }} > 50 or {{ humidity_pct }} <= 0 then null
        when {{ humidity_pct }} >= 100 then {{ temperature_c }}
        else {{ rounded('243.04 * (' ~ gamma ~ ') / (17.625 - (' ~ gamma ~ '))', 6) }}
    end
{%- endmacro %}


{#
    Heat index, °C. NWS: the simple formula, and from 80 °F of it up the Rothfusz regression with its two
    adjustments. NWS says that the regression is not valid beyond the data of Steadman that it was fitted to. It
    shows none above 137 °F in its chart, so what would round to more is null here.
#}
{% macro heat_index_c(temperature_c, humidity_pct) %}
    {%- set t = '(' ~ temperature_c ~ ' * 1.8 + 32)' -%}
    {%- set h = '(case when ' ~ humidity_pct ~ ' > 100 then 100 else ' ~ humidity_pct ~ ' end)' -%}
    {%- set simple -%} (0.5 * ({{ t }} + 61 + ({{ t }} - 68) * 1.2 + {{ h }} * 0.094)) {%- endset -%}
    {%- set fahrenheit %}
        case
            when {{ t }} <= 40 then null
            when {{ simple }} < 80 then {{ simple }}
            else
                -42.379 + 2.04901523 * {{ t }} + 10.14333127 * {{ h }} - 0.22475541 * {{ t }} * {{ h }}
                - 0.00683783 * {{ t }} * {{ t }} - 0.05481717 * {{ h }} * {{ h }}
                + 0.00122874 * {{ t }} * {{ t }} * {{ h }} + 0.00085282 * {{ t }} * {{ h }} * {{ h }}
                - 0.00000199 * {{ t }} * {{ t }} * {{ h }} * {{ h }}
                + case
                    when {{ h }} < 13 and {{ t }} between 80 and 112
                        then -(13 - {{ h }}) / 4.0 * sqrt(greatest(17 - abs({{ t }} - 95), 0) / 17.0)
                    when {{ h }} > 85 and {{ t }} between 80 and 87
                        then ({{ h }} - 85) / 10.0 * (87 - {{ t }}) / 5.0
                    else 0
                end
        end
    {%- endset %}
    case
        when {{ fahrenheit }} < 137.5
            then {{ rounded('(' ~ fahrenheit ~ ' - 32) / 1.8', 6) }}
    end
{%- endmacro %}


{# Wind chill, °C. Environment Canada and NWS 2001, at or below 10 °C and above 4.8 km/h. #}
{% macro wind_chill_c(temperature_c, wind_speed_ms) %}
    {%- set v -%} power({{ wind_speed_ms }} * 3.6, 0.16) {%- endset -%}
    case
        when {{ temperature_c }} <= 10 and {{ wind_speed_ms }} * 3.6 > 4.8
            then {{ rounded('13.12 + 0.6215 * ' ~ temperature_c ~ ' - 11.37 * ' ~ v ~ ' + 0.3965 * ' ~ temperature_c ~ ' * ' ~ v, 6) }}
    end
{%- endmacro %}


{# Name of the 22.5° sector around a direction in [0, 360). #}
{% macro compass_sector(direction_deg) %}
    {%- set sectors = ['N', 'NNE', 'NE', 'ENE', 'E', 'ESE', 'SE', 'SSE', 'S', 'SSW', 'SW', 'WSW', 'W', 'WNW', 'NW', 'NNW'] -%}
    case
        {%- for sector in sectors %}
        when {{ direction_deg }} < {{ loop.index0 * 22.5 + 11.25 }} then '{{ sector }}'
        {%- endfor %}
        when {{ direction_deg }} < 360 then 'N'
    end
{%- endmacro %}


{# Direction in [0, 360) of a sum of unit vectors, degrees; null where they cancel out. #}
{% macro resultant_direction_deg(mean_sine, mean_cosine) %}
    {%- set direction -%} {{ rounded('degrees(atan2(' ~ mean_sine ~ ', ' ~ mean_cosine ~ '))', 6) }} {%- endset -%}
    case
        when {{ mean_sine }} * {{ mean_sine }} + {{ mean_cosine }} * {{ mean_cosine }} < 1e-12 then null
        when {{ direction }} < 0 then {{ direction }} + 360
        else {{ direction }} + 0.0
    end
{%- endmacro %}


{# Group of an OpenWeather condition code; the set of codes is open. #}
{% macro condition_group(condition_id) %}
    case
        when {{ condition_id }} between 200 and 299 then 'thunderstorm'
        when {{ condition_id }} between 300 and 399 then 'drizzle'
        when {{ condition_id }} between 500 and 599 then 'rain'
        when {{ condition_id }} between 600 and 699 then 'snow'
        when {{ condition_id }} between 700 and 799 then 'atmosphere'
        when {{ condition_id }} = 800 then 'clear'
        when {{ condition_id }} between 801 and 809 then 'clouds'
        else 'unknown'
    end
{%- endmacro %}


{# A measure in which zero has no sign: a few readings near zero come as -0.0. #}
{% macro without_negative_zero(value) %}{{ value }} + 0.0{% endmacro %}
