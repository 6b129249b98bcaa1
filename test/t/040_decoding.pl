# Decoding options with a server around them: tokens without text, a beam search that is cancelled,
# watched, limited, interrupted by the engine's death, and among others with too few blocks.
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

sub value
{
	return $node->safe_psql('postgres', encode_utf8($_[0]));
}

sub failure
{
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n" . encode_utf8($_[0]));

	$err =~ /ERROR:\s+(\S+): (.*)/ or return "no error: $out";
	return "$1 $2";
}

# ---- tokens without text ----

my @pieces = (split(' ', '[PAD] [UNK] [CLS] [SEP] [MASK]'), split(//, '这是一个关于大模型的文章'),
	map { "w$_" } 1 .. 40);

system_or_bail(engine_program(), 'synth', "$models/bert", '--layer', 1, '--embd', 16,
	'--head', 2, '--ctx', 64, '--vocab', scalar @pieces, '--sigma', 1, '--seed', 3);
append_to_file("$models/bert/vocab.txt", encode_utf8(join('', map { "$_\n" } @pieces)));
for my $id (0, 1, 2, 4)
{
	my $bias = "'{\"logit_bias\": {\"$id\": 100}}'";

	is(value("SELECT token_ids, completion FROM gpt_completions('这是', 4, model => 'bert',
		options => $bias)"), "{$id,$id,$id,$id}|", "logit_bias alone lifts the ban of $pieces[$id]");
	is(value("SELECT bool_and($id = ALL(token_ids)), count(*) FROM gpt_completions('这是', 4, n => 3,
		model => 'bert', options => '{\"logit_bias\": {\"$id\": 100}, \"num_beams\": 3,
		\"no_repeat_ngram_size\": 0}') WHERE seq = 1"), 't|1', "$pieces[$id] in a search");
}
is(value("SELECT bool_or(token_ids && '{0,1,2,4}') FROM gpt_completions('这是', 20, n => 8,
	model => 'bert', options => '{\"num_beams\": 8, \"min_new_tokens\": 20}')"), 'f',
	'a search finds none of them');
is(value("SELECT prompt_tokens FROM gpt_completions('这是', 2, model => 'bert',
	options => '{\"add_start\": true}')"), 3, 'add_start puts [CLS] before a prompt');
is(value("SELECT gpt_generate('这是', 5, model => 'bert', options => '{\"add_start\": true}')
	<> gpt_generate('这是', 5, model => 'bert')"), 't', 'which the model sees');
like(failure("SELECT gpt_generate('这是', 5, model => 'bert', options => '{\"num_beams\": 64}')"),
	qr/^22023 num_beams \(64\) is more than half of the vocabulary of model "bert" \(57 tokens\)/,
	'more beams than the vocabulary can feed');
like(failure("SELECT gpt_generate('这是', 5, model => 'bert',
	options => '{\"logit_bias\": {\"57\": 1}}')"),
	qr/^22023 logit_bias names token 57, but model "bert" has only 57 tokens/, 'a token too many');

# ---- a search in the engine ----

sub search
{
	my ($tokens, $beams, $n) = @_;
	return "SELECT md5(array_agg(completion || logprob ORDER BY seq)::text)"
	  . " FROM gpt_completions('Once', $tokens, n => " . ($n || 1)
	  . ", model => 'slow', options => '{\"num_beams\": $beams, \"length_penalty\": 0.8}')";
}

my $right = value(search(60, 4, 4));
my $endless = search(5000, 4);

# Cancelled in the middle.
{
	my $query = start_query($node, $endless, search(60, 4, 4));

	ok(wait_generating($node), 'cancel: searching');
	ok(poll_sql($node, "SELECT count(*) = 4 AND count(DISTINCT generated_tokens) = 1
		FROM gpt_stat_requests WHERE state = 'decode'"), 'a row for each beam, of equal length');
	cancel_queries($node, '%5000%');
	my ($rc, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  57014: canceling statement due to user request/, 'cancel: 57014');
	is($out, $right, 'cancel: the next search in the same session');
	ok(idle_engine($node), 'cancel: nothing is left in the engine');
}

# The engine dies in the middle.
{
	my $query = start_generating($node, search(1000, 3, 3));

	ok(wait_generating($node), 'death: searching');
	kill 'KILL', engine_pid($node);
	ok(wait_generating($node), 'death: searching again');
	my ($rc, $out, $err) = finish_generating($node, $query);
	is("$out$err", value(search(1000, 3, 3)), 'death: the search ends with the same texts');
}

# What it counts for.
{
	my $usage = "SELECT sequences, completion_tokens FROM gpt_stat_usage WHERE model = 'slow'";
	my $bias = '"logit_bias": {"256": -100}';

	value('SELECT gpt_stat_reset()');
	value("SELECT gpt_generate('Once', 10, model => 'slow', options => '{\"num_beams\": 6, $bias}')");
	is(value($usage), '6|60', 'each beam counts as a sequence, with its tokens');
	value('CREATE ROLE ann LOGIN');
	value("LOAD 'gpt2'; ALTER ROLE ann SET gpt2.max_concurrent_sequences = 3");
	my ($rc, $out, $err) = $node->psql('postgres', search(10, 4),
		connstr => $node->connstr('postgres') . ' user=ann');
	like($err, qr/over the limit of role "ann": gpt2.max_concurrent_sequences is 3/,
		'more beams than the role may run');
	($rc, $out, $err) = $node->psql('postgres', search(10, 3),
		connstr => $node->connstr('postgres') . ' user=ann');
	is($rc, 0, 'as many as it may');
}

# Among others, in a cache that holds few of them at a time.
{
	my @options = (
		'"num_beams": 5', '"num_beams": 3, "no_repeat_ngram_size": 2',
		'"num_beams": 4, "presence_penalty": 1.5, "length_penalty": -1',
		'"no_repeat_ngram_size": 3', '"presence_penalty": 1, "frequency_penalty": 0.5',
		'"typical_p": 0.5', '"logit_bias": {"101": 3}, "min_new_tokens": 90');
	my @sql = map {
		my $temperature = $options[$_] =~ /beams/ ? 0 : 0.8;
		"SELECT md5(gpt_generate(repeat('Once upon ', 1 + $_), 100, model => 'small',"
		  . " temperature => $temperature, seed => $_, options => '{$options[$_]}'))"
	} 0 .. $#options;

	add_slow_model($node, 'small', 9, 256);
	my @alone = map { value($_) } @sql;
	$node->append_conf('postgresql.conf', "gpt2.kv_cache_size = '8MB'\n");
	$node->safe_psql('postgres', 'SELECT gpt_stop_engine()');
	$node->reload;
	my @queries = map { start_query($node, $_, $_) } @sql, @sql;
	for my $i (0 .. $#queries)
	{
		my ($rc, $out, $err) = finish_query($queries[$i]);
		my $expected = $alone[$i % @sql];
		is("$out$err", "$expected\n$expected", "together: $options[$i % @sql]");
	}
	ok(idle_engine($node), 'together: nothing is left in the engine');
}

$node->stop;
done_testing();
