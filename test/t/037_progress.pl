# gpt_stat_progress_batch: rows of gpt_batch and of statements with rows in flight, who sees them, how
# they end; what gpt_batch says as it goes; what EXPLAIN says that it will cost.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use Test::More;

my $node = new_server('main', slow_model => 1, conf => "gpt2.model = 'slow'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

my $progress = 'SELECT command FROM gpt_stat_progress_batch';

sql(<<'END');
CREATE TABLE docs (id int PRIMARY KEY, body text, summary text);
INSERT INTO docs SELECT i, 'Row ' || i FROM generate_series(1, 20000) AS i;
CREATE ROLE other LOGIN;
CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
ANALYZE docs;
END
is(sql($progress), '', 'nothing is in progress, and nobody asks an engine to start');

# ---- gpt_batch ----

my $call = "CALL gpt_batch('docs', 'body', 'summary', max_len => 60, batch_size => 5)";
{
	my $query = start_query($node, $call);

	ok(poll_sql($node, 'SELECT rows_done >= 5 FROM gpt_stat_progress_batch'), 'its rows are counted');
	is(sql(q{SELECT usename = current_user, datname, command, relid::regclass, rows_failed, rows_total,
	           rows_done < rows_total, tokens >= rows_done, rows_per_second > 0,
	           started_at < now(), estimated_end > now(),
	           pid = (SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL%')
	         FROM gpt_stat_progress_batch}),
		't|postgres|CALL gpt_batch|docs|0|20000|t|t|t|t|t|t', 'and all else is told');
	is($node->safe_psql('postgres', $progress, extra_params => [ '-U', 'other' ]), '',
		'others do not see it');
	is($node->safe_psql('postgres', $progress, extra_params => [ '-U', 'watcher' ]),
		'CALL gpt_batch', 'but members of pg_read_all_stats do');
	my $done = sql('SELECT rows_done FROM gpt_stat_progress_batch');
	kill 'KILL', engines_of($node);
	ok(poll_sql($node, "SELECT rows_done > $done FROM gpt_stat_progress_batch"),
		'a new engine is told what the old one knew');
	ok(poll_until(sub { $query->{run}->pump_nb; return $query->{err} =~ /NOTICE/ }, 60),
		'a NOTICE tells of it');
	like($query->{err}, qr/^NOTICE:  00000: gpt_batch: \d+ of 20000 rows done, 0 failed, \d+\.\d rows\/s, about \d+ (s|min) left$/m,
		'rows per second and the estimated end');
	kill 'KILL', sql(q{SELECT pid FROM gpt_stat_progress_batch});
	$query->{run}->finish;
	ok(poll_sql($node, "$progress", ''), 'a backend that dies leaves nothing');
}

# ---- statements ----

for my $statement (
	"SELECT count(gpt_generate(body, 60)) FROM docs",
	"UPDATE docs SET summary = gpt_generate(body, 60)",
	"INSERT INTO docs SELECT id + 100000, gpt_generate(body, 60) FROM docs",
	"DELETE FROM docs WHERE gpt_generate(body, 60) = 'x'")
{
	my ($command) = $statement =~ /^(\w+)/;
	my $query = start_query($node, $statement);

	ok(poll_sql($node, 'SELECT rows_done >= 3 FROM gpt_stat_progress_batch'), "$command is shown");
	is(sql('SELECT command, relid IS NULL, rows_failed, rows_total > 0, tokens > 0'
		  . ' FROM gpt_stat_progress_batch'), "$command|t|0|t|t", 'with what is estimated');
	sql(q{SELECT pg_cancel_backend(pid) FROM gpt_stat_progress_batch});
	$query->{run}->finish;
	is(sql($progress), '', 'a cancelled statement is shown no more');
}
sql("SELECT gpt_generate(body, 1) FROM docs LIMIT 3");
is(sql($progress), '', 'nor is one that has ended');

{
	my $session = open_session($node);

	ask($session, 'BEGIN;');
	ask($session, 'DECLARE c CURSOR FOR SELECT gpt_generate(body, 3) FROM docs;');
	is(sql($progress), '', 'a cursor that was not read yet is not shown');
	ask($session, 'FETCH 7 FROM c;');
	is(sql('SELECT command, rows_done FROM gpt_stat_progress_batch'), 'SELECT|7',
		'one that stands still shows what it has given');
	ask($session, 'FETCH 2 FROM c;');
	is(sql('SELECT command, rows_done FROM gpt_stat_progress_batch'), 'SELECT|9', 'and goes on');
	ask($session, 'CLOSE c;');
	is(sql($progress), '', 'until it is closed');
	ask($session, 'DECLARE d CURSOR FOR SELECT gpt_generate(body, 3) FROM docs;');
	ask($session, 'FETCH 2 FROM d;');
	ask($session, 'SELECT gpt_generate(body, 3) FROM no_such_table;');
	is(sql($progress), '', 'or its transaction fails');
	ask($session, 'ROLLBACK;');
	$session->{run}->finish;
}

# ---- cost ----

my $explain = 'EXPLAIN SELECT gpt_generate(body, 1000) FROM docs';
like(sql($explain), qr/Estimated: \d+ calls, \d+[kM] tokens, [^,]*$/m, 'no price, no cost');
sql("LOAD 'gpt2'; ALTER SYSTEM SET gpt2.price_per_hour = 3600000; SELECT pg_reload_conf()");
ok(poll_until(sub { return sql($explain) =~ /Estimated: \d+ calls, \d+[kM] tokens, [^,]*, cost (\d+\.\d\d)$/m && $1 > 0 }),
	'a price, and EXPLAIN tells the cost');
my ($rc, $out, $err) = $node->psql('postgres',
	'SET statement_timeout = 2000; UPDATE docs SET summary = gpt_generate(body, 8000)');
like($err, qr/NOTICE:  this statement will take about .*HINT:  CALL gpt_batch commits as it goes/s,
	'a long change is told of, and what to do');

$node->stop;
done_testing();
