# A cursor that stands still holds nothing that others need: its calls that are ahead give their place
# to other sessions' calls, and go on when it is read again, with the same texts.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use Test::More;

# Room for one context of 8192 tokens, and no more.
my $node = new_server('main', slow_model => 1,
	conf => "gpt2.model = 'slow'\ngpt2.kv_cache_size = '1kB'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

my $query = "SELECT i, md5(gpt_generate('Row ' || i, %d)) FROM generate_series(1, 100) AS i";

# Sequences of that session in that state, or not.
sub sequences
{
	my ($pid, $where) = @_;
	return sql("SELECT count(*) FROM gpt_stat_requests WHERE pid = $pid AND $where");
}

# A LIMIT lets all its rows be started with the first; the cursor has given that one and stands still.
sub declare_ahead
{
	my ($session, $tokens, $rows) = @_;

	ask($session, 'BEGIN;');
	ask($session, 'DECLARE c CURSOR FOR ' . sprintf($query, $tokens) . " LIMIT $rows;");
	return ask($session, 'FETCH 1 FROM c;');
}

# ---- blocks ----

my @right = split /\n/, sql(sprintf($query, 1500) . ' LIMIT 12');
my $short = "SELECT md5(gpt_generate('Something else', 4000))";
my $answer = sql($short);
{
	my $session = open_session($node);
	my $pid = ask($session, 'SELECT pg_backend_pid();');

	is(declare_ahead($session, 1500, 12), $right[0], 'a cursor gives its first row');
	cmp_ok(sequences($pid, 'true'), '>', 3, 'others of it are under way');
	my $other = start_query($node, $short);
	ok(poll_sql($node, "SELECT count(*) > 0 FROM gpt_stat_requests WHERE pid <> $pid"
		  . " AND state IN ('prefill', 'decode')"), 'another session begins');
	my ($status, $out) = finish_query($other);
	is($out, $answer, 'and ends');
	ok(sequences($pid, 'true') > 0, 'while some of the cursor are still there');
	cmp_ok(sql('SELECT preemptions FROM gpt_stat_engine'), '>', 0, 'they had to make room');
	is(ask($session, 'FETCH ALL FROM c;'), join("\n", @right[ 1 .. 11 ]),
		'the cursor goes on with the same texts');
	ask($session, 'COMMIT;');
	$session->{run}->finish;
}

# ---- the sequences that a role may run ----

sql(<<'END');
LOAD 'gpt2';
CREATE ROLE clerk LOGIN;
ALTER ROLE clerk SET gpt2.max_concurrent_sequences = 2;
END
{
	local $ENV{PGUSER} = 'clerk';
	my $session = open_session($node);
	my $pid = ask($session, 'SELECT pg_backend_pid();');

	is(declare_ahead($session, 1500, 6), $right[0], 'a cursor of a role with a limit');
	is(sequences($pid, "state IN ('prefill', 'decode')"), 2, 'has all that its role may run');
	my $other = start_query($node, "SELECT md5(gpt_generate('Row 1', 1500))");
	my $met = 0;
	ok(poll_until(
			sub {
				$met ||= sequences($pid, "state = 'throttled'") > 0
				  && sql("SELECT count(*) FROM gpt_stat_requests WHERE pid <> $pid"
					  . " AND state IN ('prefill', 'decode')") == 1;
				$other->{run}->pump_nb;
				return $met || !$other->{run}->pumpable;
			}) && $met, 'another session of it runs at once');
	my ($status, $out) = finish_query($other);
	is("1|$out", $right[0], 'and has its text');
	cmp_ok(sequences($pid, 'true'), '>', 2, 'before the rows that were ahead');
	is(ask($session, 'FETCH ALL FROM c;'), join("\n", @right[ 1 .. 5 ]), 'which come when asked for');
	ask($session, 'COMMIT;');
	$session->{run}->finish;
}

# ---- a stream that nobody reads ----

{
	my $session = open_session($node);

	ask($session, 'BEGIN;');
	ask($session, "DECLARE s CURSOR FOR SELECT (s).piece FROM (SELECT gpt_stream('Once', 8000) AS s) AS q;");
	ask($session, 'FETCH 1 FROM s;');
	my $before = sql('SELECT preemptions FROM gpt_stat_engine');
	is(sql($short), $answer, 'another session goes on beside a stream that is not read');
	ask($session, 'FETCH 2 FROM s;');
	like(ask($session, 'SELECT count(*) FROM gpt_stat_requests;'), qr/^[01]$/, 'which is still there');
	ask($session, 'CLOSE s;');
	ask($session, 'COMMIT;');
	$session->{run}->finish;
}
ok(idle_engine($node), 'nothing is left');

$node->stop;
done_testing();
