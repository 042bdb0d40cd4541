{# Generated from weather_dagster/quantities.py; when the two differ, a test tells how to write it anew. #}
{% macro quantity_limits() %}{{ return({
    'weather': {
        'temperature_c': [-95, 60],
        'apparent_temperature_c': [-120, 90],
        'temperature_min_c': [-95, 60],
        'temperature_max_c': [-95, 60],
        'pressure_hpa': [850, 1100],
        'ground_pressure_hpa': [300, 1100],
        'humidity_pct': [0, 105],
        'wind_speed_ms': [0, 115],
        'wind_direction_deg': [0, 360],
        'wind_gust_ms': [0, 130],
        'cloud_cover_pct': [0, 100],
        'visibility_m': [0, 10000],
        'rain_mm': [0, 400],
        'snow_mm': [0, 400],
        'precipitation_mm': [0, 400],
    },
    'forecast': {
        'temperature_c': [-95, 60],
        'apparent_temperature_c': [-120, 90],
        'temperature_min_c': [-95, 60],
        'temperature_max_c': [-95, 60],
        'pressure_hpa': [850, 1100],
        'ground_pressure_hpa': [300, 1100],
        'humidity_pct': [0, 105],
        'wind_speed_ms': [0, 115],
        'wind_direction_deg': [0, 360],
        'wind_gust_ms': [0, 130],
        'cloud_cover_pct': [0, 100],
        'visibility_m': [0, 10000],
        'rain_mm': [0, 400],
        'snow_mm': [0, 400],
        'precipitation_mm': [0, 400],
        'precipitation_probability': [0, 1],
    },
    'air_quality': {
        'carbon_monoxide_ug_m3': [0, 100000],
        'nitrogen_monoxide_ug_m3': [0, 10000],
        'nitrogen_dioxide_ug_m3': [0, 10000],
        'ozone_ug_m3': [0, 5000],
        'sulphur_dioxide_ug_m3': [0, 10000],
        'pm2_5_ug_m3': [0, 10000],
        'pm10_ug_m3': [0, 20000],
        'ammonia_ug_m3': [0, 10000],
    },
}) }}{% endmacro %}


{# Names of the quantities of a group, in the order of bronze. #}
{% macro quantity_names(group) %}{{ return(quantity_limits()[group].keys() | list) }}{% endmacro %}
