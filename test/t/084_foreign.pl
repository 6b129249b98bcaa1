# Foreign tables below a GPT Batch: the same rows as row by row, whether an Append reads them
# asynchronously or not.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use Test::More;

my $node = new_server('main', conf => "gpt2.model = 'demo'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

plan skip_all => 'postgres_fdw is not installed'
  if sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") eq '0';
my $has_async = sql('SHOW server_version_num') >= 140000;
my $options = $has_async ? ", async_capable 'true'" : '';

my ($host, $port) = ($node->host, $node->port);
sql(<<"END");
CREATE EXTENSION postgres_fdw;
CREATE SERVER one FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host '$host', port '$port', dbname 'postgres'$options);
CREATE SERVER two FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host '$host', port '$port', dbname 'postgres'$options);
CREATE USER MAPPING FOR CURRENT_USER SERVER one;
CREATE USER MAPPING FOR CURRENT_USER SERVER two;
CREATE TABLE far_1 AS SELECT i AS id, 'Row ' || i AS body FROM generate_series(1, 30) AS i;
CREATE TABLE far_2 AS SELECT i AS id, 'Row ' || i AS body FROM generate_series(31, 60) AS i;
CREATE TABLE docs (id int, body text) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE docs_1 PARTITION OF docs FOR VALUES FROM (1) TO (31)
    SERVER one OPTIONS (table_name 'far_1');
CREATE FOREIGN TABLE docs_2 PARTITION OF docs FOR VALUES FROM (31) TO (61)
    SERVER two OPTIONS (table_name 'far_2');
CREATE TABLE docs_3 PARTITION OF docs FOR VALUES FROM (61) TO (100);
INSERT INTO docs SELECT i, 'Row ' || i FROM generate_series(61, 80) AS i;
END

my %queries = (
	'a call' => 'SELECT id, gpt_generate(body, 2) AS g FROM docs',
	'a filter' => "SELECT id FROM docs WHERE gpt_generate(body, 2) LIKE '%a%'",
	'a call that draws' =>
	  'SELECT setseed(0.1) FROM (SELECT id, gpt_generate(body, 2, temperature => 1) AS g FROM docs) AS q',
	'one that is given a seed' =>
	  'SELECT id, gpt_generate(body, 2, temperature => 1, seed => id) AS g FROM docs',
	'a filter that draws' => 'SELECT id FROM docs WHERE gpt_generate(body, 2, temperature => 1) IS NOT NULL',
	'different calls' => 'SELECT id, gpt_generate(body, 2) AS g FROM docs_1 '
	  . 'UNION ALL SELECT id, gpt_summarize(body, 2) FROM docs_2',
	'a call for some' => 'SELECT id, body FROM docs_1 UNION ALL SELECT id, gpt_generate(body, 2) FROM docs_2',
	'calls of calls' => 'SELECT id, gpt_generate(gpt_generate(body, 2), 2) AS g FROM docs',
	'joined' => 'SELECT a.id, gpt_generate(a.body || b.body, 2) AS g FROM docs AS a JOIN docs AS b USING (id)',
);

for my $name (sort keys %queries)
{
	my $query = "SELECT count(*), md5(string_agg(q::text, ',' ORDER BY q::text)) FROM ($queries{$name}) AS q";
	my $expected = sql("SET gpt2.batch_rows = 1; $query");

	cmp_ok((split /\|/, $expected)[0], '>', 0, "$name: there are rows") if $name !~ /filter/;
	is(sql($query), $expected, "$name: the same with rows in flight");
}

SKIP:
{
	skip 'nothing is asynchronous before PostgreSQL 14', 2 unless $has_async;
	my $plan = sql("EXPLAIN (COSTS OFF) $queries{'a call'}");
	like($plan, qr/GPT Batch.*Append.*Async Foreign Scan.*Async Foreign Scan/s,
		'one node above the Append, which reads asynchronously');
	unlike(sql("EXPLAIN (COSTS OFF) $queries{'a call that draws'}"), qr/GPT Batch.*Async/s,
		'where each partition has a node, it is the node that reads');
}

is(sql("UPDATE docs SET body = gpt_generate(body, 2); SELECT count(*) FROM docs WHERE body LIKE 'Row%'"),
	0, 'rows of foreign tables are updated');

$node->stop;
done_testing();
