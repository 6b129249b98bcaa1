# Interrupts: timeout, cancel, termination, a client that has gone, at any moment.  The backend
# answers at once, and the engine gives back what the request held.
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
my $endless = endless_sql();
my $short = slow_sql(20);
my $right = $node->safe_psql('postgres', $short);
my $backend = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%7000%' AND state = 'active'"
  . ' AND pid <> pg_backend_pid()';

# Interrupts a running generation by `code` (which gets the backend's pid) and gives its errors.
sub interrupt
{
	my ($what, $code) = @_;
	my $query = start_query($node, $endless, $short);

	ok(wait_generating($node), "$what: generating");
	my $pid = $node->safe_psql('postgres', $backend);
	my $started = time;
	$code->($pid, $query);
	ok(poll_sql($node, $backend, ''), "$what: the backend has answered");
	elapsed_ok($started, 0.25, "$what: answered");
	ok(idle_engine($node), "$what: nothing is left in the engine");
	elapsed_ok($started, 1.25, "$what: given back");
	return $query;
}

# statement_timeout
{
	my $started = time;
	my ($rc, $out, $err) = finish_query(
		start_query($node, 'SET statement_timeout = 300', $endless, 'SET statement_timeout = 0',
			$short));

	like($err, qr/ERROR:  57014: canceling statement due to statement timeout/,
		'statement_timeout: 57014');
	is($out, $right, 'statement_timeout: the next call in the same session');
	elapsed_ok($started, 0.55, 'statement_timeout: answered');
	ok(idle_engine($node), 'statement_timeout: nothing is left in the engine');
}

# pg_cancel_backend
{
	my $query = interrupt('cancel',
		sub { $node->safe_psql('postgres', "SELECT pg_cancel_backend($_[0])") });
	my ($rc, $out, $err) = finish_query($query);

	like($err, qr/ERROR:  57014: canceling statement due to user request/, 'cancel: 57014');
	is($out, $right, 'cancel: the next call in the same session');
}

# pg_terminate_backend
{
	my $query = interrupt('terminate',
		sub { $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0])") });
	like((finish_query($query))[2], qr/FATAL:  57P01/, 'terminate: 57P01');
}

# The client vanishes: found by the server's own check, and without one by ours.  Before 14 a server has
# no way to look.
for my $interval ($node->pg_version < 14 ? () : ('100ms', '0'))
{
	my $query = start_query($node, "SET client_connection_check_interval = '$interval'", $endless);

	ok(wait_generating($node), "client gone, check $interval: generating");
	my $started = time;
	kill_query($query);
	ok(idle_engine($node), "client gone, check $interval: nothing is left in the engine");
	elapsed_ok($started, $interval eq '0' ? 2 : 0.5, "client gone, check $interval: given back");
	ok(poll_sql($node, $backend, ''), "client gone, check $interval: the backend has ended");
}

# Savepoints and exception blocks: the connection goes on inside the transaction.
{
	my $session = open_session($node);

	like(ask($session, "BEGIN; SAVEPOINT a; SET LOCAL statement_timeout = 100; $endless;"),
		qr/57014/, 'savepoint: interrupted');
	is(ask($session, "ROLLBACK TO a; $short; COMMIT;"), $right, 'savepoint: the next call');
	is(ask($session, "DO \$\$ BEGIN PERFORM gpt_generate('a', 0); EXCEPTION WHEN OTHERS THEN"
			  . " RAISE NOTICE '%', SQLSTATE; END \$\$; $short;") =~ s/.*\n//sr, $right,
		'exception block: the next call');
	ok(idle_engine($node), 'savepoint: nothing is left in the engine');
}

# An engine that hangs does not hang the backend.
{
	my $engine = engine_pid($node);

	kill 'STOP', $engine;
	my $started = time;
	my $query = start_query($node, 'SET statement_timeout = 300', $short);
	my ($rc, $out, $err) = finish_query($query);
	kill 'CONT', $engine;
	like($err, qr/ERROR:  57014/, 'hung engine: 57014');
	elapsed_ok($started, 0.55, 'hung engine: answered');
	is($node->safe_psql('postgres', $short), $right, 'hung engine: it goes on');
}

# Timeouts at 100 random moments in one session: each statement gives its answer or 57014.
{
	my @statements;

	srand(1);
	for (1 .. 100)
	{
		push @statements, 'SET statement_timeout = ' . (1 + int rand 60), $short;
	}
	my ($rc, $out, $err) = finish_query(
		start_query($node, @statements, 'SET statement_timeout = 0', $short));
	my @answers = split /\n/, $out;
	my @errors = $err =~ /^.*ERROR:  .*$/mg;

	is(scalar(grep { $_ ne $right } @answers), 0, 'random timeouts: every answer is right');
	is(scalar(grep { !/57014: canceling statement due to statement timeout/ } @errors), 0,
		'random timeouts: no other error') or diag($err);
	# On a busy machine even a SET may be interrupted.
	cmp_ok(@answers + @errors, '>=', 101, 'random timeouts: an answer or 57014 for each')
	  or diag($err);
	is($answers[-1], $right, 'random timeouts: the session is good');
	note(scalar(@errors) . ' of 100 statements were interrupted');
	ok(idle_engine($node), 'random timeouts: nothing is left in the engine');
}

# Cancels from another session at random moments, while several sessions generate.
{
	my $loop = "DO \$\$ DECLARE n int := 0; BEGIN WHILE n < 40 LOOP BEGIN"
	  . " PERFORM gpt_generate('Row ' || n, 30, model => 'slow');"
	  . ' EXCEPTION WHEN query_canceled THEN n := n + 1; END; END LOOP; END $$ /* canceled */';
	my $canceler = open_session($node);

	# The last cancel may come when its loop has ended: it meets a wait for the canceler's end.
	ask($canceler, 'SELECT pg_advisory_lock(1);');
	my @queries = map {
		start_query($node, $loop, 'DO $$ BEGIN PERFORM pg_advisory_lock_shared(1); END $$', $short)
	} (1 .. 3);

	my $active = "FROM pg_stat_activity WHERE query LIKE '%canceled */' AND state = 'active'"
	  . ' AND pid <> pg_backend_pid()';
	ok(poll_sql($node, "SELECT count(*) $active", 3), 'random cancels: generating');
	my $sent = 0;
	poll_until(sub {
			my $n = ask($canceler, "SELECT count(pg_cancel_backend(pid)) $active;");
			$sent += $n;
			return $n == 0;
		});
	ask($canceler, 'SELECT pg_advisory_unlock(1);');
	my @results = map { [ finish_query($_) ] } @queries;
	is(scalar(grep { $_->[1] eq $right } @results), 3, "random cancels ($sent): good sessions")
	  or diag(map { $_->[2] } @results);
	ok(idle_engine($node), 'random cancels: nothing is left in the engine');
}

is(scalar(engines_of($node)), 1, 'one engine');
$node->stop;
done_testing();
