create schema if not exists bronze;
create table bronze.schema_versions (
    version bigint primary key,
    name text not null,
    applied_at_utc timestamptz not null
);
create table bronze.loads (
    load_id bigint primary key,
    dataset text not null,
    provider text not null,
    run_id text not null,
    first_hour_utc timestamptz not null,
    last_hour_utc timestamptz not null,
    rows_added bigint not null,
    quarantined bigint not null,
    landed_at_utc timestamptz not null
);
create index loads_provider on bronze.loads (provider) where rows_added > 0;
create table bronze.locations (
    location_id text primary key,
    name text not null,
    country text,
    latitude double precision not null,
    longitude double precision not null,
    time_zone text not null,
    load_id bigint not null
);
create table bronze.quarantine (
    dataset text not null,
    provider text not null,
    endpoint text not null,
    location_id text not null,
    hour_utc timestamptz not null,
    reason text not null,
    field text,
    message text not null,
    payload text not null,
    payload_hash text not null,
    contract_version bigint not null,
    quarantined_at_utc timestamptz not null,
    run_id text not null,
    load_id bigint not null,
    -- The landing that settled the entry, null as long as it is open.
    resolved_load_id bigint
);
create unique index quarantine_entry on bronze.quarantine
    (dataset, provider, location_id, hour_utc, reason, field, payload_hash) nulls not distinct;
-- The copy of the call ledger: location_ids comma separated; a call that is for no dataset, such as a search for a
-- place, has none, nor hours.
create table bronze.api_calls (
    call_id text primary key,
    provider text not null,
    product text not null,
    endpoint text not null,
    dataset text,
    location_ids text,
    first_hour_utc timestamptz,
    last_hour_utc timestamptz,
    weight double precision not null,
    status integer,
    outcome text not null,
    seconds double precision not null,
    asked_at_utc timestamptz not null,
    run_id text not null
);
-- The primary key holds each version of a reading once, finds the newest one for a landing, and a range of hours for the
-- checks; load_id is where dbt's increments begin.
create table bronze.observations (
    provider text not null,
    endpoint text not null,
    location_id text not null,
    valid_hour_utc timestamptz not null,
    observed_at_utc timestamptz not null,
    temperature_c double precision,
    apparent_temperature_c double precision,
    temperature_min_c double precision,
    temperature_max_c double precision,
    pressure_hpa double precision,
    ground_pressure_hpa double precision,
    humidity_pct double precision,
    wind_speed_ms double precision,
    wind_direction_deg double precision,
    wind_gust_ms double precision,
    cloud_cover_pct double precision,
    visibility_m double precision,
    rain_mm double precision,
    snow_mm double precision,
    precipitation_mm double precision,
    precipitation_hours bigint,
    condition_id bigint,
    rejected_fields text,
    payload json not null,
    payload_hash text not null,
    contract_version bigint not null,
    ingested_at_utc timestamptz not null,
    run_id text not null,
    load_id bigint not null,
    primary key (valid_hour_utc, location_id, provider, observed_at_utc, load_id)
) partition by range (valid_hour_utc);
create index observations_load_id on bronze.observations (load_id);
create table bronze.forecasts (
    provider text not null,
    endpoint text not null,
    location_id text not null,
    issued_hour_utc timestamptz not null,
    valid_hour_utc timestamptz not null,
    temperature_c double precision,
    apparent_temperature_c double precision,
    temperature_min_c double precision,
    temperature_max_c double precision,
    pressure_hpa double precision,
    ground_pressure_hpa double precision,
    humidity_pct double precision,
    wind_speed_ms double precision,
    wind_direction_deg double precision,
    wind_gust_ms double precision,
    cloud_cover_pct double precision,
    visibility_m double precision,
    rain_mm double precision,
    snow_mm double precision,
    precipitation_mm double precision,
    precipitation_probability double precision,
    precipitation_hours bigint,
    condition_id bigint,
    rejected_fields text,
    payload json not null,
    payload_hash text not null,
    contract_version bigint not null,
    ingested_at_utc timestamptz not null,
    run_id text not null,
    load_id bigint not null,
    primary key (issued_hour_utc, location_id, valid_hour_utc, provider, load_id)
) partition by range (issued_hour_utc);
create index forecasts_load_id on bronze.forecasts (load_id);
create table bronze.air_quality (
    provider text not null,
    endpoint text not null,
    location_id text not null,
    valid_hour_utc timestamptz not null,
    observed_at_utc timestamptz not null,
    carbon_monoxide_ug_m3 double precision,
    nitrogen_monoxide_ug_m3 double precision,
    nitrogen_dioxide_ug_m3 double precision,
    ozone_ug_m3 double precision,
    sulphur_dioxide_ug_m3 double precision,
    pm2_5_ug_m3 double precision,
    pm10_ug_m3 double precision,
    ammonia_ug_m3 double precision,
    provider_aqi bigint,
    rejected_fields text,
    payload json not null,
    payload_hash text not null,
    contract_version bigint not null,
    ingested_at_utc timestamptz not null,
    run_id text not null,
    load_id bigint not null,
    primary key (valid_hour_utc, location_id, provider, observed_at_utc, load_id)
);
create index air_quality_load_id on bronze.air_quality (load_id);

-- Makes the partition of a month. It runs with its owner's rights: only the owner of a table can attach to it, and who
-- lands is another role. Attaching, unlike `create table ... partition of`, does not wait for readers or hold them up.
create function bronze.add_month(parent text, first_day date) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC' as $$
declare
    part text := format('%s_%s', parent, to_char(first_day, 'YYYY_MM'));
begin
    if parent not in ('observations', 'forecasts') or extract(day from first_day) <> 1 then
        raise exception 'bronze.% has no partition from % on', parent, first_day;
    end if;
    if not exists (select from pg_class where relname = part and relnamespace = 'bronze'::regnamespace) then
        perform pg_advisory_xact_lock(hashtext('bronze.add_month'));
        -- Another may have made it while this one waited. (The table is asked: to_regclass would remember its answer.)
        if not exists (select from pg_class where relname = part and relnamespace = 'bronze'::regnamespace) then
            execute format('create table bronze.%I (like bronze.%I including all)', part, parent);
            execute format(
                'alter table bronze.%I attach partition bronze.%I for values from (%L) to (%L)',
                parent, part, first_day::timestamptz, (first_day + interval '1 month')::timestamptz
            );
        end if;
    end if;
end
$$;
revoke all on function bronze.add_month(text, date) from public;
