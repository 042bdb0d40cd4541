-- A file that was made before versions were kept has all of these tables but the first.
create schema if not exists bronze;
create table if not exists bronze.schema_versions (
    version bigint primary key,
    name varchar not null,
    applied_at_utc timestamptz not null
);
create table if not exists bronze.loads (
    load_id bigint primary key,
    dataset varchar not null,
    provider varchar not null,
    run_id varchar not null,
    first_hour_utc timestamptz not null,
    last_hour_utc timestamptz not null,
    rows_added bigint not null,
    quarantined bigint not null,
    landed_at_utc timestamptz not null
);
create table if not exists bronze.locations (
    location_id varchar primary key,
    name varchar not null,
    country varchar,
    latitude double not null,
    longitude double not null,
    time_zone varchar not null,
    load_id bigint not null
);
create table if not exists bronze.quarantine (
    dataset varchar not null,
    provider varchar not null,
    endpoint varchar not null,
    location_id varchar not null,
    hour_utc timestamptz not null,
    reason varchar not null,
    field varchar,
    message varchar not null,
    payload varchar not null,
    payload_hash varchar not null,
    contract_version bigint not null,
    quarantined_at_utc timestamptz not null,
    run_id varchar not null,
    load_id bigint not null,
    -- The landing that settled the entry, null as long as it is open.
    resolved_load_id bigint
);
-- The copy of the call ledger: location_ids comma separated; a call that is for no dataset, such as a search for a
-- place, has none, nor hours.
create table if not exists bronze.api_calls (
    call_id varchar primary key,
    provider varchar not null,
    product varchar not null,
    endpoint varchar not null,
    dataset varchar,
    location_ids varchar,
    first_hour_utc timestamptz,
    last_hour_utc timestamptz,
    weight double not null,
    status integer,
    outcome varchar not null,
    seconds double not null,
    asked_at_utc timestamptz not null,
    run_id varchar not null
);
create table if not exists bronze.observations (
    provider varchar not null,
    endpoint varchar not null,
    location_id varchar not null,
    valid_hour_utc timestamptz not null,
    observed_at_utc timestamptz not null,
    temperature_c double,
    apparent_temperature_c double,
    temperature_min_c double,
    temperature_max_c double,
    pressure_hpa double,
    ground_pressure_hpa double,
    humidity_pct double,
    wind_speed_ms double,
    wind_direction_deg double,
    wind_gust_ms double,
    cloud_cover_pct double,
    visibility_m double,
    rain_mm double,
    snow_mm double,
    precipitation_mm double,
    precipitation_hours bigint,
    condition_id bigint,
    rejected_fields varchar,
    payload json not null,
    payload_hash varchar not null,
    contract_version bigint not null,
    ingested_at_utc timestamptz not null,
    run_id varchar not null,
    load_id bigint not null
);
create table if not exists bronze.forecasts (
    provider varchar not null,
    endpoint varchar not null,
    location_id varchar not null,
    issued_hour_utc timestamptz not null,
    valid_hour_utc timestamptz not null,
    temperature_c double,
    apparent_temperature_c double,
    temperature_min_c double,
    temperature_max_c double,
    pressure_hpa double,
    ground_pressure_hpa double,
    humidity_pct double,
    wind_speed_ms double,
    wind_direction_deg double,
    wind_gust_ms double,
    cloud_cover_pct double,
    visibility_m double,
    rain_mm double,
    snow_mm double,
    precipitation_mm double,
    precipitation_probability double,
    precipitation_hours bigint,
    condition_id bigint,
    rejected_fields varchar,
    payload json not null,
    payload_hash varchar not null,
    contract_version bigint not null,
    ingested_at_utc timestamptz not null,
    run_id varchar not null,
    load_id bigint not null
);
create table if not exists bronze.air_quality (
    provider varchar not null,
    endpoint varchar not null,
    location_id varchar not null,
    valid_hour_utc timestamptz not null,
    observed_at_utc timestamptz not null,
    carbon_monoxide_ug_m3 double,
    nitrogen_monoxide_ug_m3 double,
    nitrogen_dioxide_ug_m3 double,
    ozone_ug_m3 double,
    sulphur_dioxide_ug_m3 double,
    pm2_5_ug_m3 double,
    pm10_ug_m3 double,
    ammonia_ug_m3 double,
    provider_aqi bigint,
    rejected_fields varchar,
    payload json not null,
    payload_hash varchar not null,
    contract_version bigint not null,
    ingested_at_utc timestamptz not null,
    run_id varchar not null,
    load_id bigint not null
);
