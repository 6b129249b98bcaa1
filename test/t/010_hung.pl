# An engine whose process hangs (stopped by SIGSTOP, as a compute thread that never comes back):
# every way out of the waiting sessions works at once, the server can be stopped, and an engine
# that is let go again, or killed, goes on with the same texts.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main', slow_model => 1);
my $long = slow_sql(2000);
my $endless = endless_sql();
my $short = slow_sql(20);
my $right = $node->safe_psql('postgres', $short);
my $right_long = $node->safe_psql('postgres', $long);
my $active = "SELECT pid FROM pg_stat_activity WHERE query ~ '2000|7000' AND state = 'active'"
  . ' AND pid <> pg_backend_pid()';

# A generation, with the engine stopped in the middle of it: (query, engine, the backend's pid).
sub hang
{
	my ($what, $sql, @before) = @_;
	my $engine = engine_pid($node);
	my $query = start_query($node, @before, $sql, 'RESET ALL', $short);

	ok(wait_generating($node), "$what: generating");
	kill 'STOP', $engine;
	return ($query, $engine, $node->safe_psql('postgres', $active));
}

# Lets the engine go on: nothing may be left in it.
sub go_on
{
	my ($what, $engine) = @_;

	kill 'CONT', $engine;
	ok(idle_engine($node), "$what: nothing is left in the engine");
	is(engine_pid($node), $engine, "$what: the same engine");
	is($node->safe_psql('postgres', $short), $right, "$what: it goes on");
	return;
}

# pg_cancel_backend in mid-generation; other sessions' statements.
{
	my ($query, $engine, $pid) = hang('cancel', $endless);
	my $started = time;

	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
	ok(poll_sql($node, $active, ''), 'cancel: the backend has answered');
	elapsed_ok($started, 0.25, 'cancel: answered');
	is($node->safe_psql('postgres', 'SELECT 1'), 1, 'cancel: others work');
	go_on('cancel', $engine);
	my ($rc, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  57014: canceling statement due to user request/, 'cancel: 57014');
	is($out, $right, 'cancel: the next call in the same session');
}

# statement_timeout in mid-generation: of a stream that has begun, so that no machine is too slow.
{
	my $session = open_session($node);
	my $engine = engine_pid($node);

	ask($session, 'BEGIN; DECLARE c CURSOR FOR SELECT (s).pos FROM'
		  . " (SELECT gpt_stream('Once', 7000, model => 'slow') AS s) AS q;");
	is(ask($session, 'FETCH 1 FROM c;'), 0, 'timeout: generating');
	kill 'STOP', $engine;
	my $started = time;
	like(ask($session, 'SET LOCAL statement_timeout = 300; FETCH ALL FROM c;'),
		qr/ERROR:  57014: canceling statement due to statement timeout/, 'timeout: 57014');
	elapsed_ok($started, 0.55, 'timeout: answered');
	is($node->safe_psql('postgres', 'SELECT 1'), 1, 'timeout: others work');
	go_on('timeout', $engine);
	is(ask($session, "ROLLBACK; $short;"), $right, 'timeout: the next call in the same session');
}

# The session is terminated, or its client vanishes (before 14 a server cannot look for its client).
my @check = $node->pg_version < 14 ? () : "SET client_connection_check_interval = '100ms'";
for my $what ('terminate', @check ? 'client gone' : ())
{
	my ($query, $engine, $pid) = hang($what, $endless, @check);
	my $started = time;

	if ($what eq 'terminate')
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
		like((finish_query($query))[2], qr/FATAL:  57P01/, 'terminate: 57P01');
	}
	else
	{
		kill_query($query);
	}
	ok(poll_until(sub { !process_exists($pid) }), "$what: the backend has ended");
	elapsed_ok($started, 0.5, "$what: ended");
	go_on($what, $engine);
}

# A new session's call waits for the hung engine, and can be interrupted while it connects.
{
	my $engine = engine_pid($node);

	kill 'STOP', $engine;
	my $started = time;
	my ($rc, $out, $err) =
	  finish_query(start_query($node, 'SET statement_timeout = 300', $short, 'SELECT 1'));
	like($err, qr/ERROR:  57014/, 'connecting: 57014');
	is($out, 1, 'connecting: the session is good');
	elapsed_ok($started, 0.55, 'connecting: answered');
	go_on('connecting', $engine);
}

