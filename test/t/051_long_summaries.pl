# Summaries of long texts: parts in flight together, under faults; an aggregate with constant memory.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main');
add_slow_model($node, 'parts', 7, 256);
# A model that is as fast as any, for much text.
my $fast = $node->data_dir . '/gpt2_models/fast';
system_or_bail(engine_program(), 'synth', $fast, '--layer', 1, '--embd', 16, '--head', 1,
	'--ctx', 1024, '--vocab', 257, '--seed', 3);
append_to_file("$fast/vocab.json", slurp_file($node->data_dir . '/gpt2_models/parts/vocab.json'));
append_to_file("$fast/merges.txt", "#version: 0.2\n");

my $long = "SELECT md5(gpt_summarize(repeat('Once upon a time. ', 150), 30, 'parts',"
  . " '{\"cache\": false}'))";
my $right = $node->safe_psql('postgres', $long);

# ---- parts ----

{
	is($node->safe_psql('postgres', $long), $right, 'parts: the same again');
	is($node->safe_psql('postgres', "SELECT calls, sequences > 10 FROM gpt_stat_usage"), '2|t',
		'parts: each call counts once');
	my $query = start_generating($node, $long);
	ok(poll_sql($node, "SELECT count(*) > 1 FROM gpt_stat_requests WHERE state IN ('prefill', 'decode')"),
		'parts: several run at once');
	is((finish_generating($node, $query))[1], $right, 'parts: the same when they are looked at');
}

# ---- many rows ----

{
	my $sql = "SELECT md5(string_agg(gpt_summarize(repeat('Once upon a time. ', 8 * g) || g, 8,"
	  . " 'parts', '{\"cache\": false}'), '/' ORDER BY g)) FROM generate_series(1, 12) AS g";
	my $batched = $node->safe_psql('postgres', $sql);

	is($node->safe_psql('postgres', "SET gpt2.batch_rows = 1; $sql"), $batched,
		'rows: the same with many in flight and one by one');
	like($node->safe_psql('postgres', "EXPLAIN (ANALYZE) $sql"), qr/Requests: 12\n/,
		'rows: all long texts are in flight');
}

# ---- faults ----

{
	my $query = start_generating($node, $long);

	ok(wait_generating($node), 'engine death: at work');
	kill 'KILL', engine_pid($node);
	ok(wait_generating($node), 'engine death: at work again');
	my ($rc, $out, $err) = finish_generating($node, $query);
	is("$out$err", $right, 'engine death: the same summary');
}
for my $after (0, 1, 5, 20)
{
	my $query = start_query($node, $long =~ s/150/50000/r, $long);

	ok(wait_generating($node), 'cancel: at work');
	poll_sql($node, "SELECT sequences > $after FROM gpt_stat_usage");
	cancel_queries($node, '%50000%');
	my $canceled = time;
	my ($rc, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  57014/, 'cancel: 57014');
	is($out, $right, 'cancel: the next call in the same session');
	ok(idle_engine($node), 'cancel: nothing is left in the engine');
}
{
	my ($rc, $out, $err) = finish_query(
		start_query($node, 'SET gpt2.max_tokens_per_call = 1000', $long));

	like($err, qr/ERROR:  53400: .*gpt2.max_tokens_per_call is 1000/,
		'a limit holds for all parts together');
}

# ---- the aggregate ----

my $texts = "(SELECT repeat('All is well here, or so they say. ', 30) || g AS t, g AS n"
  . ' FROM generate_series(1, 800) AS g) AS texts';
my $settings = "SET gpt2.model = 'fast'; SET gpt2.max_len = 4;";

# Bytes that a fresh session has held at most, for a query.
sub peak
{
	my ($sql) = @_;
	my $session = open_session($node);
	my $pid = ask($session, "$settings SELECT pg_backend_pid();");
	my $hwm = sub { slurp_file("/proc/$pid/status") =~ /VmHWM:\s+(\d+) kB/ ? $1 * 1024 : 0 };

	ask($session, 'SELECT gpt_summarize_agg(x) FROM (VALUES (\'a\')) AS v(x);');
	my $before = $hwm->();
	my $answer = ask($session, "$sql;");
	my $after = $hwm->();
	$session->{in} .= "\\q\n";
	$session->{run}->finish;
	return ($answer, $after - $before);
}

{
	my ($gathered, $held) = peak("SELECT md5(gpt_summarize_agg(t)) FROM $texts");
	my ($whole, $all) = peak("SELECT md5(gpt_summarize(string_agg(t, E'\\n'))) FROM $texts");

	is($gathered, $whole, 'aggregate: the summary of the whole text');
	note("1 MB: $held bytes more at most, against $all");
	cmp_ok($held, '<', 2500000, 'aggregate: memory does not grow with the text');
	cmp_ok($all, '>', 3000000, '(string_agg has all of it)');
}
# Groups that are left in the middle, and errors in the rows.
{
	my ($rc, $out, $err) = finish_query(
		start_query($node, split(/(?<=;) /, $settings),
			"SELECT gpt_summarize_agg(t || 1 / (800 - g)) FROM $texts, generate_series(800, 800) AS g",
			'BEGIN', "DECLARE c CURSOR FOR SELECT g, md5(gpt_summarize_agg(t)) FROM $texts,"
			  . ' generate_series(1, 3) AS g GROUP BY g ORDER BY g', 'FETCH 1 FROM c', 'CLOSE c',
			'COMMIT', 'SELECT 1'));

	like($err, qr/^ERROR:  22012/, 'aggregate: an error of a row');
	like($out, qr/^1\|[0-9a-f]{32}\n1$/m, 'aggregate: a cursor that is closed in the middle');
	ok(idle_engine($node), 'aggregate: nothing is left in the engine');
}
{
	my $sql = "$settings SELECT md5(gpt_summarize_agg(t)) FROM $texts";
	my $right_agg = $node->safe_psql('postgres', $sql);
	my $lock = open_session($node);

	# It stands at a row in the middle, so that it is not over before the engine dies.
	ask($lock, 'SELECT pg_advisory_lock(1);');
	$sql =~ s/\(t\)/(CASE n WHEN 400 THEN t || pg_advisory_lock(1)::text ELSE t END)/;
	my $query = start_query($node, split(/(?<=;) /, $sql));

	ok(poll_sql($node,
			"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"),
		'aggregate, engine death: at work');
	kill 'KILL', engine_pid($node);
	ask($lock, 'SELECT pg_advisory_unlock(1);');
	$lock->{run}->finish;
	my ($rc, $out, $err) = finish_query($query);
	is("$out$err", $right_agg, 'aggregate, engine death: the same summary');
}

$node->stop('fast');
done_testing();
