# Two CALLs of gpt_batch on one table, killed -9 at 50 random moments, in a third of them while both are
# certain to write: no row is lost, none is written twice, and each has the output that it has without
# all that.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use Test::More;

use constant KILLS => 50;

my $seed = $ENV{GPT2_TEST_SEED} || time;
my $node = new_server('main', conf => "gpt2.model = 'demo'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

# undef where the server does not answer: psql may end before it has read its input.
sub answers
{
	my ($rc, $out) = eval { $node->psql('postgres', $_[0]) };
	return defined $rc && $rc == 0 ? $out : undef;
}

srand $seed;
diag("GPT2_TEST_SEED=$seed");
sql(<<'END');
CREATE TABLE docs (id serial PRIMARY KEY, body text, summary text, problem text);
CREATE TABLE log (id int);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    INSERT INTO log VALUES (NEW.id);
    RETURN NEW;
END $$;
CREATE TRIGGER log AFTER UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION log();
END

# Each round has new rows, so that the CALLs never run out of them.
my $more = "INSERT INTO docs (body) SELECT 'My printer makes a loud noise, order ' || i"
  . ' FROM generate_series(1, 300) AS i';
my $call = "CALL gpt_batch('docs', 'body', 'summary', error_column => 'problem', batch_size => ";
my $pids = q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL gpt_batch%' AND state = 'active'};
my $standing = q{SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted HAVING count(*) = 2};
my $kills = 0;
my $met = 0;

for my $round (1 .. 10 * KILLS)
{
	last if $kills == KILLS;
	my $gate = $round % 3 == 0 && open_session($node);

	sql($more);
	ask($gate, 'SELECT pg_advisory_lock(1);') if $gate;
	my @queries = map { start_query($node, "$call$_)") } 7, 11;

	poll_until(
		sub {
			return (answers($gate ? $standing : $pids) || '') =~ /\d/
			  || !grep { is_running($_) } @queries;
		});
	select(undef, undef, undef, rand(0.3)) unless $gate;
	my @found = split /\n/, answers($pids) || '';
	ask($gate, 'SELECT pg_advisory_unlock(1);') if $gate;
	if (@found)
	{
		$kills++;
		$met += @found == 2;
		kill 'KILL', $found[ rand @found ];
	}
	$_->{run}->finish for @queries, $gate || ();
	poll_until(sub { return defined answers('SELECT 1') });
}

is($kills, KILLS, 'so many CALLs were killed');
ok($met > KILLS / 4, "many of them beside another ($met)");
my ($rows, $left) = split /\|/, sql('SELECT count(*), count(*) - count(summary) FROM docs');
is(sql('SELECT count(*), count(DISTINCT id) FROM log'), ($rows - $left) . '|' . ($rows - $left),
	'what has an output was written once');
is(sql("${call}256)"), "$left|0|0", "the next CALL does the rest ($left of $rows)");
is(sql('SELECT count(*), count(DISTINCT id) FROM log'), "$rows|$rows", 'all were written once');
is(sql('SELECT count(*), count(DISTINCT summary), count(problem) FROM docs WHERE summary IS NOT NULL'),
	"$rows|" . sql('SELECT count(DISTINCT gpt_summarize(body)) FROM docs WHERE id <= 300') . '|0',
	'none is lost or marked');
is(sql('SELECT count(*) FROM docs JOIN'
	  . ' (SELECT body, gpt_summarize(body) AS summary FROM docs WHERE id <= 300 OFFSET 0) AS f'
	  . ' USING (body, summary)'), $rows, 'and all outputs are right');

$node->stop;
done_testing();
