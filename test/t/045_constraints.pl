# Constraints in a server: the engine dies in the middle, rows in flight, many sessions with
# expressions that take long to refuse, limits, encodings, vocabularies of another kind, and a schema
# of every kind at random budgets, each value of which PostgreSQL's own jsonb has to take.
use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', slow_model => 1);
my $models = $node->data_dir . '/gpt2_models';

# The SQLSTATE and message of a query that fails, with its hint.
sub failure
{
	my ($sql, $database) = @_;
	my ($rc, $out, $err) =
	  $node->psql($database || 'postgres', "\\set VERBOSITY verbose\n" . encode_utf8($sql));

	$err =~ /ERROR:\s+(\S+): (.*)/ or return "no error: $out";
	my $error = "$1 $2";
	return $err =~ /HINT:\s+(.*)/ ? "$error | $1" : $error;
}

# ---- the engine dies ----

{
	my $sql = q{SELECT g, gpt_generate('Row ' || g, 150, model => 'slow', temperature => 1, seed => g,
		options => '{"regex": "([a-f]+ [0-9]{1,3}, ){8,}end"}') FROM generate_series(1, 6) g};
	my $right = $node->safe_psql('postgres', $sql);

	like($right, qr/^(\d\|([a-f]+ \d{1,3}, ){8,}end(\n|$)){6}\z/, 'six texts as the regex says');
	for my $signal ('KILL', 'TERM')
	{
		my $query = start_generating($node, "SELECT string_agg(g || '|' || t, E'\\n') FROM ($sql) AS q(g, t)");

		ok(wait_generating($node), "$signal: generating");
		kill $signal, engine_pid($node);
		ok(wait_generating($node), "$signal: generating again");
		my ($rc, $out, $err) = finish_generating($node, $query);
		is("$out$err", $right, "$signal: the same texts");
	}
	is($node->safe_psql('postgres', "SET gpt2.batch_rows = 1; $sql"), $right,
		'row by row: the same texts');
	$node->append_conf('postgresql.conf', "gpt2.speculation = on\n");
	$node->reload;
	is($node->safe_psql('postgres', $sql), $right, 'with drafts: the same texts');
}

# ---- cancelled while it runs ----

{
	my $session = open_session($node);
	my $pid = ask($session, 'SELECT pg_backend_pid();');
	my $query = start_query($node,
		q{DO $$ BEGIN LOOP PERFORM gpt_generate('x', 4000, model => 'slow',
		      options => '{"regex": "[a-z]{900}( [a-z]{900}){3}"}'); END LOOP; END $$});

	ok(wait_generating($node), 'a long text: generating');
	cancel_queries($node, 'DO %');
	my ($rc, $out, $err) = finish_query($query);
	like($err, qr/57014/, 'a long text: cancelled');
	ok(idle_engine($node), 'a long text: nothing is left of it');
	is(ask($session, 'SELECT pg_backend_pid();'), $pid, 'another session goes on');
}

# ---- expressions that take long to refuse ----

{
	my @bad = ('(a|b)*a(a|b){30}', '.*a.{20}', '((a{1000}){1000}){1000}', '(.{0,1000}x){0,3}');
	my @queries = map {
		start_query($node, "SELECT gpt_generate('x', 5, model => 'demo', options => "
			. "jsonb_build_object('regex', '$bad[$_ % @bad]'))")
	} (0 .. 11);

	is($node->safe_psql('postgres', "SELECT gpt_generate('x', 5, model => 'demo', options => "
			. q('{"regex": "[0-9]{3}"}') . ") ~ '^[0-9]{3}\$'"),
		't', 'others are answered meanwhile');
	for my $query (@queries)
	{
		my ($rc, $out, $err) = finish_query($query);
		like($err, qr/54000.*the regex is too complex/s, 'refused');
	}
	ok(idle_engine($node), 'nothing is left of them');
}

# ---- what a role may ----

