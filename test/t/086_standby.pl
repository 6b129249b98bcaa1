# Many rows in flight on a standby: a conflict with recovery ends the statement, as it does where no
# row is looked ahead at, and never the session; calls of texts are in flight as on a primary.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', conf => "wal_level = replica\nmax_wal_senders = 4\n"
	  . "gpt2.model = 'demo'\nautovacuum = off\n");
$node->append_conf('pg_hba.conf', "local replication all trust\n");
$node->reload;
$node->safe_psql('postgres', <<'END');
CREATE TABLE t AS SELECT i AS id, '  Row ' || i AS body, jsonb_build_object('text', 'Row ' || i) AS doc,
    'x'::text COLLATE "C" AS c, 'x'::text COLLATE "POSIX" AS p
FROM generate_series(1, 300) AS i;
CREATE TABLE victims AS SELECT i AS id FROM generate_series(1, 20) AS i;
END
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf',
	"hot_standby_feedback = off\nmax_standby_streaming_delay = 0\nmax_standby_archive_delay = 0\n");
$standby->start;

# ---- rows in flight ----

sub requests
{
	my ($text, $settings) = @_;
	my ($plan) = $standby->safe_psql('postgres',
		"$settings EXPLAIN (ANALYZE) SELECT gpt_generate($text, 2) FROM t") =~ /Requests: (\d+)/;
	return $plan;
}

for my $text ('body', q{left(trim(body), 100) || '?'}, q{upper(substr(body, 1, 20))},
	q{concat_ws(': ', 'Ticket', doc ->> 'text')}, q{replace(lower(body), 'row', 'line')},
	q{CASE WHEN length(body) > 2 AND id <> 0 THEN body ELSE 'none' END})
{
	is(requests($text, ''), 299, "$text: all but the first row are in flight");
}
is(requests('body || (100 / (id + 1))', ''), 0, 'what may fail is not looked ahead at');
is(requests('substr(body, 1, id)', ''), 0, 'nor is a substring whose length differs');
is(requests("CASE WHEN id > 0 THEN body ELSE $_ END", ''), 0, "nor what may fail in some rows: $_")
  for ('substr(body, 1, -1)', 'lower(c || p)');
for my $statement (q{SELECT gpt_generate(left(body, 9), 2) FROM t WHERE id < 70},
	q{SELECT gpt_generate(body, 2) FROM t WHERE substr(body, 1, 20 - id) IS NOT NULL},
	q{SELECT CASE WHEN id < 30 THEN gpt_generate(substr(body, 1, 20 - id), 2) END FROM t})
{
	my @results = map {
		my ($out, $err);
		$standby->psql('postgres', "SET gpt2.batch_rows = $_; $statement", stdout => \$out,
			stderr => \$err);
		"$out\n$err"
	} (1, 64);

	is($results[1], $results[0], "the same as row by row: $statement");
}

# ---- a conflict ----

# Rows that take long to look at: a guard that replaces each letter of a long text.
my @slow = ('SET plan_cache_mode = force_generic_plan',
	q{PREPARE p (text) AS SELECT id, CASE WHEN replace($1, 'x', 'yz') IS NOT NULL }
	  . 'THEN gpt_generate(body, 2) END FROM t',
	q{EXECUTE p (repeat('x', 3000000))});

# Vacuums away what a snapshot of the standby sees.
sub vacuum_victims
{
	$node->safe_psql('postgres', 'DELETE FROM victims WHERE id = (SELECT min(id) FROM victims)');
	$node->safe_psql('postgres', 'VACUUM victims');
	return;
}

for my $n (1 .. 3)
{
	my $query = start_query($standby, @slow);

	ok(poll_sql($standby, q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE query LIKE 'EXECUTE p%' AND state = 'active' AND backend_xmin IS NOT NULL}), "$n: a query runs");
	vacuum_victims();
	# A session that is slow to clean up may hear of the conflict again, and is ended then: by
	# PostgreSQL, and behind this error.
	like((finish_query($query))[2],
		qr/\AERROR:  40001: canceling statement due to conflict with recovery/,
		"$n: a conflict ends the statement, and not the session");
}
ok(idle_engine($standby), 'nothing is left in the engine');

$standby->stop;
$node->stop;
done_testing();
