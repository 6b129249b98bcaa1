# Many rows in flight: statements of every shape give the same rows and errors as row by row, in the
# same order; LIMIT and cursors start no more than they may; what is in flight ends with the query.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use BatchStatements;
use Gpt2Test;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main', slow_model => 1, conf => "gpt2.model = 'demo'\n");
$node->safe_psql('postgres', batch_setup());

# ---- the same as row by row ----

# What each statement prints and complains, run in one session.
sub results_of
{
	my ($rows, @statements) = @_;
	my $script = "SET gpt2.batch_rows = $rows;\n";
	my ($out, $err);

	for my $i (0 .. $#statements)
	{
		$script .= "\\echo statement $i\n\\warn statement $i\nBEGIN;\n$statements[$i];\nROLLBACK;\n";
	}
	IPC::Run::run([ 'psql', '-XqAt', '-d', $node->connstr('postgres') ], '<', \$script, '>', \$out,
		'2>', \$err);
	$err =~ s/^psql:<stdin>:\d+: //mg;
	my @out = split /^statement \d+\n/m, $out;
	my @err = split /^statement \d+\n/m, $err;
	return map { [ $out[ $_ + 1 ], defined $err[ $_ + 1 ] ? $err[ $_ + 1 ] : '' ] } 0 .. $#statements;
}

sub compare_results
{
	my ($what, $rows, @statements) = @_;
	my @expected = results_of(1, @statements);
	my @results = results_of($rows, @statements);
	my $different = 0;

	is(scalar @results, scalar @statements, "$what: all were run");
	for my $i (0 .. $#statements)
	{
		next if $results[$i][0] eq $expected[$i][0] && $results[$i][1] eq $expected[$i][1];
		$different++;
		diag("differs with $rows rows in flight: $statements[$i]");
		diag("row by row:\n@{ $expected[$i] }\nin flight:\n@{ $results[$i] }");
	}
	is($different, 0, sprintf '%s: %d statements give the same with %d rows in flight', $what,
		scalar @statements, $rows);
	return;
}

compare_results('by hand', 64, hand_written(forced_parallel($node)));
compare_results('by hand', 3, hand_written(forced_parallel($node)));
compare_results('generated', 64, generated(300));

# ---- what is started ----

# The figure of all GPT Batch nodes of a plan, of a query that is run.
sub figure
{
	my ($name, $query, @settings) = @_;
	my $plan = $node->safe_psql('postgres',
		join('', map { "SET $_;" } @settings) . "EXPLAIN (ANALYZE, FORMAT JSON) $query");
	my $sum = 0;

	$sum += $_ for $plan =~ /"\Q$name\E": ([\d.]+)/g;
	return $sum;
}

sub started { return figure('Requests', @_) }

my $call = "gpt_generate('Ticket ' || i, 2) FROM generate_series(1, 1000) AS i";
is(started("SELECT $call LIMIT $_"), $_, "LIMIT $_ starts no row more") for (1, 5, 100);
is(started("SELECT $call OFFSET 2 LIMIT 3"), 5, 'OFFSET is counted');
for my $limit (1, 2, 3, 10, 40)
{
	my $count = started("SELECT i FROM generate_series(1, 1000) AS i "
		  . "WHERE gpt_generate('Ticket ' || i, 2) IS NOT NULL LIMIT $limit");
	cmp_ok($count, '<=', 2 * $limit, "LIMIT $limit over a filter starts $count rows");
}
is(started("SELECT $call"), 1000, 'all rows are started where all are read');
cmp_ok(figure('Mean Rows in Flight', "SELECT $call"), '>', 55, '64 at a time');
cmp_ok(started("SELECT gpt_generate('A' || i, 1), gpt_generate('B' || i, 1), gpt_generate('C' || i, 1) "
		  . 'FROM generate_series(1, 1000) AS i', 'gpt2.batch_rows = 1024'), '>=', 2990,
	'so they are with more calls than a session may have in flight');
is(started("SELECT gpt_generate('Ticket ' || i % 10, 2) FROM generate_series(1, 64) AS i"), 10,
	'equal calls of a window are sent once');
is(started("SELECT gpt_generate('Ticket', 2, temperature => 1) FROM generate_series(1, 64) AS i"),
	63, 'those that draw are not, and the first of them draws the seed');
cmp_ok(figure('Mean Rows in Flight',
		"SELECT gpt_generate('Row ' || i, 2), length(ballast) "
		  . "FROM (SELECT i, repeat(md5(i::text), 500) AS ballast FROM generate_series(1, 30) AS i "
		  . "OFFSET 0) AS q", 'work_mem = 64'), '<', 6, 'rows ahead are bounded by work_mem');

# ---- the first statement of a session ----

like($node->safe_psql('postgres', 'EXPLAIN SELECT gpt_generate(body) FROM t'), qr/GPT Batch/,
	'the first statement of a session has a GPT Batch');

# ---- long changes ----

$node->safe_psql('postgres', "SELECT gpt_generate('Some text', 200, model => 'slow')");
my $long = "UPDATE t SET alt = gpt_generate(t.body, 1000, model => 'slow') "
  . 'FROM generate_series(1, 1000) AS a, generate_series(1, 1000) AS b WHERE t.id = 0';
my (undef, undef, $notice) = $node->psql('postgres', $long);
like($notice, qr/NOTICE:  this statement will take about \d+ h \d+ min, and keep its locks/,
	'a change that takes long is told of');
(undef, undef, $notice) = $node->psql('postgres', "EXPLAIN $long");
is($notice, '', 'not by EXPLAIN');

# Hours that an INSERT of no row, which the planner takes for many, is said to take.
sub hours
{
	my ($source) = @_;
	my (undef, undef, $told) = $node->psql('postgres',
		"INSERT INTO sink SELECT id, gpt_generate(body, 1000000, model => 'slow') FROM $source "
		  . 'WHERE id < (SELECT -1)');
	return $told =~ /about (\d+) h/ ? $1 : 0;
}

$node->safe_psql('postgres', <<'END');
CREATE TABLE halves (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE half1 PARTITION OF halves FOR VALUES FROM (0) TO (3000);
CREATE TABLE half2 PARTITION OF halves FOR VALUES FROM (3000) TO (6000);
INSERT INTO halves SELECT i, 'x' FROM generate_series(0, 5999) AS i;
ANALYZE halves;
END
my $hours = hours('(SELECT * FROM halves OFFSET 0) AS q');
cmp_ok($hours, '>', 0, 'many rows take hours');
cmp_ok(abs(hours('halves') / $hours - 1), '<', 0.1, 'and no more of them where they are in partitions');

# ---- the end of a query ----

my $slow = "SELECT gpt_generate('Row ' || i, 2000, model => 'slow') "
  . 'FROM generate_series(1, 200) AS i';
my $many = 'SELECT live_sequences >= 8 FROM gpt_engine_counters()';

my $query = start_query($node, $slow);
ok(poll_sql($node, $many), 'a query has many sequences in the engine');
my $started = time;
cancel_queries($node, '%generate_series(1, 200)%');
my ($status, undef, $err) = finish_query($query);
elapsed_ok($started, 0.25, 'it is cancelled');
like($err, qr/57014/, 'with 57014');
$started = time;
ok(idle_engine($node), 'nothing of it is left in the engine');
elapsed_ok($started, 1, 'that is free');

SKIP:
{
	skip 'before 14 a server cannot look for its client', 2 if $node->pg_version < 14;
	$query = start_query($node, $slow);
	ok(poll_sql($node, $many), 'the same again');
	kill_query($query);
	ok(idle_engine($node), 'a client that vanishes leaves nothing either');
}

my $session = open_session($node);
ask($session, "BEGIN; DECLARE c CURSOR FOR $slow;");
ask_only($session, 'FETCH 20 FROM c;');
ok(poll_sql($node, $many), 'a cursor has many sequences in the engine');
cancel_queries($node, 'FETCH 20%');
like(hear($session), qr/57014/, 'its FETCH is cancelled');
ok(idle_engine($node), 'nothing of it is left');
ask($session, 'ROLLBACK; BEGIN; DECLARE c CURSOR FOR ' . $slow =~ s/2000/20/r . ';');
ask($session, 'FETCH 3 FROM c; CLOSE c;');
ok(idle_engine($node), 'closing a cursor leaves nothing');
like(ask($session, "SAVEPOINT a; SET LOCAL statement_timeout = 300; $slow;"), qr/57014/,
	'a statement times out');
is(ask($session, "ROLLBACK TO a; SELECT gpt_generate('still here', 2) IS NOT NULL;"), 't',
	'after ROLLBACK TO the session goes on');
ok(idle_engine($node), 'and nothing is left of what timed out');

# ---- the engine dies ----

my $all = "SELECT md5(string_agg(gpt_generate('Row ' || i, 60, model => 'slow'), '' ORDER BY i))"
  . ' FROM generate_series(1, 100) AS i';
my $expected = $node->safe_psql('postgres', $all);
$query = start_generating($node, $all);
ok(poll_sql($node, $many), 'many rows are in flight');
kill 'KILL', engine_pid($node);
ok(poll_sql($node, $many), 'and are again');
is(join('', (finish_generating($node, $query))[ 1, 2 ]), $expected,
	'an engine that is killed is not to be noticed');

# ---- two sessions ----

# The second waits for the first's row lock and evaluates the row as it is then.
$node->safe_psql('postgres', 'CREATE TABLE c (id int, body text, g text); '
	  . "INSERT INTO c SELECT i, 'before ' || i FROM generate_series(1, 20) AS i");
my $first = open_session($node);
ask($first, "BEGIN; UPDATE c SET body = 'after ' || id WHERE id IN (3, 17);");
my $second = start_query($node,
	"UPDATE c SET g = gpt_generate(body, 3) WHERE gpt_generate(body, 2) IS NOT NULL");
ok(poll_sql($node, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"), 'an UPDATE waits');
ask($first, 'COMMIT;');
is((finish_query($second))[0], 0, 'and goes on');
is($node->safe_psql('postgres', 'SELECT count(*) FROM c WHERE g IS DISTINCT FROM '
		  . 'gpt_generate(body, 3)'), 0, 'each row has the answer to what it is now');

$node->stop;
done_testing();
