# A role's limits with a real engine: they hold whatever the session says, waiting has an end, a
# change reaches open sessions; and cursors on gpt_stream that nobody reads hold up nobody else.
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
my $short = slow_sql(20);
my $right = $node->safe_psql('postgres', $short);

# For start_query and open_session: connections of a role.
{
	package As;
	sub connstr { return $node->connstr($_[1]) . " user=$_[0]->{role}" }
}

sub as
{
	return bless { role => $_[0] }, 'As';
}

sub errors_of
{
	return (finish_query(start_query(@_)))[2];
}

$node->safe_psql('postgres', 'CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; GRANT bob TO ann');

# The allow-list of docs/operations.md.
$node->safe_psql('postgres', <<'END');
LOAD 'gpt2';
ALTER ROLE ALL SET gpt2.max_tokens_per_minute = 0;
ALTER ROLE bob SET gpt2.max_tokens_per_minute = -1;
ALTER ROLE CURRENT_USER SET gpt2.max_tokens_per_minute = -1;
END
{
	my $refused = qr/ERROR:  53400: .*ann/;
	my $set = 'SET gpt2.max_tokens_per_minute = -1';

	is((finish_query(start_query(as('bob'), $short)))[1], $right, 'allow-list: who is on it');
	is($node->safe_psql('postgres', $short), $right, 'allow-list: the superuser');
	like(errors_of(as('ann'), $short), $refused, 'allow-list: who is not');
	like(errors_of(as('ann'), $set, $short), $refused, 'allow-list: SET before the library');
	like(errors_of(as('ann'), "SELECT gpt_count_tokens('a', 'slow')", $set, $short),
		qr/ERROR:  42501: .*$refused/s, 'allow-list: SET after it');
	like(errors_of(as('ann'), 'SET ROLE bob', $short), $refused, 'allow-list: SET ROLE');
	local $ENV{PGOPTIONS} = '-c gpt2.max_tokens_per_minute=-1';
	like(errors_of(as('ann'), $short), $refused, 'allow-list: PGOPTIONS');
}

# Too long a call is refused before it is queued; a change reaches an open session.
{
	my $session = open_session(as('ann'));

	$node->safe_psql('postgres', "LOAD 'gpt2'; ALTER ROLE ann SET gpt2.max_tokens_per_minute = -1;"
		  . ' ALTER ROLE ann SET gpt2.max_tokens_per_call = 10');
	like(ask($session, "$short;"), qr/ERROR:  53400: .*10/, 'per call: refused');
	$node->safe_psql('postgres', "LOAD 'gpt2'; ALTER ROLE ann SET gpt2.max_tokens_per_call = 100");
	my $started = time;
	ok(poll_until(sub { ask($session, "$short;") eq $right }), 'per call: changed');
	elapsed_ok($started, 1, 'per call: changed');
	# Labels count with all of their tokens, here bytes: 11 of the prompt, 4 and 91 of these.
	my $labels = "SELECT gpt_classify('x', ARRAY['yes', repeat('no', 45)], model => 'slow',"
	  . " options => '{\"calibrate\": false}')";
	like(ask($session, "$labels;"), qr/ERROR:  53400: .*100.*It has \d+ tokens\./s,
		'per call: too many in labels');
	$labels =~ s/45/40/;
	is(ask($session, "$labels;"), $node->safe_psql('postgres', $labels),
		'per call: a short label is not counted like a long one');
}

