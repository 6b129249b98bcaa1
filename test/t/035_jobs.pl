# gpt_batch beside others: sessions that hold locks, that share the table, that change it; an engine
# that dies; cancels and time limits; a caller with few rights.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use Test::More;

my $node = new_server('main', slow_model => 1, conf => "gpt2.model = 'demo'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub make_docs
{
	my ($rows) = @_;

	sql(<<"END");
DROP TABLE IF EXISTS docs, log CASCADE;
CREATE TABLE docs (id int PRIMARY KEY, body text, summary text, problem text);
INSERT INTO docs SELECT i, 'My printer makes a loud noise, order ' || i
FROM generate_series(1, $rows) AS i;
CREATE TABLE log (id int, by int DEFAULT pg_backend_pid());
CREATE OR REPLACE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END \$\$;
CREATE TRIGGER log AFTER UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION log();
END
	return;
}

# Of the model that is slow enough to be met in the middle of it.
my $slow = "CALL gpt_batch('docs', 'body', 'summary', max_len => 60, model => 'slow',"
  . " error_column => 'problem'";
my $right = "summary = gpt_summarize(body, 60, model => 'slow')";

# ---- a row that another session has locked ----

make_docs(60);
{
	my $other = open_session($node);
	ask($other, 'BEGIN;');
	ask($other, "UPDATE docs SET body = body WHERE id IN (2, 3);");
	my $query = start_query($node, "$slow, batch_size => 2)");
	ok(poll_sql($node, 'SELECT count(summary) >= 4 FROM docs'), 'locked rows are passed over');
	is(sql('SELECT count(summary) FROM docs WHERE id IN (2, 3)'), 0, 'while they are locked');
	ask($other, 'ROLLBACK;');
	my ($status, $out) = finish_query($query);
	is($out, '60|0|0', 'a row that was locked and released is not left behind');
	is(sql("SELECT count(*) FROM docs WHERE $right"), 60, 'with the right outputs');
	ask($other, 'BEGIN;');
	ask($other, "UPDATE docs SET summary = NULL WHERE id = 5;");
	is(sql("$slow)"), '0|0|0', 'what another session has not committed is not there yet');
	ask($other, 'COMMIT;');
	ask($other, 'BEGIN;');
	ask($other, "SELECT FROM docs WHERE id = 5 FOR UPDATE;");
	is(sql("$slow)"), '0|0|1', 'what stays locked is told of as remaining');
	ask($other, 'ROLLBACK;');
	is(sql("$slow)"), '1|0|0', 'and is done by the next CALL');
	$other->{run}->finish;
}

# ---- a row that is changed before it is its turn ----

make_docs(40);
{
	my $query = start_query($node, "SET default_transaction_isolation = 'repeatable read'",
		"$slow, batch_size => 1)");
	ok(poll_sql($node, 'SELECT count(summary) >= 1 FROM docs'), 'it commits as it goes');
	sql("UPDATE docs SET body = 'My lamp is dark' WHERE id = 39;"
		  . "INSERT INTO docs VALUES (41, 'New'), (-1, 'New');"
		  . "DELETE FROM docs WHERE id = 38");
	my ($status, $out) = finish_query($query);
	like($out, qr/^41\|0\|0$/, 'rows are taken as they are, new ones and those before too');
	is(sql("SELECT count(*) FROM docs WHERE $right"), 41, 'also where repeatable read is the default');
}

# ---- two CALLs share a table ----

make_docs(60);
{
	my @queries = map { start_query($node, "$slow, batch_size => 5)") } 1 .. 2;
	my $done = 0;

	for my $query (@queries)
	{
		my ($status, $out, $err) = finish_query($query);
		$done += (split /\|/, $out)[0];
	}
	is($done, 60, 'together they do all');
	is(sql('SELECT count(*), count(DISTINCT id), count(DISTINCT by) FROM log'), '60|60|2',
		'each row once, and each has its part');
	is(sql("SELECT count(*) FROM docs WHERE $right"), 60, 'with the right outputs');
}

# ---- the engine is killed ----

# Kills it while it works for the query; false: the query has ended.
sub kill_engine
{
	my ($query) = @_;

	return poll_until(
		sub {
			return 1 unless $query->{run}->pumpable;
			$query->{run}->pump_nb;
			return sql('SELECT live_sequences > 0 FROM gpt_engine_counters()') eq 't'
			  && kill 'KILL', engines_of($node);
		});
}

make_docs(150);
{
	my $query = start_query($node, "$slow, batch_size => 25)");

	for my $n (1, 30, 60)
	{
		poll_sql($node, "SELECT count(summary) >= $n FROM docs");
		ok(kill_engine($query), "the engine is killed after $n rows");
	}
	my ($status, $out, $err) = finish_query($query);
	is($out, '150|0|0', 'which fails no row');
	is(sql("SELECT count(*), count(problem) FROM docs WHERE $right"), '150|0',
		'and changes no output');
}

# An engine that does not stay is waited for; nothing is marked.
make_docs(4);
{
	my $query = start_query($node, "CALL gpt_batch('docs', 'body', 'summary', max_len => 1000,"
		  . " model => 'slow', error_column => 'problem', batch_size => 1)");
	my $kills = 0;

	while ($query->{err} !~ /gpt_batch waits/ && $query->{run}->pumpable)
	{
		$kills++ if kill_engine($query);
	}
	like($query->{err}, qr/NOTICE:  00000: gpt_batch waits, because the engine has failed: .*ended 2/,
		'after two deaths it waits');
	my ($status, $out, $err) = finish_query($query);
	is($out, '4|0|0', "and goes on ($kills kills)");
	is(sql('SELECT count(problem) FROM docs'), 0, 'no row is marked as failed');
}

# ---- cancel, time limit ----

make_docs(300);
{
	my $query = start_query($node, "$slow, batch_size => 3)");

	ok(poll_sql($node, 'SELECT count(summary) >= 6 FROM docs'), 'some batches are committed');
	sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL%'});
	my ($status, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  57014/, 'a cancel ends it');
	ok(idle_engine($node), 'and what was in flight');
	my $kept = sql('SELECT count(summary) FROM docs');
	ok($kept >= 6 && $kept < 300 && $kept % 3 == 0, "whole batches are kept ($kept rows)");
	is(sql('SELECT count(problem) FROM docs'), 0, 'nothing is marked');
	my $result = sql("$slow, batch_size => 2, time_limit => '300 ms')");
	my ($done, $failed, $remaining) = split /\|/, $result;
	ok($done > 0 && $failed == 0 && $remaining > 0, "a time limit ends it in good order ($result)");
	is($done + $kept + $remaining, 300, 'and nothing is lost');
	$result = sql("SET gpt2.batch_rows = 4; $slow, batch_size => 10000, time_limit => '100 ms')");
	my ($more) = split /\|/, $result;
	like($result, qr/^[1-9]\d*\|0\|[1-9]/, "also in the middle of a batch ($result)");
	$done += $more;
	is(sql("SELECT count(*) FROM docs WHERE summary IS NOT NULL AND NOT $right"), 0,
		'all outputs are right');
	is(sql('SELECT count(*), count(*) - count(DISTINCT id) FROM log'), ($done + $kept) . '|0',
		'none was written twice');
	my ($rc, $nothing, $message) = $node->psql('postgres',
		"SET statement_timeout = '500ms'; $slow)");
	like($message, qr/canceling statement due to statement timeout/, 'statement_timeout holds');
}

# ---- a batch that takes long: its locks are in the way of others ----

make_docs(300);
{
	sql('CREATE ROLE throttled LOGIN; GRANT SELECT, UPDATE ON docs TO throttled;'
		  . 'GRANT INSERT ON log TO throttled;'
		  . 'ALTER ROLE throttled SET gpt2.max_tokens_per_minute = 3000');
	local $ENV{PGUSER} = 'throttled';
	my $query = start_query($node, 'SET gpt2.batch_rows = 1', "$slow, batch_size => 10000)");

	delete local $ENV{PGUSER};
	ok(poll_sql($node, 'SELECT count(summary) > 0 FROM docs'), 'it is committed before it is full');
	is(sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL%'"), 1, 'and goes on');
	sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL%'});
	finish_query($query);
	is(sql("SELECT count(*) FROM docs WHERE summary IS NOT NULL AND NOT $right"), 0, 'all is right');
	sql('DROP OWNED BY throttled; DROP ROLE throttled');
}

# ---- the table goes away ----

make_docs(300);
{
	my $query = start_query($node, "$slow, batch_size => 2)");

	poll_sql($node, 'SELECT count(summary) >= 2 FROM docs');
	sql('ALTER TABLE docs RENAME TO papers; CREATE TABLE docs (LIKE papers)');
	my ($status, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  55000: public\.docs was dropped or renamed meanwhile/,
		'another table of the same name is not taken for it');
	sql('DROP TABLE papers CASCADE');
}

# ---- the key gets another type ----

make_docs(300);
{
	my $beyond = '4294967297';	# 1 in the 32 bits that keys had

	sql('UPDATE docs SET body = NULL WHERE id = 1');
	my $query = start_query($node, "$slow, batch_size => 1)");

	poll_sql($node, 'SELECT count(summary) >= 2 FROM docs');
	sql("ALTER TABLE docs ALTER id TYPE bigint; INSERT INTO docs VALUES ($beyond, 'Far')");
	my ($status, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  55000: the type of key column "id" of public\.docs was changed meanwhile/,
		'keys are not taken for what they were');
	is(sql("SELECT count(summary) FROM docs WHERE id IN (1, $beyond)"), 0, 'and no row for another');
}

# ---- a source that may only be read ----

make_docs(9);
sql(<<'END');
CREATE ROLE reader LOGIN;
GRANT SELECT ON docs TO reader;
CREATE TABLE answers (id int PRIMARY KEY, answer text);
GRANT SELECT, INSERT ON answers TO reader;
END
{
	local $ENV{PGUSER} = 'reader';
	my $call = "CALL gpt_batch('docs', 'body', 'answer', target => 'answers', max_len => 20,"
	  . " model => 'slow', batch_size => 2)";
	my @queries = map { start_query($node, $call) } 1 .. 2;
	my $done = 0;

	for my $query (@queries)
	{
		my ($status, $out, $err) = finish_query($query);
		is($err, '', 'SELECT on the source, INSERT and SELECT on the target are enough');
		$done += (split /\|/, $out)[0];
	}
	is($done, 9, 'two of them write each row once');
}
is(sql("SELECT count(*) FROM answers JOIN docs USING (id)"
	  . " WHERE answer = gpt_summarize(body, 20, model => 'slow')"), 9, 'with the right outputs');

# ---- foreign tables ----

SKIP:
{
	skip 'postgres_fdw is not installed', 2
	  if sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") eq '0';
	my ($host, $port) = ($node->host, $node->port);

	sql(<<"END");
ALTER TABLE docs DISABLE TRIGGER log;
CREATE EXTENSION postgres_fdw;
CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
CREATE USER MAPPING FOR CURRENT_USER SERVER here;
CREATE FOREIGN TABLE far (id int, body text, summary text) SERVER here OPTIONS (table_name 'docs');
END
	is(sql("CALL gpt_batch('far', 'body', 'summary', max_len => 5, key => '{id}', batch_size => 4)"),
		'9|0|0', 'a foreign table with a key');
	is(sql('SELECT count(*) FROM docs WHERE summary = gpt_summarize(body, 5)'), 9,
		'has the right outputs');
}

$node->stop;
done_testing();
