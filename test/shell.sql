-- For tests that make folders: shell('command'), as the server's user.  Read in with \i by psql, which
-- stands in the tree.
CREATE TEMP TABLE commands (line text);
CREATE FUNCTION pg_temp.shell(command text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN EXECUTE format('COPY commands FROM PROGRAM %L', command || ' 2>&1'); END $$;