# More sequences at once than the role may: they wait, are seen to wait, and come through, or give
# up when their time is over.
{
	my $waiting = "SELECT count(*) FROM gpt_stat_requests WHERE state = 'throttled'";

	$node->safe_psql('postgres', "LOAD 'gpt2'; ALTER ROLE ann RESET gpt2.max_tokens_per_call;"
		  . ' ALTER ROLE ann SET gpt2.max_concurrent_sequences = 1');
	# However many labels a text may have, it is one.
	my $labels = "SELECT gpt_classify('Once', '{a,bc,def}', model => 'slow')";
	is((finish_query(start_query(as('ann'), $labels)))[1], $node->safe_psql('postgres', $labels),
		'at once: labels are no texts');
	like(errors_of(as('ann'), "SELECT gpt_generate_array('Once', 2, n => 2, model => 'slow')"),
		qr/ERROR:  53400: .*"ann": gpt2.max_concurrent_sequences is 1.*It asks for 2 texts/s,
		'at once: two of one call');
	# One group of 16 texts, as long as the cache holds: between two calls, or two windows of a long
	# text, the second would come through.
	$node->safe_psql('postgres', "LOAD 'gpt2'; ALTER ROLE ann SET gpt2.max_concurrent_sequences = 16");
	my $first = start_query(as('ann'),
		"SELECT md5(gpt_generate_array('Once', 7000, n => 16, model => 'slow')::text)");
	ok(wait_generating($node), 'at once: the first generates');
	my $second = start_query(as('ann'), $short);
	ok(poll_sql($node, $waiting, 1), 'at once: the second waits');
	like(errors_of(as('ann'), "SET gpt2.queue_timeout = '200ms'", $short),
		qr/ERROR:  53400: .*ann/, 'at once: its time is over');
	is((finish_query(start_query(as('bob'), $short)))[1], $right, 'at once: others do not wait');
	is($node->safe_psql('postgres', $waiting), 1, 'at once: the second still waits');
	my $third = start_query(as('ann'), $short);
	ok(poll_sql($node, $waiting, 2), 'not any more: two wait');
	$node->safe_psql('postgres', "LOAD 'gpt2'; ALTER ROLE ann SET gpt2.max_tokens_per_call = 0");
	like((finish_query($third))[2], qr/ERROR:  53400: role "ann" may not generate: .*per_call is 0/,
		'not any more: it does not wait any more');
	like((finish_query($second))[2], qr/ERROR:  53400: role "ann" may not generate/,
		'not any more: nor does the one before it');
	$node->safe_psql('postgres', "ALTER ROLE ann RESET gpt2.max_tokens_per_call");
	$second = start_query(as('ann'), $short);
	ok(poll_sql($node, $waiting, 1), 'at once: again the second waits');
	kill_query($first, $node);
	is((finish_query($second))[1], $right, 'at once: the second comes through');
	ok(idle_engine($node), 'at once: nothing is left in the engine');
	$node->safe_psql('postgres', 'ALTER ROLE ann RESET ALL; ALTER ROLE ALL RESET ALL');
}

# All slots are taken, several times over: everybody is served in the end.
{
	my @queries = map { start_query($node, "SELECT md5(gpt_generate_array('Once', 2, n => 64,"
			  . " seed => $_, model => 'slow')::text)") } (1 .. 12);
	my @results = map { [ finish_query($_) ] } @queries;

	is(scalar(grep { $_->[2] eq '' && length $_->[1] == 32 } @results), 12, 'slots: all are served')
	  or diag(map { $_->[2] } @results);
	is(scalar(keys %{ { map { $_->[1] => 1 } @results } }), 12, 'slots: each has its own texts');
	ok(idle_engine($node), 'slots: nothing is left in the engine');
}

# Cursors that are opened and not read, as many as a pool may have.
{
	my @sessions = map { open_session($node) } (1 .. 8);
	my $stream = "SELECT (s).pos FROM (SELECT gpt_stream('Once', 7000, model => 'slow') AS s) AS q";

	is(ask($_, "BEGIN; DECLARE c CURSOR FOR $stream; FETCH 1 FROM c;"), 0, 'cursor: opened')
	  for @sessions;
	is($node->safe_psql('postgres', $short), $right, 'cursor: others are served beside them');
	ok(wait_generating($node), 'cursor: their sequences live');
	ask($_, 'CLOSE c;') for @sessions[ 0 .. 3 ];
	ask($_, 'ROLLBACK;') for @sessions[ 4 .. 6 ];
	kill_query($sessions[7]);
	my $started = time;
	ok(idle_engine($node), 'cursor: closed, rolled back, gone: nothing is left in the engine');
	elapsed_ok($started, 1, 'cursor: given back');
	ask($_, 'COMMIT;') for @sessions[ 0 .. 3 ];
	is(ask($_, "$short;"), $right, 'cursor: its session is good') for @sessions[ 0 .. 6 ];
}

is(scalar(engines_of($node)), 1, 'one engine');
$node->stop;
done_testing();
