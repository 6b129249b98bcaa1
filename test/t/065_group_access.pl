# Whatever is written into the data directory has the permissions that the cluster was initialised with:
# with group access (initdb -g) a backup by another user of the group reads trained models too.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $trains = -x engine_program() =~ s/gpt2_engine$/gpt2_train/r;
my $small = "steps => 3, batch_tokens => 64, n_layer => 1, n_head => 1, n_embd => 16, context => 32";

for my $case ([ 'owner', 0700, 0600 ], [ 'group', 0750, 0640, '-g' ])
{
	my ($name, $directory_mode, $file_mode, @initdb) = @$case;
	my $node = new_server($name, initdb => \@initdb, conf => "gpt2.train_threads = 1\n");
	my $data = $node->data_dir;
	my $sql = sub { return $node->safe_psql('postgres', $_[0]) };

	is($sql->("SELECT length(gpt_generate('My printer', 2, model => 'demo')) > 0"), 't',
		"$name: the demo model is packed");
	if ($trains)
	{
		$sql->("CREATE TABLE lines AS SELECT 'line ' || i AS t FROM generate_series(1, 50) AS i");
		for my $tokenizer ('char', 'bpe')
		{
			$sql->("CALL gpt_train('$tokenizer', 'SELECT t FROM lines', tokenizer => '$tokenizer', $small)");
		}
		$sql->("CALL gpt_finetune('bpe', 'SELECT t FROM lines', '$_', steps => 3, lora_rank => 2, "
			  . 'merge => ' . ($_ eq 'merged' ? 'true' : 'false') . ')')
		  for 'merged', 'kept';
		$sql->("SELECT gpt_grant_model('kept', 'pg_monitor')");
		is($sql->("SELECT length(gpt_generate('line', 2, model => 'kept')) >= 0"), 't',
			"$name: an adapter is loaded");
		# one that goes on later: rows, checkpoint and progress stay
		my $query = start_query($node, "CALL gpt_train('later', 'SELECT t FROM lines', "
			  . "tokenizer => 'char', $small)" =~ s/steps => 3/steps => 1000000/r);
		ok(poll_sql($node, "SELECT count(*) > 0 FROM gpt_stat_progress_train WHERE step > 3"),
			"$name: training");
		$sql->('SELECT pg_cancel_backend(pid) FROM gpt_stat_progress_train');
		finish_query($query);
		ok(poll_sql($node, "SELECT state = 'stopped' FROM gpt_stat_progress_train"),
			"$name: stopped");
	}
	$node->stop;
	ok(-e "$data/$_", "$name: there is $_")
	  for 'base/pgsql_tmp_gpt2', 'pg_stat/gpt2.stat', $trains ? 'gpt2_models/kept' : ();
	ok(check_mode_recursive($data, $directory_mode, $file_mode),
		sprintf '%s: all directories %04o, all files %04o', $name, $directory_mode, $file_mode);
}

done_testing();
