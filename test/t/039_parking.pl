# A cursor that stands still holds nothing that others need: its calls that are ahead give their place
# to other sessions' calls, and go on when it is read again, with the same texts.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use Test::More;

# Room for one context of 1024 tokens, and no more.
my $node = new_server('main', conf => "gpt2.model = 'small'\ngpt2.kv_cache_size = '1kB'\n");
add_slow_model($node, 'small', 7, 1024);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A short row, and two long ones that are started with it because all three will be read.
my $query = "SELECT i, md5(gpt_generate('Row ' || i, CASE WHEN i = 1 THEN 5 ELSE 900 END))"
  . ' FROM generate_series(1, 100) AS i LIMIT 3';
my @right = split /\n/, sql($query);

sub other { return "SELECT md5(gpt_generate('Something else', $_[0]))" }
my %answer = map { $_ => sql(other($_)) } 20, 900;

sub ahead
{
	my ($pid) = @_;
	return sql("SELECT count(*) FROM gpt_stat_requests WHERE pid = $pid");
}

# Another session's call of so many tokens, while the cursor has given its short row.
sub stand_still
{
	my ($what, $other_tokens) = @_;
	my $session = open_session($node);
	my $other = open_session($node);
	my $pid = ask($session, 'SELECT pg_backend_pid();');

	ask($session, 'BEGIN;');
	ask($session, "DECLARE c CURSOR FOR $query;");
	# Both are connected, so that the rows ahead do not end before the other begins.
	is(ask($other, other(20) . ';'), $answer{20}, "$what: another session has the engine");
	is(ask($session, 'FETCH 1 FROM c;'), $right[0], "$what: the cursor gives its first row");
	is(ask($other, other($other_tokens) . ';'), $answer{$other_tokens},
		"$what: the other session has its answer");
	is(ahead($pid), 2, "$what: and waited for none of the rows ahead");
	is(ask($session, 'FETCH ALL FROM c;'), join("\n", @right[ 1, 2 ]),
		"$what: which come with the same texts when asked for");
	ask($session, 'COMMIT;');
	$_->{run}->finish for $session, $other;
	return;
}

stand_still('blocks', 900);

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
	my $pid = ask($session, 'SELECT pg_backend_pid();');

	ask($session, 'BEGIN;');
	ask($session, 'DECLARE s CURSOR FOR '
		  . "SELECT (s).piece FROM (SELECT gpt_stream('Once', 1000) AS s) AS q;");
	ask($session, 'FETCH 1 FROM s;');
	is(sql(other(900)), $answer{900}, 'a session goes on beside a stream that is not read');
	is(ahead($pid), 1, 'and does not wait for it');
	is(ask($session, "MOVE ALL FROM s;\n\\echo moved"), 'moved', 'which goes on when it is read');
	ask($session, 'COMMIT;');
	$session->{run}->finish;
}
ok(idle_engine($node), 'nothing is left');

$node->stop;
done_testing();
