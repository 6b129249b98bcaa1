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

# A CALL stands before a row that it writes while another session holds the advisory lock of that
# number: so what is done meanwhile is done in the middle of the CALL, on any machine.
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
BEGIN
    PERFORM pg_advisory_xact_lock_shared(NEW.id);
    INSERT INTO log VALUES (NEW.id);
    RETURN NEW;
END \$\$;
CREATE TRIGGER log AFTER UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION log();
END
	return;
}

# A CALL that stands before a row, and the session that holds its lock.
sub start_before
{
	my ($row, @statements) = @_;
	my $other = open_session($node);

	ask($other, "SELECT pg_advisory_lock($row);");
	my $query = start_query($node, @statements);
	ok(stands_at_lock($node), 'a CALL is in the middle');
	return ($query, $other);
}

# It goes on.
sub end_session
{
	my ($session) = @_;
	$session->{in} .= "\\q\n";
	$session->{run}->finish;
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
	ask($other, 'SELECT pg_advisory_lock(31);');
	my $query = start_query($node, "$slow, batch_size => 2)");
	ok(stands_at_lock($node), 'locked rows are passed over');
	is(sql('SELECT count(summary), count(*) FILTER (WHERE id IN (2, 3) AND summary IS NOT NULL) FROM docs'),
		'28|0', 'while they are locked');
	ask($other, 'ROLLBACK;');
	ask($other, 'SELECT pg_advisory_unlock(31);');
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
	my ($query, $other) = start_before(20,
		"SET default_transaction_isolation = 'repeatable read'", "$slow, batch_size => 1)");

	is(sql('SELECT count(summary) FROM docs'), 19, 'it commits as it goes');
	sql("UPDATE docs SET body = 'My lamp is dark' WHERE id = 39;"
		  . "INSERT INTO docs VALUES (41, 'New'), (-1, 'New');"
		  . "DELETE FROM docs WHERE id = 38");
	end_session($other);
	my ($status, $out) = finish_query($query);
	like($out, qr/^41\|0\|0$/, 'rows are taken as they are, new ones and those before too');
	is(sql("SELECT count(*) FROM docs WHERE $right"), 41, 'also where repeatable read is the default');
}

# ---- two CALLs share a table ----

make_docs(60);
{
	my $other = open_session($node);
	ask($other, 'SELECT pg_advisory_lock(1);');
	my @queries = map { start_query($node, "$slow, batch_size => 5)") } 1 .. 2;
	my $done = 0;

	ok(stands_at_lock($node), 'one stands before its first row');
	ok(poll_sql($node, 'SELECT count(summary) >= 5 FROM docs'), 'the other goes on');
	end_session($other);
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
			return 1 unless is_running($query);
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

# An engine that does not stay is waited for; nothing is marked.  It is killed from within the server, as
# soon as it is at work: twice under the call that is sent ahead, and twice when it is its turn.
make_docs(1);
{
	my $killer = open_session($node);
	ask($killer, 'SELECT live_sequences FROM gpt_engine_counters();');
	my $query = start_query($node, "CALL gpt_batch('docs', 'body', 'summary', max_len => 3500,"
		  . " model => 'slow', error_column => 'problem', batch_size => 1)");
	is(ask($killer, <<'END'), '', 'four engines are killed');
DO $$
BEGIN
    FOR i IN 1 .. 4 LOOP
        WHILE (SELECT live_sequences > 0 FROM gpt_engine_counters()) IS NOT TRUE LOOP
            PERFORM pg_sleep(0.001);
        END LOOP;
        EXECUTE (SELECT format('COPY (SELECT 1) TO PROGRAM %L', 'cat >/dev/null; kill -9 ' || engine_pid)
                 FROM gpt_info());
    END LOOP;
END $$;
END
	my ($status, $out, $err) = finish_query($query);
	like($err, qr/NOTICE:  00000: gpt_batch waits, because the engine has failed: .*ended 2/,
		'after two deaths of a call it waits');
	is($out, '1|0|0', 'and goes on');
	is(sql('SELECT count(problem) FROM docs'), 0, 'no row is marked as failed');
	end_session($killer);
}

# ---- cancel, time limit ----

make_docs(300);
{
	my $other = open_session($node);
	ask($other, 'SELECT pg_advisory_lock(60), pg_advisory_lock(150);');
	my $query = start_query($node, "$slow, batch_size => 3)");

	ok(stands_at_lock($node), 'some batches are committed');
	# It is met at work as soon as it goes on, or before the next row that is held.
	ask($other, <<'END');
DO $$
BEGIN
    PERFORM pg_advisory_unlock(60);
    WHILE NOT (SELECT live_sequences > 0 FROM gpt_engine_counters())
      AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) LOOP
        PERFORM pg_sleep(0.001);
    END LOOP;
    PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL%';
END $$;
END
	my ($status, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  57014/, 'a cancel ends it');
	ok(idle_engine($node), 'and what was in flight');
	my $kept = sql('SELECT count(summary) FROM docs');
	ok($kept >= 57 && $kept < 150 && $kept % 3 == 0, "whole batches are kept ($kept rows)");
	is(sql('SELECT count(problem) FROM docs'), 0, 'nothing is marked');
	# It stands before a row until its time is over, if it comes so far.
	ask($other, 'SELECT pg_advisory_unlock(150), pg_advisory_lock(290);');
	$query = start_query($node, "$slow, batch_size => 2, time_limit => '300 ms')");
	poll_until(sub {
		return !is_running($query) || sql("SELECT count(*) = 1 FROM pg_stat_activity
			WHERE query LIKE 'CALL%' AND now() - query_start > '1 s'") eq 't';
	});
	end_session($other);
	my $result = (finish_query($query))[1];
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
		"SET statement_timeout = '500ms'; " . $slow =~ s/60/2000/r . ')');
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
	cancel_queries($node, 'CALL%');
	finish_query($query);
	is(sql("SELECT count(*) FROM docs WHERE summary IS NOT NULL AND NOT $right"), 0, 'all is right');
	sql('DROP OWNED BY throttled; DROP ROLE throttled');
}

# A change of the table waits for the CALL's transaction, and is the next that has the table.
sub change_meanwhile
{
	my ($other, $change) = @_;
	my $query = start_query($node, $change);

	ok(poll_sql($node,
			"SELECT count(*) = 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"),
		'a change waits for its transaction');
	end_session($other);
	is((finish_query($query))[2], '', 'and is made');
	return;
}

# ---- the table goes away ----

make_docs(300);
{
	my ($query, $other) = start_before(20, "$slow, batch_size => 2)");

	change_meanwhile($other, 'ALTER TABLE docs RENAME TO papers; CREATE TABLE docs (LIKE papers)');
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
	my ($query, $other) = start_before(20, "$slow, batch_size => 1)");

	change_meanwhile($other,
		"ALTER TABLE docs ALTER id TYPE bigint; INSERT INTO docs VALUES ($beyond, 'Far')");
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
