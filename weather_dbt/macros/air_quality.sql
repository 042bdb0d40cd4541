{# Air quality indices as SQL expressions; the breakpoints are declared here and nowhere else. #}

{#
    Breakpoints of the US air quality index, EPA-454/B-24-002 (May 2024), table 6. Each class begins one step
    of the pollutant, and one point of the index, above the end of the class before.

    steps   steps of a µg/m3 that a concentration is cut to: 10 are tenths
    upper   where each class ends, µg/m3, as 24 h mean
#}
{% macro us_aqi_breakpoints() %}{{ return({
    'pm2_5': {'steps': 10, 'upper': [9.0, 35.4, 55.4, 125.4, 225.4, 325.4]},
    'pm10': {'steps': 1, 'upper': [54, 154, 254, 354, 424, 604]},
}) }}{% endmacro %}


{# Names of the classes of the US index, and where each ends. #}
{% macro us_aqi_classes() %}{{ return([
    ['Good', 50],
    ['Moderate', 100],
    ['Unhealthy for Sensitive Groups', 150],
    ['Unhealthy', 200],
    ['Very Unhealthy', 300],
    ['Hazardous', 500],
]) }}{% endmacro %}


{#
    Bands of the European air quality index, hourly concentrations: ETC HE report 2024/17, which the European
    Environment Agency applies. Where bands 1 to 5 end, µg/m3; what is above is band 6.
#}
{% macro european_aqi_bands() %}{{ return({
    'pm2_5_ug_m3': [5, 15, 50, 90, 140],
    'pm10_ug_m3': [15, 45, 120, 195, 270],
    'nitrogen_dioxide_ug_m3': [10, 25, 60, 100, 150],
    'ozone_ug_m3': [60, 100, 120, 160, 180],
    'sulphur_dioxide_ug_m3': [20, 40, 125, 190, 275],
}) }}{% endmacro %}


{#
    US index of a 24 h mean in µg/m3, a whole number: linear within a class, rounded half up, and above the table
    on along the last class.

    The concentration is rounded before it is cut to whole steps: a mean of nine tenths everywhere may be a double
    just below. Whole numbers as numerator and denominator keep a half a half on every engine.
#}
{% macro us_aqi(mean_ug_m3, pollutant) %}
    {%- set table = us_aqi_breakpoints()[pollutant] -%}
    {%- set steps -%} floor({{ rounded(mean_ug_m3, 6) }} * {{ table['steps'] }}) {%- endset -%}
    {%- set classes = us_aqi_classes() -%}
    case
        when {{ mean_ug_m3 }} is null then null
        {%- for upper in table['upper'] %}
        {%- set first_step = 0 if loop.first else (table['upper'][loop.index0 - 1] * table['steps']) | round | int + 1 %}
        {%- set last_step = (upper * table['steps']) | round | int %}
        {%- set first_index = 0 if loop.first else classes[loop.index0 - 1][1] + 1 %}
        {%- set width = last_step - first_step %}
        {{ 'else' if loop.last else 'when ' ~ steps ~ ' <= ' ~ last_step ~ ' then' }}
            {{ first_index }} + cast(floor(
                cast(2 * {{ classes[loop.index0][1] - first_index }} * ({{ steps }} - {{ first_step }}) + {{ width }} as {{ double_type() }})
                / {{ 2 * width }}
            ) as bigint)
        {%- endfor %}
    end
{%- endmacro %}


{# Name of the class of a US index; what is above 500 is of the last. #}
{% macro us_aqi_category(index) %}
    {%- set classes = us_aqi_classes() -%}
    case
        {%- for name, upper in classes %}
        when {{ index }} {{ '> ' ~ classes[-2][1] if loop.last else '<= ' ~ upper }} then '{{ name }}'
        {%- endfor %}
    end
{%- endmacro %}


{# European band of an hour, 1 to 6: the worst of those of its pollutants; null when none of them is known. #}
{% macro european_aqi() %}
    greatest(
        {%- for pollutant, upper in european_aqi_bands().items() %}
        case
            {%- for end in upper %}
            when {{ pollutant }} <= {{ end }} then {{ loop.index }}
            {%- endfor %}
            when {{ pollutant }} > {{ upper[-1] }} then {{ upper | length + 1 }}
        end{{ ',' if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}
