# Batching changes no answer: statements of many shapes give the same rows, in the same order, and
# the same errors with gpt2.batch_rows = 1, 4 and 64.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use BatchStatements;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');

$node->safe_psql('postgres', <<'SQL');
ALTER DATABASE postgres SET gpt2.model = 'demo';
ALTER DATABASE postgres SET gpt2.max_len = 3;
CREATE TABLE t (id int PRIMARY KEY, grp int, body text, s text);
INSERT INTO t SELECT i, i % 4, 'Ticket ' || i % 9 || ': my printer', NULL
FROM generate_series(1, 30) AS i;
UPDATE t SET body = NULL WHERE id IN (5, 17);
CREATE TABLE u (grp int, name text);
INSERT INTO u VALUES (0, 'zero'), (1, 'one'), (2, 'two'), (2, 'deux'), (9, 'nine');
CREATE TABLE p (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (11);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (11) TO (21);
INSERT INTO p SELECT id, body FROM t WHERE id <= 20;
CREATE VIEW v AS SELECT id, grp, gpt_generate(body) AS g FROM t;
CREATE FUNCTION f(x text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT gpt_generate(x, 2)';
CREATE FUNCTION short(x text) RETURNS text LANGUAGE plpgsql STABLE
AS 'BEGIN RETURN left(x, 8); END';
CREATE FUNCTION loop_over(n int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r record; result text := '';
BEGIN
    FOR r IN SELECT id, gpt_generate(body) AS g FROM t ORDER BY id LOOP
        result := result || r.id || coalesce(r.g, '-');
        EXIT WHEN r.id >= n;
    END LOOP;
    RETURN result;
END $$;
CREATE FUNCTION catches() RETURNS text LANGUAGE plpgsql AS $$
DECLARE r record; result text := '';
BEGIN
    FOR r IN SELECT id, gpt_generate(body, 8 - id) AS g FROM t ORDER BY id LOOP
        result := result || r.id || coalesce(r.g, '-');
    END LOOP;
    RETURN result;
EXCEPTION WHEN others THEN
    RETURN result || sqlerrm;
END $$;
CREATE FUNCTION asks(x text) RETURNS text LANGUAGE plpgsql STABLE
AS 'BEGIN RETURN gpt_generate(x, 1); END';
CREATE FUNCTION rows_of(n int) RETURNS TABLE (id int, g text) LANGUAGE sql STABLE
AS 'SELECT id, gpt_generate(body) FROM t WHERE id < n';
CREATE FUNCTION strict_of(x text) RETURNS text LANGUAGE sql STRICT
AS 'SELECT gpt_generate(x, 2) FROM generate_series(1, 2)';
CREATE FUNCTION query_of(n int) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT gpt_generate(body) FROM t WHERE id < n;
    RETURN QUERY EXECUTE 'SELECT gpt_generate(body, 2) FROM t WHERE id < $1' USING n;
END $$;
CREATE FUNCTION cursors() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    c CURSOR (n int) FOR SELECT id, gpt_generate(body) AS g FROM t WHERE id > n;
    s refcursor;
    r record;
BEGIN
    OPEN c (3);
    FETCH c INTO r;
    RETURN NEXT r.id || r.g;
    MOVE FORWARD 4 FROM c;
    FETCH c INTO r;
    RETURN NEXT r.id || r.g;
    CLOSE c;
    FOR r IN c (25) LOOP
        RETURN NEXT r.id || r.g;
        FOR i IN 1 .. 2 LOOP
            CONTINUE WHEN i = r.id % 2 + 1;
            RETURN NEXT gpt_generate(r.g, i);
        END LOOP;
        EXIT WHEN r.id = 28;
    END LOOP;
    OPEN s SCROLL FOR SELECT id, gpt_generate(body, 2) AS g FROM t;
    FETCH LAST FROM s INTO r;
    RETURN NEXT r.id || r.g;
    FETCH PRIOR FROM s INTO r;
    RETURN NEXT r.id || r.g;
    CLOSE s;
    SELECT gpt_generate(body) AS g INTO r FROM t ORDER BY id;
    RETURN NEXT r.g;
END $$;
CREATE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN NEW.s := gpt_generate(NEW.body, 2); RETURN NEW; END';
CREATE FUNCTION on_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO u SELECT id, gpt_generate(body, 2) FROM rows;
    RETURN NULL;
END $$;
CREATE ROLE reader;
CREATE TABLE secret (id int, body text, s text);
INSERT INTO secret SELECT id, body FROM t;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON secret USING (id > 4 AND gpt_generate(body, 2) LIKE '%a%');
CREATE POLICY changes ON secret FOR UPDATE USING (true) WITH CHECK (gpt_generate(s, 1) <> 'x');
GRANT ALL ON secret TO reader;
CREATE FUNCTION leak(x text) RETURNS text LANGUAGE plpgsql STABLE COST 0.01
AS 'BEGIN RAISE NOTICE ''seen %'', x; RETURN x; END';
ANALYZE;
SQL

my @newer = newer_cases($node->pg_version =~ /^(\d+)/);
my @cases = (batch_cases(forced_parallel($node)), @newer);

# What psql prints, and the errors.
sub results
{
	my ($statements, $rows) = @_;
	my ($out, $err);
	my $begin = "BEGIN; SET LOCAL gpt2.batch_rows = $rows;\n";

	$node->psql('postgres', "$begin$statements;\nROLLBACK;\nDROP TABLE IF EXISTS nothing;",
		stdout => \$out, stderr => \$err, on_error_stop => 0);
	return "$out\n$err";
}

# Of each case.
my (%right, %errors);

foreach my $statements (@cases)
{
	my $right = results($statements, 1);

	$right{$statements} = $right;
	$errors{$statements} = () = $right =~ /ERROR:/g;
	foreach my $rows (4, 64)
	{
		my $got = results($statements, $rows);
		is($got, $right, "$rows rows: $statements");
	}
	unlike($right, qr/server closed|internal error|XX000/, 'no internal error');
}
unlike(join("\n", map { $right{$_} } @newer), qr/ERROR: .*(syntax error|does not exist)/, 'the server knows them');

# ---- EXPLAIN ----

# The statements of a case, each with this before it that can have it.
sub explained
{
	my ($how, $statements) = @_;
	my ($out, $err);
	my $script = join ";\n",
	  map { /^(SELECT|WITH|INSERT|UPDATE|DELETE|MERGE|EXECUTE|CREATE TABLE made AS)/ ? "$how $_" : $_ }
	  split /; (?=[A-Z])/, $statements;

	$node->psql('postgres', "\\set VERBOSITY verbose\nBEGIN; $script;\nROLLBACK;", stdout => \$out,
		stderr => \$err, on_error_stop => 0);
	return ($out, $err);
}

my $nodes = 0;
my $of_17 = $node->pg_version < 17 ? '' : ', MEMORY, SERIALIZE';

foreach my $statements (grep { !/\$\$/ } @cases)
{
	my ($out, $err) = explained("EXPLAIN (ANALYZE, BUFFERS, VERBOSE, WAL$of_17, FORMAT JSON)", $statements);

	is(scalar(() = $err =~ /ERROR:/g), $errors{$statements}, "EXPLAIN ANALYZE: $statements") or diag($err);
	$nodes++ if $out =~ /"GPT Batch"/;
	(undef, $err) = explained('EXPLAIN (VERBOSE)', $statements);
	unlike($err, qr/ERROR:  XX/, "EXPLAIN: $statements");
}
cmp_ok($nodes, '>', 90, "$nodes of them have a GPT Batch");
SKIP:
{
	skip 'EXPLAIN (GENERIC_PLAN) came with 16', 1 if $node->pg_version < 16;
	like( $node->safe_psql('postgres',
			'EXPLAIN (GENERIC_PLAN, VERBOSE) SELECT gpt_generate(body || $1) FROM t WHERE id < $2 LIMIT $2'),
		qr/GPT Batch/, 'EXPLAIN (GENERIC_PLAN)');
}
SKIP:
{
	skip 'before 17 what an InitPlan gives is shown as a number', 2 if $node->pg_version < 17;
	for my $from ('t', 'p')
	{
		unlike( $node->safe_psql('postgres', 'EXPLAIN (VERBOSE) '
				  . "SELECT gpt_generate(body || (SELECT max(name) FROM u), 1) FROM $from"),
			qr/\$\d/, "EXPLAIN finds the InitPlan of a call in $from");
	}
}
ok(idle_engine($node), 'nothing is left in the engine');

done_testing();
