# The engine dies: running queries end with the same rows, other sessions do not notice, and what
# kills it twice gets an error that can be retried.
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
my $sql = slow_sql(1000);
my $right = $node->safe_psql('postgres', $sql);
my $call = "SELECT gpt_count_tokens('The printer', 'demo')";
my $count = $node->safe_psql('postgres', $call);
my $other = open_session($node);
my $other_pid = ask($other, 'SELECT pg_backend_pid();');

is(ask($other, "$call;"), $count, 'another session is connected');

# In mid-generation, by each signal.
for my $signal ('KILL', 'SEGV', 'TERM', 'ABRT')
{
	my $engine = engine_pid($node);
	my $query = start_generating($node, $sql);

	ok(wait_generating($node), "$signal: generating");
	my $started = time;
	kill $signal, $engine;
	ok(poll_sql($node, "SELECT engine_pid <> $engine FROM gpt_info()"), "$signal: a new engine");
	elapsed_ok($started, 5, "$signal: back");
	is(ask($other, "$call;"), $count, "$signal: the other session goes on");
	my ($rc, $out, $err) = finish_generating($node, $query);
	is("$out$err", $right, "$signal: the query ends with the same text");
}
is(ask($other, 'SELECT pg_backend_pid();'), $other_pid, 'no session was restarted');

# The supervisor ends, and its engine with it: the waiting query starts both again.
{
	my ($supervisor, $query) = (supervisor_pid($node), start_generating($node, $sql));

	ok(wait_generating($node), 'supervisor: generating');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($supervisor)");
	my ($rc, $out, $err) = finish_generating($node, $query);
	is("$out$err", $right, 'supervisor: the query ends with the same text');
	isnt(supervisor_pid($node), $supervisor, 'supervisor: another one');
}

# Several rows, of which one is interrupted.
{
	my $rows = "SELECT string_agg(g || md5(gpt_generate('Row ' || g, 200, model => 'slow')), ',')"
	  . ' FROM generate_series(1, 5) g';
	my $expected = $node->safe_psql('postgres', $rows);
	my $query = start_generating($node, $rows);

	ok(wait_generating($node), 'rows: generating');
	kill 'KILL', engine_pid($node);
	ok(wait_generating($node), 'rows: generating again');
	is(join('', (finish_generating($node, $query))[ 1, 2 ]), $expected, 'rows: the same rows');
}

# Two deaths under one request: an error that can be retried, in a session that stays good.
{
	my $query = start_query($node, endless_sql(), $call);

	for my $death (1, 2)
	{
		ok(wait_generating($node), "death $death: generating");
		my $engine = engine_pid($node);
		kill 'KILL', $engine;
		ok(poll_until(sub { !process_exists($engine) }), "death $death: the engine is gone");
	}
	my ($rc, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  58000: gpt2 engine ended 2 times/, 'two deaths: 58000');
	like($err, qr/HINT:  Try again/, 'two deaths: a hint');
	is($out, $count, 'two deaths: the next call in the same session');
}
ok(idle_engine($node), 'nothing is left in the new engine');

# While it starts: a waiting call comes through all the same, or is told that it does not start.
{
	my $query;

	kill 'KILL', engine_pid($node);
	for my $i (1 .. 5)
	{
		$query ||= start_query($node, $sql);
		ok(poll_until(
				sub {
					my @engines = engines_of($node);
					return @engines && kill 'KILL', $engines[0];
				}), "at its start: killed ($i)");
	}
	my ($rc, $out, $err) = finish_query($query);
	ok($out eq $right || $err =~ /ERROR:  58000/, 'at its start: the text, or 58000')
	  or diag("$out$err");
	ok(poll_sql($node, $call, $count), 'at its start: back when left alone');
}

# An engine that cannot be started at all: everybody is told, nobody waits for long.
SKIP:
{
	my $program = engine_program();
	my ($directory) = $program =~ m{^(.*)/};
	skip 'the installation cannot be changed', 6 unless -w $directory && -o $program;

	rename $program, "$program.away" or die "could not rename $program: $!";
	my $gone = eval {
		kill 'KILL', engine_pid($node);
		my $started = time;
		my @queries = map { start_query($node, $call, 'SELECT 1') } (1 .. 5);
		my @results = map { [ finish_query($_) ] } @queries;
		is(scalar(grep { $_->[2] =~ /ERROR:  58000: gpt2 engine does not start: could not execute/ }
				@results), 5, 'no program: 58000 for everybody');
		is(scalar(grep { $_->[1] eq '1' } @results), 5, 'no program: the sessions are good');
		elapsed_ok($started, 6, 'no program: an answer');
		like(ask($other, "$call;"), qr/ERROR:  58000: gpt2 engine does not start/,
			'no program: a session that was connected');
		is($node->safe_psql('postgres', 'SELECT engine_pid IS NULL FROM gpt_info()'), 't',
			'no program: gpt_info');
		1;
	};
	my $error = $@;
	rename "$program.away", $program or die "could not rename $program: $!";
	die $error unless $gone;
	ok(poll_sql($node, $call, $count), 'the program is back, and so is the engine');
}

is(ask($other, 'SELECT pg_backend_pid();'), $other_pid, 'no session was restarted at the end');
$node->stop;
done_testing();
