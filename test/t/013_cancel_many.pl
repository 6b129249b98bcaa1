# Cancels at 1,000 random moments (100 with GPT2_TEST_QUICK) of prefill, decoding, groups of
# sequences and tokenizing, in sessions that share steps with others that nobody cancels: every
# answer is right, and the engine's counters return to zero.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $cancels = $ENV{GPT2_TEST_QUICK} ? 100 : 1000;
my $sessions = 4;				# that are cancelled; as many are not
my $node = new_server('main', slow_model => 1);

# The requests, with their answers.
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION answer(kind int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE kind
		WHEN 0 THEN md5(gpt_generate('Once', 20, model => 'slow'))
		WHEN 1 THEN md5(gpt_generate(repeat('a long prompt ', 40), 2, model => 'slow'))
		WHEN 2 THEN md5(gpt_generate_array('Once', 8, n => 4, seed => 1, model => 'slow')::text)
		WHEN 3 THEN md5(gpt_tokenize(repeat('many words ', 20000), 'slow')::text)
	END;
END $$;
CREATE TABLE expected AS SELECT kind, answer(kind) AS text FROM generate_series(0, 3) AS kind;
CREATE SEQUENCE right_answers;
CREATE SEQUENCE wrong_answers;
CREATE SEQUENCE canceled;
CREATE FUNCTION so_many(s regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	EXECUTE format('SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM %s', s) INTO n;
	RETURN n;
END $$;
END

# Asks until so many were cancelled.  Sequences, because they count whatever is rolled back.
my $loop = <<"END";
DO \$\$
DECLARE
	row record;
BEGIN
	WHILE so_many('canceled') < $cancels LOOP
		BEGIN
			FOR row IN SELECT * FROM expected ORDER BY random() LOOP
				IF answer(row.kind) = row.text THEN
					PERFORM nextval('right_answers');
				ELSE
					PERFORM nextval('wrong_answers');
				END IF;
			END LOOP;
		EXCEPTION WHEN query_canceled THEN
			PERFORM nextval('canceled');
		END;
	END LOOP;
END \$\$
END
my $canceler = <<"END";
DO \$\$
BEGIN
	WHILE so_many('canceled') < $cancels LOOP
		PERFORM pg_sleep(random() * 0.02);
		PERFORM pg_cancel_backend(pid) FROM pg_stat_activity
		WHERE query LIKE '%/* canceled */%' AND state = 'active' AND pid <> pg_backend_pid()
		ORDER BY random() LIMIT 1;
	END LOOP;
END \$\$ /* canceler */
END

# A cancel that arrives outside of the inner block ends the statement: the next one goes on.  The last
# one may arrive when all loops have ended: it meets a wait for the canceler's end.
my $started = time;
my $gate = open_session($node);
ask($gate, 'SELECT pg_advisory_lock(1);');
my @victims = map {
	start_query($node, ("$loop /* canceled */") x 50, 'DO $$ BEGIN PERFORM pg_advisory_lock_shared(1); END $$',
		'SELECT answer(0)')
} (1 .. $sessions);
my @others = map { start_query($node, "$loop /* left alone */", 'SELECT answer(0)') }
  (1 .. $sessions);
my ($rc, $out, $err) = finish_query(start_query($node, $canceler));
is($err, '', 'the canceler ends well');
ask($gate, 'SELECT pg_advisory_unlock(1);');
my $right = $node->safe_psql('postgres', 'SELECT text FROM expected WHERE kind = 0');

for my $query (@victims, @others)
{
	($rc, $out, $err) = finish_query($query);
	is($out, $right, 'a session is good at the end');
	my @errors = grep { !/57014: canceling statement due to user request/ }
	  $err =~ /^.*ERROR:.*$/mg;
	is(scalar(@errors), 0, 'a session sees no other error') or diag(@errors);
}
ok(idle_engine($node, 60), 'nothing is left in the engine');
is($node->safe_psql('postgres', "SELECT so_many('wrong_answers')"), 0, 'no answer is wrong');
cmp_ok($node->safe_psql('postgres', "SELECT so_many('canceled')"), '>=', $cancels,
	"$cancels were cancelled");
cmp_ok($node->safe_psql('postgres', "SELECT so_many('right_answers')"), '>', 0,
	'others were answered');
note(sprintf '%s cancelled, %s answered in %.1f s',
	$node->safe_psql('postgres', "SELECT so_many('canceled'), so_many('right_answers')") =~
	  /(\d+)\|(\d+)/, time - $started);
is(scalar(engines_of($node)), 1, 'one engine');
is($node->safe_psql('postgres', 'SELECT answer(0)'), $right, 'it goes on');
$node->stop;
done_testing();
