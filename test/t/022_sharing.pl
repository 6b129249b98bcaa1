# What one engine for all is good for: an instruction that many rows share is computed once, a
# cancelled SELECT that is repeated pays only for what is new, and a role that has filled the engine
# does not keep others out.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main', slow_model => 1,
	conf => "gpt2.result_cache_size = 64MB\ngpt2.price_per_hour = 1.5\ngpt2.model = 'demo'\n");

# One sum over this month's rows of gpt_stat_usage.
sub used
{
	my ($what, $where) = @_;
	return $node->safe_psql('postgres',
		"SELECT coalesce(sum($what), 0) FROM gpt_stat_usage" . ($where ? " WHERE $where" : ''));
}

# ---- the prefix cache ----

# An instruction of more than 300 tokens, and rows that differ behind it.
$node->safe_psql('postgres', <<'END');
CREATE TABLE instruction AS
	SELECT string_agg('Ticket ' || i || ': the printer does not print.', ' ') AS text
	FROM generate_series(1, 25) AS i;
CREATE TABLE answers AS SELECT c.*
	FROM instruction, generate_series(1, 1000) AS row,
		LATERAL gpt_completions(text || ' Row ' || row || ':', 2, model => 'demo') AS c;
END
my ($tokens, $prompt, $cached, $missed) = split /\|/, $node->safe_psql('postgres', <<'END');
SELECT gpt_count_tokens(text), sum(prompt_tokens), sum(cached_tokens),
	count(*) FILTER (WHERE cached_tokens < gpt_count_tokens(text) - 32)
FROM instruction, answers GROUP BY text
END
cmp_ok($tokens, '>=', 300, "the instruction has $tokens tokens");
is($missed, 1, 'one row of 1,000 computed it');
cmp_ok($prompt - $cached, '<', $tokens + 1000 * 64, "$cached of $prompt prompt tokens were cached");
is(used('cached_tokens'), $cached, 'and counted');
is(used('prompt_tokens'), $prompt, 'prompt tokens are counted');
is($node->safe_psql('postgres',
		"SELECT prefix_hit_ratio > 0.8 FROM gpt_stat_engine WHERE model = 'demo'"),
	't', 'the ratio is to be seen');

# Another role, or the same with another salt, finds nothing.
$node->safe_psql('postgres', 'CREATE ROLE other LOGIN; GRANT SELECT ON instruction TO other');
my $ask = "SELECT cached_tokens FROM instruction, "
  . "LATERAL gpt_completions(text || ' Row 0:', 2, model => 'demo')";
cmp_ok($node->safe_psql('postgres', $ask), '>=', 300, 'the same role finds it');
is($node->safe_psql('postgres', "SET ROLE other; $ask"), 0, 'another role does not');
is($node->safe_psql('postgres', "SET gpt2.prefix_cache_salt = 'mine'; $ask"), 0,
	'nor does the same with a salt');

# ---- the result cache ----

$node->safe_psql('postgres', <<'END');
CREATE TABLE texts AS SELECT i AS id, 'Text number ' || i || ' is about a' AS body
	FROM generate_series(1, 3000) AS i;
END
# In the order of the table: from 16 on a plan may sort all rows before an aggregate with ORDER BY.
my $select = "SELECT md5(string_agg(gpt_generate(body, 4), ',')) FROM texts";
my $before = used('calls');
# Row by row, it waits for a lock before the row behind 60 %.
my $lock = open_session($node);
ask($lock, 'SELECT pg_advisory_lock(1);');
my $query = start_query($node, 'SET gpt2.batch_rows = 1',
	"$select WHERE id <> 1801 OR pg_advisory_lock(1)::text = ''");
ok(poll_sql($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"),
	'a SELECT has done 60 % ...');
cancel_queries($node, '%string_agg(gpt_generate%');
like((finish_query($query))[2], qr/57014/, '... when it is cancelled');
is(used('calls') - $before, 1800, 'its calls are counted');
my $hits = used('result_hits');
my $made = used('completion_tokens');
my $text = $node->safe_psql('postgres', $select);
is(used('result_hits') - $hits, 1800, 'its rows come out of the cache');
cmp_ok(used('completion_tokens') - $made, '<=', 1200 * 4, 'the others are computed');
is($node->safe_psql('postgres', $select), $text, 'once more, all of it from the cache');
is($node->safe_psql('postgres', "SET gpt2.prefix_cache_salt = 'x'; $select"), $text,
	'and with a salt computed again: the same');

# ---- what it cost ----

is($node->safe_psql('postgres', <<'END'), 't', 'time, cost and price are there');
SELECT bool_and(compute_time > '0' AND cost > 0 AND price_per_million_tokens > 0
	AND abs(cost - extract(epoch FROM compute_time)::float8 / 3600 * 1.5) < 1e-6 + cost * 0.01)
FROM gpt_stat_usage WHERE completion_tokens > 0
END

# ---- roles ----

# One role fills all slots for a long time; another's request is served at once.
$node->safe_psql('postgres', 'CREATE ROLE greedy LOGIN; CREATE ROLE modest LOGIN');
my @greedy = map {
	start_query($node, 'SET SESSION AUTHORIZATION greedy',
		"SELECT count(*) FROM gpt_generate('Once', 500, n => 128, model => 'slow', seed => $_)")
} (1 .. 4);
ok(poll_sql($node, <<'END'), 'one role holds all slots, and more waits');
SELECT count(*) FILTER (WHERE state IN ('prefill', 'decode')) >= 256
	AND count(*) FILTER (WHERE state = 'queued') >= 128
FROM gpt_stat_requests WHERE usename = 'greedy'
END
my $started = time;
my ($rc, $out, $err) = finish_query(
	start_query($node, 'SET SESSION AUTHORIZATION modest',
		"SELECT length(gpt_generate('Once', 5, model => 'slow')) > 0"));
is("$out$err", 't', 'another is served');
elapsed_ok($started, 3, 'another is served');
ok($node->safe_psql('postgres', 'SELECT sum(preemptions) > 0 FROM gpt_stat_engine') eq 't',
	'room was made for it');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%n => 128%'"
	  . ' AND pid <> pg_backend_pid()');
finish_query($_) for @greedy;
ok(idle_engine($node), 'nothing is left in the engine');

done_testing();
