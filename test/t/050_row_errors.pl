# on_error => null: the same rows whatever is in flight, counts in gpt_stat_usage, one warning per
# statement; what is not the row's fault is raised: cancel, timeouts, limits, a switched-off engine.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main', slow_model => 1, conf => "gpt2.on_error = 'null'\n");
$node->safe_psql('postgres', <<'END');
CREATE TABLE texts AS
    SELECT g AS id, CASE WHEN g % 7 = 0 THEN repeat('x', 600) WHEN g % 11 = 0 THEN NULL
                         ELSE 'Text ' || g END AS body,
           CASE WHEN g % 13 = 0 THEN 0 ELSE 1 + g % 5 END AS max_len
    FROM generate_series(1, 300) AS g;
ANALYZE texts;
CREATE ROLE limited LOGIN;
GRANT SELECT ON texts TO limited;
END
add_slow_model($node, 'small', 7, 256);

# 42 texts are too long, and 23 of 300 max_lens are 0 (3 of them with such a text, 2 with none).
my $fails = $node->safe_psql('postgres',
	"SELECT count(*) FROM texts WHERE body IS NOT NULL AND (length(body) > 255 OR max_len = 0)");

sub rows
{
	my ($settings, $call) = @_;
	my ($rc, $out, $err) = $node->psql('postgres',
		"SET gpt2.model = 'small'; $settings SELECT setseed(0.5); SELECT id, $call FROM texts ORDER BY id");

	is($rc, 0, 'rows: no error') or diag($err);
	return ($out, $err);
}

# ---- the same rows, and one warning ----