$node->safe_psql('postgres',
	'CREATE ROLE few LOGIN; ALTER ROLE few SET gpt2.max_tokens_per_call = 5');
{
	my ($rc, $out, $err) = $node->psql('postgres',
		q{SELECT gpt_generate('x', 20, model => 'demo', options => '{"regex": "[0-9]{3}"}')},
		extra_params => [ '-U', 'few' ]);

	like($err, qr/max_tokens_per_call/, 'limits of roles hold');
}

# ---- encodings ----

$node->safe_psql('postgres',
	"CREATE DATABASE latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
$node->safe_psql('latin1', 'CREATE EXTENSION gpt2');
is( $node->safe_psql('latin1', encode_utf8(q{SET client_encoding = 'UTF8';
	SELECT gpt_generate('x', 20, model => 'demo', options => '{"choice": ["grün"]}')})),
	encode_utf8('grün'), 'a choice in another encoding');
is( $node->safe_psql('latin1', encode_utf8(q{SET client_encoding = 'UTF8';
	SELECT gpt_generate('x', 20, model => 'demo', options => '{"regex": "[ä-ü]{4}"}') ~ '^[ä-ü]{4}$'})),
	't', 'a regex in another encoding');

# ---- other vocabularies ----

mkdir $models;
system_or_bail(engine_program(), 'synth', "$models/bert", '--layer', 1, '--embd', 16, '--head', 2,
	'--ctx', 64, '--vocab', 7, '--seed', 3);
append_to_file("$models/bert/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n");
like(failure(q{SELECT gpt_generate('a', 5, model => 'bert', options => '{"choice": ["a"]}')}),
	qr/^0A000 choice, regex and json_schema need a byte-level vocabulary.*\| Use a model/,
	'a vocabulary of words is refused');
is(failure(q{SELECT gpt_generate('a', 5, model => 'bert')}) =~ /^no error/, 1,
	'and generates without a constraint');

# ---- budgets ----

like(failure(q{SELECT gpt_generate('x', 8, model => 'slow', options => '{"regex": "[0-9]{9}"}')}),
	qr/^22023 max_len is too small for the regex \| Raise max_len/, 'a budget that is too small');
is($node->safe_psql('postgres',
		q{SELECT gpt_generate('x', 9, model => 'slow', options => '{"regex": "[0-9]{9}"}') ~ '^\d{9}$'}),
	't', 'one that is just enough');

my $schema = q({"type": "object", "properties": {
	"id": {"type": "integer", "minimum": 1}, "name": {"type": "string", "minLength": 1},
	"score": {"type": "number", "minimum": -1, "maximum": 1}, "code": {"type": "string",
	"pattern": "^[A-Z]{3}\\\\d+$"}, "tags": {"type": "array", "items": {"enum": ["a", "b\"", null]}},
	"more": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/more"}]}, "any": {}},
	"required": ["id", "name", "code"], "$defs": {"more": {"type": "object",
	"properties": {"more": {"$ref": "#/$defs/more"}, "ok": {"type": "boolean"}},
	"required": ["ok"]}}});
is( $node->safe_psql('postgres', qq{
	SELECT count(*) FROM generate_series(1, 150) AS i,
		LATERAL (SELECT gpt_generate('Row ' || i, 33 + i % 60, model => 'slow', temperature => 3,
			seed => i, options => jsonb_build_object('json_schema', \$s\$$schema\$s\$::jsonb))::jsonb) AS t(j)
	WHERE (j->>'id')::bigint >= 1 AND length(j->>'name') >= 1 AND j->>'code' ~ '^[A-Z]{3}\\d+\$'
		AND coalesce((j->>'score')::numeric BETWEEN -1 AND 1, true)
		AND j - ARRAY['id', 'name', 'score', 'code', 'tags', 'more', 'any'] = '{}'}),
	150, 'every value is valid, at any budget');

# ---- what is counted ----

is($node->safe_psql('postgres',
		q{SELECT sum(errors) > 0 AND sum(calls) > 150 FROM gpt_stat_usage}), 't',
	'calls and errors are counted');

$node->stop('fast');
done_testing();
