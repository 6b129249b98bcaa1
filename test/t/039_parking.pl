# A cursor that stands still holds nothing that others need: its calls that are ahead give their place
# to other sessions' calls, and go on when it is read again, with the same texts.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use Test::More;

use constant TRIES => 5;

# Room for one context of 2048 tokens, and no more.
my $node = new_server('main', conf => "gpt2.model = 'small'\ngpt2.kv_cache_size = '1kB'\n");
add_slow_model($node, 'small', 7, 2048);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A short row, and two long ones that are started with it because all three will be read.
my $query = "SELECT i, md5(gpt_generate('Row ' || i, CASE WHEN i = 1 THEN 5 ELSE 1900 END))"
  . ' FROM generate_series(1, 100) AS i LIMIT 3';
my @right = split /\n/, sql($query);

sub other { return "SELECT md5(gpt_generate('Something else', $_[0]))" }
my %answer = map { $_ => sql(other($_)) } 20, 1900;

# The same call, and how many requests of the session pid are there once it has its answer: asked in one
# statement, because a fast engine soon ends them.
sub other_beside
{
	my ($tokens, $pid) = @_;
	return "WITH o AS MATERIALIZED (${\other($tokens)} AS text)"
	  . ' SELECT text, (SELECT count(*) FROM gpt_stat_requests'
	  . " WHERE pid = $pid AND text IS NOT NULL) FROM o";
}

# Another session's call of so many tokens, while the cursor has given its short row.  Of some tries, as
# a machine that is held up between the two ends the rows ahead first.
sub stand_still
{
	my ($what, $other_tokens) = @_;
	my $session = open_session($node);
	my $other = open_session($node);
	my $pid = ask($session, 'SELECT pg_backend_pid();');
	my $answer;

	# Both are connected, so that the rows ahead do not end before the other begins.
	is(ask($other, other(20) . ';'), $answer{20}, "$what: another session has the engine");
	for my $try (1 .. TRIES)
	{
		ask($session, 'BEGIN;');
		ask($session, "DECLARE c CURSOR FOR $query;");
		is(ask($session, 'FETCH 1 FROM c;'), $right[0], "$what: the cursor gives its first row");
		$answer = ask($other, other_beside($other_tokens, $pid) . ';');
		is(ask($session, 'FETCH ALL FROM c;'), join("\n", @right[ 1, 2 ]),
			"$what: the others come with the same texts when asked for");
		ask($session, 'COMMIT;');
		last if $answer eq "$answer{$other_tokens}|2";
	}
	is($answer, "$answer{$other_tokens}|2",
		"$what: the other session has its answer, and waited for none of the rows ahead");
	$_->{run}->finish for $session, $other;
	return;
}

stand_still('blocks', 1900);

sql(<<'END');
LOAD 'gpt2';
CREATE ROLE clerk LOGIN;
ALTER ROLE clerk SET gpt2.max_concurrent_sequences = 1;
END
{
	local $ENV{PGUSER} = 'clerk';
	stand_still('a limit of sequences', 20);
}

# ---- a stream that nobody reads ----

{
	my $session = open_session($node);
	my $other = open_session($node);
	my $pid = ask($session, 'SELECT pg_backend_pid();');
	my $answer;

	# Connected before the stream begins, so that it does not end before.
	is(ask($other, other(20) . ';'), $answer{20}, 'another session is there');
	for my $try (1 .. TRIES)
	{
		ask($session, 'BEGIN;');
		ask($session, 'DECLARE s CURSOR FOR '
			  . "SELECT (s).piece FROM (SELECT gpt_stream('Once', 2000) AS s) AS q;");
		ask($session, 'FETCH 1 FROM s;');
		$answer = ask($other, other_beside(1900, $pid) . ';');
		is(ask($session, "MOVE ALL FROM s;\n\\echo moved"), 'moved',
			'a stream that was not read goes on when it is');
		ask($session, 'COMMIT;');
		last if $answer eq "$answer{1900}|1";
	}
	is($answer, "$answer{1900}|1", 'a session goes on beside it, and does not wait for it');
	$_->{run}->finish for $session, $other;
}
ok(idle_engine($node), 'nothing is left');

$node->stop;
done_testing();
