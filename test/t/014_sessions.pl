# Hundreds of sessions on one engine, and the first call while others hold all worker slots.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $sessions = 500;
my $call = "SELECT gpt_count_tokens('The printer', 'demo') > 0";

# 500 sessions, all connected before the first call, none of which has started the engine.
{
	my $node = new_server('many', conf => "max_connections = 520\nshared_buffers = 16MB\n");
	my $script = PostgreSQL::Test::Utils::tempdir() . '/calls.sql';
	my $right = $node->safe_psql('postgres',
		"SELECT md5(gpt_generate('The printer', 4, model => 'demo'))");

	$node->restart;
	# A wrong text is an error of the script: division by zero.
	append_to_file($script,
		"SELECT 1 / (md5(gpt_generate('The printer', 4, model => 'demo')) = '$right')::int;\n"
		  . "SELECT 1 / (gpt_count_tokens('The printer', 'demo') > 0)::int;\n");
	my $started = time;
	my ($out, $err) = ('', '');
	# pgbench has a socket for each of them, whatever soft limit this process was given.
	my $ok = IPC::Run::run(
		[ 'sh', '-c', 'ulimit -Sn $(ulimit -Hn); exec "$@"', 'sh', 'pgbench', '-n', '-c', $sessions, '-j', 2, '-t', 4, '-f', $script,
			$node->connstr('postgres') ],
		'>', \$out, '2>', \$err);
	ok($ok, "$sessions sessions: no error") or diag($err);
	like($out, qr{transactions actually processed: @{[ 4 * $sessions ]}/},
		"$sessions sessions: all calls answered") or diag($out);
	is(scalar(engines_of($node)), 1, "$sessions sessions: one engine");
	ok(idle_engine($node), "$sessions sessions: nothing is left in the engine");
	is($node->safe_psql('postgres', 'SELECT live_requests FROM gpt_engine_counters()'), 1,
		"$sessions sessions: only this one asks");
	note(sprintf '%d calls in %.1f s', 8 * $sessions, time - $started);
	$node->stop;
}

# The one slot that is left is taken by a parallel worker that sleeps: the first call is told so,
# and the same session can call when the slot is free.
{
	my $node = new_server('slots', conf => "max_worker_processes = 2\n");
	my $parallel = forced_parallel($node);
	my $sleeper = start_query($node, "SET $parallel = on", 'SELECT pg_sleep(600) /* sleeper */');
	my $worker = "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'parallel worker'";
	my $session = open_session($node);

	ok(poll_sql($node, $worker), 'slots: the last one is taken');
	my $started = time;
	my $answer = ask($session, "$call;");
	like($answer, qr/ERROR:  53400: .*no background worker slot is free/, 'slots: 53400');
	like($answer, qr/HINT:  Raise max_worker_processes \(it is 2\)/, 'slots: a hint');
	elapsed_ok($started, 6, 'slots: an answer');
	is($node->safe_psql('postgres', 'SELECT supervisor_pid IS NULL FROM gpt_info()'), 't',
		'slots: no supervisor');
	$node->safe_psql('postgres', 'SELECT pg_cancel_backend(pid) FROM pg_stat_activity'
		  . " WHERE query LIKE '%sleeper%' AND backend_type = 'client backend'"
		  . ' AND pid <> pg_backend_pid()');
	finish_query($sleeper);
	is(ask($session, "$call;"), 't', 'slots: free again, the same session');
	$node->stop;
}

done_testing();
