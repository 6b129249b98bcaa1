# Cursors that are read in portions: what is ahead at the end of one is there for the next, whether the
# cursor can go back or not; where no more rows can come, nothing goes on.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use Test::More;

my $node = new_server('main', slow_model => 1,
	conf => "gpt2.model = 'demo'\ngpt2.batch_rows = 64\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql('CREATE TABLE docs AS SELECT i, \'Row \' || i AS body FROM generate_series(1, 600) AS i');
sql('CREATE TABLE names AS SELECT i, \'Name \' || i AS name FROM generate_series(1, 600) AS i');
sql('ANALYZE');

# What has been asked for by now.
sub calls { return sql('SELECT coalesce(sum(calls), 0) FROM gpt_stat_usage') }

# Statements, run one after the other in a transaction: how many calls they have made.
sub calls_of
{
	my @statements = @_;
	my $before = calls();
	my $session = open_session($node);

	ask($session, "$_;") for 'BEGIN', @statements, 'COMMIT';
	$session->{run}->finish;
	return calls() - $before;
}

my $query = 'SELECT i, gpt_generate(body, 2) FROM docs';
my @fetches = ('FETCH 100 FROM c') x 5;

for my $cursor ('NO SCROLL CURSOR', 'SCROLL CURSOR', 'CURSOR WITH HOLD')
{
	cmp_ok(calls_of("DECLARE c $cursor FOR $query", @fetches, 'CLOSE c'), '<=', 564,
		"$cursor: 500 rows in portions are 500 calls, and those that are ahead at the end");
}
cmp_ok(calls_of("DECLARE c CURSOR FOR $query FOR UPDATE", @fetches), '<=', 564,
	'one with FOR UPDATE, which cannot go back');
cmp_ok(calls_of("\\set FETCH_COUNT 100\n$query WHERE i <= 500"), '<=', 500,
	"a client that reads a query's rows in portions");
cmp_ok(calls_of(<<'END'), '<=', 500, 'a loop of PL/pgSQL over a plan that cannot go back');
DO $$
DECLARE
    r record;
BEGIN
    SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_nestloop = off;
    FOR r IN SELECT name, gpt_generate(body, 2) FROM docs JOIN names USING (i) WHERE i <= 500 LOOP
    END LOOP;
END $$
END

# What is read to its end makes each call once.
sql('CREATE FUNCTION sixty() RETURNS SETOF text LANGUAGE sql AS '
	  . "'SELECT gpt_generate(body, 2) FROM docs WHERE i <= 60'");
my $sixty = "$query WHERE i <= 60";
is(calls_of("DECLARE c NO SCROLL CURSOR FOR $sixty", 'FETCH 10 FROM c', 'FETCH 10 FROM c',
		'MOVE 5 FROM c', 'FETCH ALL FROM c'), 60, 'a cursor that cannot go back and is read to its end');
is(calls_of('SELECT sixty()'), 60, 'a function in SQL that gives one row at a time');
is(calls_of("DO \$\$ DECLARE r record; BEGIN FOR r IN $sixty GROUP BY i, body LOOP END LOOP; END \$\$"),
	60, 'a loop over groups');

# ---- nothing goes on ----

# Rows that are long, behind those that a LIMIT wants.
my $session = open_session($node);
ask($session, 'BEGIN;');
ask($session, "DECLARE c NO SCROLL CURSOR FOR SELECT i FROM generate_series(1, 100) AS i "
	  . "WHERE gpt_generate('Row ' || i, CASE WHEN i <= 3 THEN 2 ELSE 2000 END, model => 'slow') "
	  . 'IS NOT NULL LIMIT 3;');
is(ask($session, 'FETCH 10 FROM c;'), "1\n2\n3", 'a cursor gives all its rows');
ok(idle_engine($node), 'and has nothing going on, although it is still open');
is(ask($session, 'FETCH 10 FROM c;'), '', 'there are no more');
ask($session, 'COMMIT;');
$session->{run}->finish;

$node->stop;
done_testing();
