-- Three roles of a shared warehouse; `weather warehouse roles` runs this, and may run it again.
--
--   weather_owner   owns bronze and upgrades its schema
--   weather_writer  lands bronze and runs dbt, so it owns what dbt makes: silver and gold; keeps the ledger of calls
--                   and the alert book, so it owns weather_state
--   weather_reader  reads gold, for BI; grant it to the people or tools that do
--
-- dbt replaces tables by new ones. What weather_writer makes in gold, weather_reader may read from the start (default
-- privileges), so that no rebuild closes a dashboard. They are for tables that weather_writer makes, and no other role:
-- dbt has to run as it. No role has a password, and so nobody can log in by one, until an administrator sets it.
do $$
declare
    name text;
    statement text;
begin
    perform pg_advisory_xact_lock(hashtext('weather_roles'));
    foreach name in array array['weather_owner', 'weather_writer', 'weather_reader'] loop
        -- Roles are the whole server's: another database may make them at this moment.
        begin
            execute format('create role %I login', name);
        exception when duplicate_object or unique_violation then
            null;
        end;
        execute format('grant connect on database %I to %I', current_database(), name);
    end loop;
    if not (select rolsuper from pg_roles where rolname = current_user) then
        -- To hand something over one has to be a member of who gets it.
        execute format('grant weather_owner, weather_writer to %I', current_user);
    end if;
    execute format('revoke all on database %I from public', current_database());
    execute format('grant create, temporary on database %I to weather_owner, weather_writer', current_database());
    revoke create on schema public from public;

    create schema if not exists silver;
    create schema if not exists gold;
    for statement in
        select format('alter schema %I owner to %I', nspname, owner)
        from pg_namespace
        inner join (
            values ('bronze', 'weather_owner'), ('silver', 'weather_writer'), ('gold', 'weather_writer'),
                ('weather_state', 'weather_writer')
        ) as owners (schema, owner) on schema = nspname
        union all
        select format(
            'alter %s %I.%I owner to %I',
            case relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end, nspname, relname, owner
        )
        from pg_class
        inner join pg_namespace on pg_namespace.oid = relnamespace
        inner join (
            values ('bronze', 'weather_owner'), ('silver', 'weather_writer'), ('gold', 'weather_writer'),
                ('weather_state', 'weather_writer')
        ) as owners (schema, owner) on schema = nspname
        where relkind in ('r', 'p', 'v', 'm')
        union all
        select format('alter function %s owner to weather_owner', pg_proc.oid::regprocedure)
        from pg_proc where pronamespace = 'bronze'::regnamespace
    loop
        execute statement;
    end loop;

    grant usage on schema bronze to weather_writer;
    grant select, insert, update, delete on all tables in schema bronze to weather_writer;
    revoke insert, update, delete on bronze.schema_versions from weather_writer;
    grant execute on all functions in schema bronze to weather_writer;
    alter default privileges for role weather_owner in schema bronze
        grant select, insert, update, delete on tables to weather_writer;
    alter default privileges for role weather_owner in schema bronze grant execute on functions to weather_writer;

    grant usage on schema gold to weather_reader;
    grant select on all tables in schema gold to weather_reader;
    alter default privileges for role weather_writer in schema gold grant select on tables to weather_reader;
end
$$;