# Who only looks is told, after a bounded wait, and can be cancelled; roles are not changed behind its
# back.
{
	my $engine = engine_pid($node);
	my $session = open_session($node);
	my $known = ask($session, 'SELECT engine_pid FROM gpt_info();');

	is($known, $engine, 'looking: the session has a connection');
	kill 'STOP', $engine;
	for my $new (1, 0)
	{
		my $what = $new ? 'looking, new session' : 'looking, connected';
		for my $look ("SELECT state FROM gpt_models WHERE name = 'slow'",
			'SELECT count(*) FROM gpt_stat_requests', 'SELECT count(*) FROM gpt_stat_engine',
			'SELECT count(*) >= 0 FROM gpt_stat_usage', 'SELECT engine_pid IS NULL FROM gpt_info()',
			'SELECT count(live_requests) FROM gpt_engine_counters()')
		{
			my $started = time;
			my $got = $new ? join("\n", (finish_query(start_query($node, $look)))[ 2, 1 ])
			  : ask($session, "$look;");

			like($got, qr/^WARNING:  58000: the gpt2 engine does not answer/m, "$what: $look");
			like($got, qr/^(on disk|0|t)$/m, "$what: and what is known without it");
			elapsed_ok($started, 2.5, "$what: in");
		}
		my $started = time;
		like($new ? (finish_query(start_query($node, 'SET statement_timeout = 200',
					'SELECT * FROM gpt_models')))[2]
			: ask($session, 'SET statement_timeout = 200; SELECT * FROM gpt_models;'),
			qr/ERROR:  57014/, "$what: can be interrupted");
		elapsed_ok($started, 0.45, "$what: at once");
	}
	my ($rc, $out, $err) = finish_query(start_query($node, "SELECT gpt_revoke_model('slow', 'public')"));
	like($err, qr/ERROR:  58000: the gpt2 engine does not answer, and may have model "slow" loaded/,
		'looking: a change of roles that the engine does not hear of is told');
	like((finish_query(start_query($node, "SELECT gpt_reassign_model('slow', CURRENT_USER)")))[2],
		qr/ERROR:  58000: the gpt2 engine does not answer, and may have model "slow" loaded/,
		'looking: one of the owner too');
	ask($session, 'RESET statement_timeout;');
	kill 'CONT', $engine;
	ok(idle_engine($node), 'looking: nothing is left in the engine');
	is(ask($session, "SELECT state FROM gpt_models WHERE name = 'slow';"), 'loaded',
		'looking: the next look');
	is($node->safe_psql('postgres', "SELECT gpt_grant_model('slow', 'public')"), '',
		'looking: the roles as they were');
	is(ask($session, "$short;"), $right, 'looking: the session goes on');
	$session->{run}->finish;
}

# Killed while it hangs: another one takes over.
{
	my ($query, $engine) = hang('killed', $long);

	kill 'KILL', $engine;
	is((finish_query($query))[1], "$right_long\n$right", 'killed: the same texts');
	isnt(engine_pid($node), $engine, 'killed: another engine');
}

# Stopped from SQL while it hangs: the waiting query starts another one.
{
	my ($query, $engine) = hang('stopped', $long);

	$node->safe_psql('postgres', 'SELECT gpt_stop_engine()');
	is((finish_query($query))[1], "$right_long\n$right", 'stopped: the same texts');
	isnt(engine_pid($node), $engine, 'stopped: another engine');
}

# Other settings replace an engine that does not listen: SIGTERM, and SIGKILL when that is ignored.
{
	my ($query, $engine) = hang('replaced', $long);

	$node->append_conf('postgresql.conf', 'gpt2.threads = 1');
	$node->reload;
	ok(poll_until(sub { !process_exists($engine) }), 'replaced: the hung engine is gone');
	is((finish_query($query))[1], "$right_long\n$right", 'replaced: the same texts');
}

# A fast shutdown does not wait for it.
{
	my ($query, $engine) = hang('shutdown', $endless);
	my $started = time;

	$node->stop('fast');
	elapsed_ok($started, 5, 'shutdown: stopped');
	finish_query($query);
	ok(poll_until(sub { !process_exists($engine) }), 'shutdown: no engine is left');
}

$node->start;
is($node->safe_psql('postgres', $short), $right, 'the same text after a start');
$node->stop;
done_testing();
