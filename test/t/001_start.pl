# How supervisor and engine start: with and without shared_preload_libraries, by many sessions at
# once, after the supervisor's end, after a crash, without a worker slot, and where it cannot start.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $sessions = 25;				# in each of two databases
my $call = "SELECT gpt_count_tokens('The printer', 'demo') > 0";
my $supervisors = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'gpt2 supervisor'";

my $node = new_server('main');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION gpt2');

# So many first calls at once, in two databases: all succeed, there is one engine.
sub storm
{
	my ($what) = @_;
	my @queries = map { start_query($node, { db => $_ % 2 ? 'other' : 'postgres' }, $call) }
	  (1 .. 2 * $sessions);
	my @answers = map { join '|', (finish_query($_))[ 1, 2 ] } @queries;

	is(scalar(grep { $_ eq 't|' } @answers), 2 * $sessions, "$what: all calls succeed")
	  or diag(join "\n", grep { $_ ne 't|' } @answers);
	is(scalar(engines_of($node)), 1, "$what: one engine");
	ok(poll_sql($node, $supervisors, 1), "$what: one supervisor in pg_stat_activity");
	return;
}

# Looking starts nothing.
is($node->safe_psql('postgres', 'SELECT engine_pid IS NULL FROM gpt_info()'), 't',
	'gpt_info without an engine');
is($node->safe_psql('postgres', "SELECT state FROM gpt_models WHERE name = 'demo'"), 'on disk',
	'gpt_models without an engine');
is($node->safe_psql('postgres', 'SELECT live_sequences IS NULL FROM gpt_engine_counters()'), 't',
	'counters without an engine');
is($node->safe_psql('postgres', $supervisors), 0, 'looking starts no supervisor');

storm('first calls');

my $engine = engine_pid($node);
my $supervisor = supervisor_pid($node);
is($node->safe_psql('postgres', 'SELECT supervisor_pid FROM gpt_info()'), $supervisor,
	'gpt_info names the supervisor');

# A cancel does not end it, nor the engine in its process group.
$node->safe_psql('postgres', "SELECT pg_cancel_backend($supervisor)");
is($node->safe_psql('postgres', $call), 't', 'a call after pg_cancel_backend(supervisor)');
is(engine_pid($node), $engine, 'the same engine after pg_cancel_backend(supervisor)');

# The end of the supervisor is that of the engine; the next call starts both again.  A session
# that was connected does not notice.
my $session = open_session($node);
is(ask($session, "$call;"), 't', 'a session with a connection');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($supervisor)");
ok(poll_until(sub { !process_exists($supervisor) }), 'the supervisor ends');
ok(poll_until(sub { !process_exists($engine) }), 'the engine ends with it');
is($node->safe_psql('postgres', 'SELECT supervisor_pid IS NULL FROM gpt_info()'), 't',
	'gpt_info without a supervisor');
is(ask($session, "$call;"), 't', 'the next call in the connected session starts them again');
isnt(supervisor_pid($node), $supervisor, 'another supervisor');
ok(process_exists(engine_pid($node)), 'another engine');

# kill -9 of a backend: the postmaster ends everything; the next call starts the supervisor.
$engine = engine_pid($node);
my $victim = ask($session, 'SELECT pg_backend_pid();');
kill 'KILL', $victim;
ok(poll_until(sub { !process_exists($engine) }), 'a crash restart ends the engine');
ok(poll_sql($node, 'SELECT true'), 'the server is back');
storm('after a crash restart');

# With preload it is up with the server, without a call.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'gpt2'");
$node->restart;
ok(poll_sql($node, 'SELECT engine_pid IS NOT NULL FROM gpt_info()'),
	'with preload the engine starts with the server');
is(scalar(engines_of($node)), 1, 'with preload: one engine');
$supervisor = supervisor_pid($node);
is($node->safe_psql('postgres', $call), 't', 'with preload: a call');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($supervisor)");
ok(poll_until(sub { !process_exists($supervisor) }), 'with preload: the supervisor ends');
storm('preloaded, after the end of the supervisor');
is($node->safe_psql('postgres',
		"SELECT count(*) FROM pg_settings WHERE name LIKE 'gpt2.%' AND context = 'postmaster'"),
	0, 'no setting needs a restart of the server');
$node->stop;

# No worker slot: everybody is told so at the same time.
my $full = new_server('full', conf => "max_worker_processes = 0\n");
my $started = time;
my @results = map { [ finish_query($_) ] } map { start_query($full, $call, 'SELECT 1') } (1 .. 4);
is(scalar(grep { $_->[2] =~ /ERROR:  53400: .*no background worker slot is free/ } @results), 4,
	'no worker slot: 53400');
like($results[0][2], qr/HINT:  Raise max_worker_processes/, 'no worker slot: a hint');
is(join(',', map { $_->[1] } @results), '1,1,1,1', 'no worker slot: the sessions are good');
elapsed_ok($started, 6, 'no worker slot: an answer');
$full->stop;

# A supervisor that cannot start, be it before or after it has the lock: everybody is told so soon,
# and it keeps no worker slot (of three, one is the logical replication launcher's).
my $broken = new_server('broken', conf => "max_worker_processes = 3\n");
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;'
  . ' SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;'
  . ' EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT sum(a) FROM rows';
$broken->safe_psql('postgres', 'CREATE TABLE rows AS SELECT generate_series(1, 10000) a; ANALYZE');
like($broken->safe_psql('postgres', $parallel), qr/Workers Launched: 2/, 'two slots are free');
for my $file ('gpt2_engine.lock', 'gpt2_engine.sock.new')
{
	my $obstacle = $broken->data_dir . "/pg_stat_tmp/$file";

	unlink $obstacle;
	mkdir $obstacle or die "could not create directory $obstacle: $!";
	$started = time;
	my ($rc, $out, $err) = finish_query(start_query($broken, $call, 'SELECT 1'));
	like($err, qr/ERROR:  58000: gpt2 supervisor failed to start/, "$file: 58000");
	like($err, qr/HINT:  See the server log/, "$file: a hint");
	is($out, '1', "$file: the session is good");
	elapsed_ok($started, 1, "$file: an answer");
	@results = map { [ finish_query($_) ] } map { start_query($broken, $call) } (1 .. 8);
	is(scalar(grep { $_->[2] =~ /ERROR:  58000: gpt2 supervisor failed to start/ } @results), 8,
		"$file: 58000 for everybody");
	is($broken->safe_psql('postgres', $supervisors), 0, "$file: no supervisor is left");
	like($broken->safe_psql('postgres', $parallel), qr/Workers Launched: 2/,
		"$file: no slot stays taken");
	is($broken->safe_psql('postgres', 'SELECT supervisor_pid IS NULL FROM gpt_info()'), 't',
		"$file: gpt_info");
	rmdir $obstacle or die "could not remove directory $obstacle: $!";
}
is($broken->safe_psql('postgres', $call), 't', 'nothing is in its way: a call');
$broken->stop;

done_testing();
