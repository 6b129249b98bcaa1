# Other libraries in the same server: in whatever order they are loaded, the plans that their hooks
# look at are alive and those that they know; what is below another library's plan node is left alone.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use BatchStatements;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

sub pg_config
{
	my $value = `"@{[ $ENV{PG_CONFIG} || 'pg_config' ]}" $_[0]`;
	chomp $value;
	return $value;
}

my $neighbour = PostgreSQL::Test::Utils::tempdir_short() . '/neighbour';
system_or_bail(split(' ', pg_config('--cc')), qw(-O2 -g -Wall -shared -fPIC),
	'-I' . pg_config('--includedir-server'), '-o', "$neighbour.so",
	"$FindBin::RealBin/../modules/neighbour.c");

plan skip_all => 'auto_explain or pg_stat_statements is not installed'
  if grep { !-e pg_config('--pkglibdir') . "/$_.so" } qw(auto_explain pg_stat_statements);

my $node = new_server('main', conf => "gpt2.model = 'demo'\ngpt2.max_len = 3\n"
	  . "auto_explain.log_min_duration = 0\nauto_explain.log_analyze = on\n"
	  . "auto_explain.log_nested_statements = on\n");
$node->safe_psql('postgres', batch_setup());
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_stat_statements'\n");
$node->restart;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements');

# ---- hooks ----

my $statements = <<'END';
SELECT id, gpt_generate(body) FROM t WHERE gpt_generate(body, 2) LIKE '%a%';
UPDATE t SET alt = gpt_generate(body) WHERE id < 9 RETURNING id, alt;
WITH c AS MATERIALIZED (SELECT id, gpt_generate(body) AS g FROM t) SELECT a.g, b.g
    FROM c AS a JOIN c AS b ON b.id = a.id + 1 ORDER BY a.id;
PREPARE p(int) AS SELECT gpt_generate(body) FROM t WHERE id < $1;
SET LOCAL plan_cache_mode = force_generic_plan;
EXECUTE p(4); EXECUTE p(7); DEALLOCATE p;
DECLARE c CURSOR FOR SELECT id, gpt_generate(body) FROM t; FETCH 3 FROM c; CLOSE c;
SELECT * FROM pl(4);
SELECT id, one(body) FROM t WHERE id < 5;
SELECT many() LIMIT 3;
SAVEPOINT a;
SELECT gpt_generate(body, 5 - id) FROM t;
ROLLBACK TO a;
COPY (SELECT gpt_generate(body) FROM t WHERE id < 4) TO STDOUT;
DECLARE h CURSOR WITH HOLD FOR SELECT id, gpt_generate(body, 2) FROM t; FETCH 1 FROM h;
END

sub run_statements
{
	my ($rows) = @_;
	my ($out, $err);

	$node->psql('postgres', "BEGIN; SET LOCAL gpt2.batch_rows = $rows; SET neighbour.tell = on;\n"
		  . "$statements\nROLLBACK;\n", stdout => \$out, stderr => \$err, on_error_stop => 0);
	return ($out, $err);
}

my ($right) = run_statements(1);

for my $order (
	[qw(auto_explain pg_stat_statements gpt2)], [qw(auto_explain gpt2 pg_stat_statements)],
	[qw(pg_stat_statements auto_explain gpt2)], [qw(pg_stat_statements gpt2 auto_explain)],
	[qw(gpt2 auto_explain pg_stat_statements)], [qw(gpt2 pg_stat_statements auto_explain)],
	[qw(auto_explain pg_stat_statements)])
{
	for my $libraries ([ $neighbour, @$order ], [ @$order, $neighbour ])
	{
		my $names = join(', ', @$libraries);
		my $what = $names =~ s/\Q$neighbour\E/neighbour/r;

		$node->append_conf('postgresql.conf', "shared_preload_libraries = '$names'\n");
		$node->restart;
		$node->safe_psql('postgres', 'SELECT pg_stat_statements_reset()');
		my $from = -s $node->logfile;
		my ($out, $err) = run_statements(64);

		is($out, $right, "$what: the same rows");
		is(() = $err =~ /ERROR/g, 1, "$what: no error but that of a row") or diag($err);
		cmp_ok(scalar(() = $err =~ /the plan is as it was/g), '>', 10,
			"$what: plans are there after their end");
		my @plans = slurp_file($node->logfile, $from) =~ /GPT Batch.*\n.*Batched Calls: gpt_generate/g;
		cmp_ok(scalar @plans, '>=', 8, "$what: auto_explain shows the nodes");
		is( $node->safe_psql('postgres', 'SELECT sum(calls) FROM pg_stat_statements WHERE '
				  . "query LIKE 'UPDATE t SET alt%' AND rows = 8"), 1,
			"$what: pg_stat_statements counts the statement");
	}
}

# ---- plan nodes ----

my $query = 'SELECT id, gpt_generate(body, 2) FROM t WHERE gpt_generate(body) IS NOT NULL';
my $plan = $node->safe_psql('postgres',
	"LOAD '$neighbour'; SET neighbour.wrap = on; EXPLAIN (COSTS OFF) $query");
like($plan, qr/^Custom Scan \(Neighbour\)\n  ->  Seq Scan/, 'the plan of the neighbour is as it was made');
unlike($plan, qr/GPT Batch/, 'there is no node of ours in it');
is($node->safe_psql('postgres', "LOAD '$neighbour'; SET neighbour.wrap = on; $query"),
	$node->safe_psql('postgres', $query), 'it gives the same rows');
like($node->safe_psql('postgres', "EXPLAIN (COSTS OFF) $query"), qr/GPT Batch/,
	'and where it does not wrap them, calls are in flight');
like($node->safe_psql('postgres', "LOAD '$neighbour'; SET neighbour.wrap = on; EXPLAIN (COSTS OFF) "
		  . 'SELECT gpt_generate(body, 2) FROM (SELECT body FROM t OFFSET 0) AS q'),
	qr/^Custom Scan \(GPT Batch\).*Subquery Scan on q\n +->  Custom Scan \(Neighbour\)\n +->  Seq Scan/s,
	'so they are above it');

$node->stop;
done_testing();
