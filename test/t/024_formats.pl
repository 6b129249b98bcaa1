# Weight formats, and speculation: what the settings do, and that a text does not depend on drafts.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# As it comes: without the settings that other tests make.
my $node = new_server('main',
	conf => "gpt2.weight_format = 'q8'\ngpt2.speculation = on\n");
# Steps cost the way through its layers, and rows next to nothing, whatever the processor has: so drafts
# are worth it.
add_slow_model($node, 'deep', 7, 1024, 48, 32);
my $ask = "SELECT gpt_summarize('Hello, I bought the Wozan kettle X20 last month. Since yesterday it "
  . "leaks water. I would like a refund. Ann', model => 'demo')";
my $format = "SELECT weight_format FROM gpt_models WHERE name = 'demo'";
my %text;

is( $node->safe_psql('postgres', "LOAD 'gpt2'; SELECT boot_val FROM pg_settings WHERE name = 'gpt2.weight_format'"),
	'q8', 'q8 is the default');
for my $name (qw(q8 q4 bf16 f32))
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET gpt2.weight_format = '$name'");
	$node->reload;
	ok( poll_until(
			sub {
				$node->psql('postgres', "SELECT gpt_unload_model('demo')");
				$text{$name} = $node->safe_psql('postgres', $ask);
				return $node->safe_psql('postgres', $format) eq $name;
			},
			180),
		"$name: the model is loaded in it");
	like($text{$name}, qr/kettle/, "$name: the summary is one");
	is($node->safe_psql('postgres', $ask), $text{$name}, "$name: and the same again");
}

# Texts of random weights repeat themselves, the less the higher the temperature.
my $drawn = "SELECT md5(string_agg(t, '|')) FROM (SELECT gpt_generate('Once', 200, model => 'deep',"
  . ' temperature => 0.3 * (i - 1), seed => i) t FROM generate_series(1, 4) i) s';
my $with = $node->safe_psql('postgres', $drawn);

# Whether a draft is worth its cost is learned from what steps take: a new prompt each time shows
# what many rows cost, one text at a time what one does.
my $round = 0;

ok( poll_until(
		sub {
			$round++;
			is($node->safe_psql('postgres', "SET gpt2.batch_rows = 1; $drawn"), $with, 'the same texts again');
			$node->safe_psql('postgres',
				"SELECT gpt_generate('$round' || repeat(' and so on', 20), 8, model => 'deep')");
			return $node->safe_psql('postgres',
				"SELECT draft_hit_ratio > 0.2 FROM gpt_stat_engine WHERE model = 'deep'") eq 't';
		},
		180),
	'on: drafts are tried and kept');
$node->safe_psql('postgres', 'ALTER SYSTEM SET gpt2.speculation = off');
$node->reload;
ok( poll_until(
		sub {
			my $count = "SELECT drafted_tokens FROM gpt_stat_engine WHERE model = 'deep'";
			my $before = $node->safe_psql('postgres', $count);
			is($node->safe_psql('postgres', $drawn), $with, 'the same texts');
			return $node->safe_psql('postgres', $count) eq $before;
		},
		180),
	'off: no more drafts');
$node->stop;
done_testing();