for my $call (
	'gpt_generate(body, max_len)', 'gpt_generate(body, max_len, temperature => 1)',
	'gpt_generate_array(body, max_len, 2, seed => id)',
	"gpt_classify(body, '{a,bc}', options => '{\"truncate\": \"error\"}')")
{
	my ($batched, $warned) = rows('', $call);
	my ($alone, $warned_alone) = rows('SET gpt2.batch_rows = 1;', $call);

	is($batched, $alone, "$call: the same rows with many in flight and one by one");
	is($warned, $warned_alone, "$call: the same warning");
	is(() = $warned =~ /WARNING/g, 1, "$call: one of them");
	like($warned, qr/WARNING:  $fails of 300 calls of gpt_generate failed, first: the prompt /,
		"$call: what it says") if $call =~ /^gpt_generate\(/;
}
my ($parallel) = rows('SET ' . forced_parallel($node) . ' = on; SET parallel_setup_cost = 0;'
	  . 'SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;',
	'gpt_generate(body, max_len)');
my ($plain) = rows('', 'gpt_generate(body, max_len)');
is($parallel, $plain, 'parallel plans: the same rows');

# ---- a failed call leaves nothing behind ----

{
	my $many = "SELECT count(gpt_generate(repeat('x', 300), 1, 'small', options => '{\"cache\": false}'))"
	  . ' FROM generate_series(1, 3000);';
	my $size = 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts;';
	my $session = open_session($node);

	ask($session, $many);
	my ($before) = ask($session, $size) =~ /(\d+)\s*$/;
	like(ask($session, $many), qr/3000 of 3000 calls/, 'many: all fail');
	my ($after) = ask($session, $size) =~ /(\d+)\s*$/;
	cmp_ok($after, '<', $before + 1000000, 'many: no memory is kept');
	$session->{in} .= "\\q\n";
	$session->{run}->finish;
	ok(idle_engine($node), 'many: nothing is left in the engine');
}

# ---- counts ----

{
	my $usage = "SELECT sum(truncated) || ' ' || sum(errors) FROM gpt_stat_usage";

	$node->safe_psql('postgres', 'SELECT gpt_stat_reset()');
	$node->safe_psql('postgres', <<'END');
SET gpt2.model = 'small';
SELECT gpt_generate(repeat('x', 300) || g, 1) FROM generate_series(1, 5) AS g;
SELECT gpt_generate(repeat('x', 300) || g, 1, options => '{"truncate": "left"}')
FROM generate_series(1, 4) AS g;
SELECT gpt_classify(repeat('x', 300) || g, '{a,b}', options => '{"calibrate": false}')
FROM generate_series(1, 3) AS g;
SELECT gpt_loss(repeat('x', 300) || g, options => '{"truncate": "right"}')
FROM generate_series(1, 2) AS g;
END
	ok(poll_sql($node, $usage, '9 5'), 'gpt_stat_usage counts what was cut and what failed');
	my $plan = $node->safe_psql('postgres', <<'END');
EXPLAIN (ANALYZE) SELECT gpt_generate(repeat('x', 300) || g, 1, 'small'),
    gpt_generate(repeat('x', 300) || g, 1, 'small', options => '{"truncate": "right"}')
FROM generate_series(1, 4) AS g;
END
	like($plan, qr/Truncated Calls: 4\n\s+Failed Calls: 4\n/, 'EXPLAIN ANALYZE does too');
}

# ---- not of the row ----

sub raises
{
	my ($what, $expected, @statements) = @_;
	my ($rc, $out, $err) = finish_query(start_query($node, @statements));

	like($err, $expected, $what);
	unlike($err, qr/calls of/, "$what: no warning");
	return;
}

raises('an unknown option', qr/ERROR:  22023: unknown option "x"/,
	"SELECT gpt_generate('x', 1, 'small', options => '{\"x\": 1}')");
raises('an unknown model', qr/ERROR:  42704/, "SELECT gpt_generate('x', 1, 'nosuch')");
raises('a limit', qr/ERROR:  53400/,
	'SET gpt2.max_tokens_per_call = 3', "SELECT gpt_generate('Once', 5, 'small')");
raises('a full queue', qr/ERROR:  53400/,
	'SET gpt2.max_concurrent_sequences = 0', "SELECT gpt_generate('Once', 5, 'small')");
raises('statement_timeout', qr/ERROR:  57014/, 'SET statement_timeout = 100', endless_sql());
{
	my $query = start_query($node, endless_sql());

	ok(wait_generating($node), 'cancel: generating');
	cancel_queries($node, '%7000%');
	my ($rc, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  57014/, 'cancel: raised');
}
# An engine that dies is no error of anybody.
{
	my $sql = "SELECT md5(string_agg(coalesce(gpt_generate(body, 200, 'slow'), '-'), ''))"
	  . ' FROM texts WHERE id <= 40';
	my $right = $node->safe_psql('postgres', $sql);
	my $query = start_generating($node, $sql);

	ok(wait_generating($node), 'engine death: generating');
	kill 'KILL', engine_pid($node);
	ok(wait_generating($node), 'engine death: generating again');
	my ($rc, $out, $err) = finish_generating($node, $query);
	is($out, $right, 'engine death: the same rows');
}
$node->append_conf('postgresql.conf', 'gpt2.enabled = off');
$node->reload;
ok(poll_until(
		sub {
			my ($rc, $out, $err) = $node->psql('postgres', "SELECT gpt_generate('x', 1, 'small')");
			return $rc != 0 && $err =~ /ERROR:  gpt2 is switched off/;
		}),
	'a switched-off engine: raised');
$node->append_conf('postgresql.conf', 'gpt2.enabled = on');
$node->reload;
ok(poll_sql($node, "SELECT gpt_generate('x', 1, 'small') IS NOT NULL"), 'switched on again');

# ---- on_error => error in a block that catches it ----

is( $node->safe_psql('postgres', <<'END'), "54000\n54000", 'PL/pgSQL catches what is raised');
SET gpt2.on_error = 'error';
SET gpt2.model = 'small';
DO $$ BEGIN PERFORM pg_sleep(0.01); END $$;
CREATE FUNCTION try(t text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN RETURN gpt_generate(t, 1); EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
SELECT try(repeat('x', 300 + g)) FROM generate_series(1, 2) AS g;
END

# Calls of a trigger that runs when the transaction ends are told of too.
{
	my ($rc, $out, $err) = $node->psql('postgres', <<'END');
SET gpt2.model = 'small';
CREATE TABLE changed (body text, made text);
CREATE FUNCTION make() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN UPDATE changed SET made = gpt_generate(body, 1) WHERE body = NEW.body; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON changed DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION make();
BEGIN;
INSERT INTO changed VALUES ('short'), (repeat('x', 300));
COMMIT;
SELECT count(*), count(made) FROM changed;
END
	is($out, '2|1', 'a deferred trigger: one row fails');
	is(() = $err =~ /WARNING:  1 of 1 calls of gpt_generate failed/g, 1,
		'a deferred trigger: its statement says so');
}

$node->stop('fast');
done_testing();
