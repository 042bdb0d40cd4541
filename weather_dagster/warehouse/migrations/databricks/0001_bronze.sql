-- Every statement may be run again: there are no transactions over several.
--
-- Rows of a landing are written first and its row in loads last. What is read are views that show rows of finished
-- landings alone; NAME_rows, which they read, hold those of unfinished ones too.
create table if not exists bronze.schema_versions (
    version bigint not null,
    name string not null,
    applied_at_utc timestamp not null
) using delta;
create volume if not exists bronze.staging;
create table if not exists bronze.loads (
    load_id bigint not null,
    dataset string not null,
    provider string not null,
    run_id string not null,
    first_hour_utc timestamp not null,
    last_hour_utc timestamp not null,
    rows_added bigint not null,
    quarantined bigint not null,
    landed_at_utc timestamp not null
) using delta;
-- Versions of the places; the view shows the newest of each.
create table if not exists bronze.locations_rows (
    location_id string not null,
    name string not null,
    country string,
    latitude double not null,
    longitude double not null,
    time_zone string not null,
    load_id bigint not null
) using delta;
create table if not exists bronze.quarantine_rows (
    dataset string not null,
    provider string not null,
    endpoint string not null,
    location_id string not null,
    hour_utc timestamp not null,
    reason string not null,
    field string,
    message string not null,
    payload string not null,
    payload_hash string not null,
    contract_version bigint not null,
    quarantined_at_utc timestamp not null,
    run_id string not null,
    load_id bigint not null,
    resolved_load_id bigint
) using delta;
-- The copy of the call ledger: location_ids comma separated; a call that is for no dataset, such as a search for a
-- place, has none, nor hours.
create table if not exists bronze.api_calls (
    call_id string not null,
    provider string not null,
    product string not null,
    endpoint string not null,
    dataset string,
    location_ids string,
    first_hour_utc timestamp,
    last_hour_utc timestamp,
    weight double not null,
    status bigint,
    outcome string not null,
    seconds double not null,
    asked_at_utc timestamp not null,
    run_id string not null
) using delta;
create table if not exists bronze.observations_rows (
    provider string not null,
    endpoint string not null,
    location_id string not null,
    valid_hour_utc timestamp not null,
    observed_at_utc timestamp not null,
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
    rejected_fields string,
    payload string not null,
    payload_hash string not null,
    contract_version bigint not null,
    ingested_at_utc timestamp not null,
    run_id string not null,
    load_id bigint not null
) using delta cluster by (valid_hour_utc, load_id);
create table if not exists bronze.forecasts_rows (
    provider string not null,
    endpoint string not null,
    location_id string not null,
    issued_hour_utc timestamp not null,
    valid_hour_utc timestamp not null,
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
    rejected_fields string,
    payload string not null,
    payload_hash string not null,
    contract_version bigint not null,
    ingested_at_utc timestamp not null,
    run_id string not null,
    load_id bigint not null
) using delta cluster by (issued_hour_utc, load_id);
create table if not exists bronze.air_quality_rows (
    provider string not null,
    endpoint string not null,
    location_id string not null,
    valid_hour_utc timestamp not null,
    observed_at_utc timestamp not null,
    carbon_monoxide_ug_m3 double,
    nitrogen_monoxide_ug_m3 double,
    nitrogen_dioxide_ug_m3 double,
    ozone_ug_m3 double,
    sulphur_dioxide_ug_m3 double,
    pm2_5_ug_m3 double,
    pm10_ug_m3 double,
    ammonia_ug_m3 double,
    provider_aqi bigint,
    rejected_fields string,
    payload string not null,
    payload_hash string not null,
    contract_version bigint not null,
    ingested_at_utc timestamp not null,
    run_id string not null,
    load_id bigint not null
) using delta cluster by (valid_hour_utc, load_id);
create or replace view bronze.observations as
select * from bronze.observations_rows where load_id in (select load_id from bronze.loads);
create or replace view bronze.forecasts as
select * from bronze.forecasts_rows where load_id in (select load_id from bronze.loads);
create or replace view bronze.air_quality as
select * from bronze.air_quality_rows where load_id in (select load_id from bronze.loads);
create or replace view bronze.locations as
select location_id, name, country, latitude, longitude, time_zone, load_id
from (
    select *, row_number() over (partition by location_id order by load_id desc) as age
    from bronze.locations_rows
    where load_id in (select load_id from bronze.loads)
) as versions
where age = 1;
-- resolved_load_id: the landing that settled the entry, null as long as it is open.
create or replace view bronze.quarantine as
select
    kept.dataset, kept.provider, kept.endpoint, kept.location_id, kept.hour_utc, kept.reason, kept.field, kept.message,
    kept.payload, kept.payload_hash, kept.contract_version, kept.quarantined_at_utc, kept.run_id, kept.load_id,
    settling.load_id as resolved_load_id
from bronze.quarantine_rows as kept
left join bronze.loads as settling on settling.load_id = kept.resolved_load_id
where kept.load_id in (select load_id from bronze.loads);
