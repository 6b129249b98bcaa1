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
my $long = slow_sql(4000);
my $short = slow_sql(20);
my $right = $node->safe_psql('postgres', $short);
my $right_long = $node->safe_psql('postgres', $long);
my $active = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%4000%' AND state = 'active'"
  . ' AND pid <> pg_backend_pid()';

# A generation, with the engine stopped in the middle of it: (query, engine, the backend's pid).
sub hang
{
	my ($what, @before) = @_;
	my $query = start_query($node, @before, $long, 'RESET ALL', $short);

	ok(wait_generating($node), "$what: generating");
	my $engine = engine_pid($node);
	my $pid = $node->safe_psql('postgres', $active);
	kill 'STOP', $engine;
	return ($query, $engine, $pid);
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

# pg_cancel_backend and statement_timeout in mid-generation; other sessions' statements.
for my $what ('cancel', 'timeout')
{
	my ($query, $engine, $pid) =
	  hang($what, $what eq 'timeout' ? 'SET statement_timeout = 1000' : ());
	my $started = time;

	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)") if $what eq 'cancel';
	ok(poll_sql($node, $active, ''), "$what: the backend has answered");
	elapsed_ok($started, $what eq 'timeout' ? 1.25 : 0.25, "$what: answered");
	is($node->safe_psql('postgres', 'SELECT 1'), 1, "$what: others work");
	go_on($what, $engine);
	my ($rc, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  57014: canceling statement due to (user request|statement timeout)/,
		"$what: 57014");
	is($out, $right, "$what: the next call in the same session");
}

# The session is terminated, or its client vanishes (before 14 a server cannot look for its client).
my @check = $node->pg_version < 14 ? () : "SET client_connection_check_interval = '100ms'";
for my $what ('terminate', @check ? 'client gone' : ())
{
	my ($query, $engine, $pid) = hang($what, @check);
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

# Killed while it hangs: another one takes over.
{
	my ($query, $engine) = hang('killed');

	kill 'KILL', $engine;
	is((finish_query($query))[1], "$right_long\n$right", 'killed: the same texts');
	isnt(engine_pid($node), $engine, 'killed: another engine');
}

# Stopped from SQL while it hangs: the waiting query starts another one.
{
	my ($query, $engine) = hang('stopped');

	$node->safe_psql('postgres', 'SELECT gpt_stop_engine()');
	is((finish_query($query))[1], "$right_long\n$right", 'stopped: the same texts');
	isnt(engine_pid($node), $engine, 'stopped: another engine');
}

# Other settings replace an engine that does not listen: SIGTERM, and SIGKILL when that is ignored.
{
	my ($query, $engine) = hang('replaced');

	$node->append_conf('postgresql.conf', 'gpt2.threads = 1');
	$node->reload;
	ok(poll_until(sub { !process_exists($engine) }), 'replaced: the hung engine is gone');
	is((finish_query($query))[1], "$right_long\n$right", 'replaced: the same texts');
}

# A fast shutdown does not wait for it.
{
	my ($query, $engine) = hang('shutdown');
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
