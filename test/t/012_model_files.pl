# A model's files change under a running engine: running queries end with the texts that they
# would have had, and what is wrong with the new files is said by the next load.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use File::Copy qw(copy);
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', slow_model => 1);
my $models = $node->data_dir . '/gpt2_models';
my $file = "$models/slow/model.safetensors";
my $saved = $node->data_dir . '/saved';
my $short = slow_sql(20);
my $right_long = $node->safe_psql('postgres', slow_sql(1000));
my $right = $node->safe_psql('postgres', $short);
my $engine = engine_pid($node);

add_slow_model($node, 'other', 8);
my $other = $node->safe_psql('postgres', slow_sql(20, 'other'));
isnt($other, $right, 'two models, two texts');
copy($file, $saved) or die "could not copy: $!";

# Does something to the files while the model generates; gives the errors of a load after that.
sub change
{
	my ($what, $code) = @_;
	my $query = start_generating($node, slow_sql(1000));

	ok(wait_generating($node), "$what: generating");
	$code->();
	my ($rc, $out, $err) = finish_generating($node, $query);
	is("$out$err", $right_long, "$what: the running query ends with the same text");
	($rc, $out, $err) = finish_query(start_query($node, "SELECT gpt_unload_model('slow')",
			"SELECT gpt_load_model('slow')", 'SELECT 1'));
	like($out, qr/^1$/m, "$what: the session is good");
	return $err;
}

sub put_back
{
	my ($what) = @_;

	copy($saved, "$file.new") or die "could not copy: $!";
	rename "$file.new", $file or die "could not rename: $!";
	ok( poll_until(
			sub {
				my ($rc, $out) = $node->psql('postgres', "SELECT gpt_unload_model('slow'); $short");
				return $rc == 0 && $out =~ /\Q$right\E$/;
			}),
		"$what: the old file gives the old text");
	is(engine_pid($node), $engine, "$what: the same engine");
	return;
}

like(change('truncated', sub { truncate $file, 100_000 or die "could not truncate: $!" }),
	qr/ERROR:  22P03: .*model\.safetensors/, 'truncated: 22P03 that names the file');
put_back('truncated');

like(change('removed', sub { unlink $file or die "could not remove: $!" }),
	qr/ERROR:  58P01: .*slow/, 'removed: 58P01 that names the model');
put_back('removed');

like(change('overwritten', sub {
			open my $out, '+<', $file or die "could not open: $!";
			print $out pack('Q', 1 << 40);
			close $out;
		}), qr/ERROR:  22P03: .*model\.safetensors/, 'overwritten: 22P03 that names the file');
put_back('overwritten');

is(change('replaced', sub {
			copy("$models/other/model.safetensors", "$file.new") or die "could not copy: $!";
			rename "$file.new", $file or die "could not rename: $!";
		}), '', 'replaced: it loads');
is($node->safe_psql('postgres', $short), $other, 'replaced: the new text');
put_back('replaced');

# The packed file goes away while it is mapped: it is made again when it is needed.
for my $pack (glob $node->data_dir . '/base/pgsql_tmp_gpt2/slow-*.pack')
{
	is(change('pack removed', sub { unlink $pack or die "could not remove: $!" }), '',
		'pack removed: packed again');
	is($node->safe_psql('postgres', $short), $right, 'pack removed: the same text');
	ok(-s $pack, 'pack removed: it is there again');

	# Somebody damages it in place: at worst the engine dies of it and comes again.
	is(change('pack truncated', sub { truncate $pack, 4096 or die "could not truncate: $!" }), '',
		'pack truncated: packed again');
	is($node->safe_psql('postgres', $short), $right, 'pack truncated: the same text');
}

# A folder that is removed: a model that is loaded goes on, one that failed is not shown any more.
{
	my $row = "SELECT state FROM gpt_models WHERE name = 'bad'";

	mkdir "$models/bad" or die "could not make a folder: $!";
	append_to_file("$models/bad/config.json", '{}');
	is($node->safe_psql('postgres', $row), 'on disk', 'folder removed: on disk');
	like((finish_query(start_query($node, "SELECT gpt_load_model('bad')")))[2], qr/ERROR:/,
		'folder removed: a load fails');
	is($node->safe_psql('postgres', $row), 'failed', 'folder removed: failed');
	unlink "$models/bad/config.json";
	rmdir "$models/bad" or die "could not remove: $!";
	is($node->safe_psql('postgres', $row), '', 'folder removed: not shown');
	rename "$models/slow", "$models/.slow" or die "could not rename: $!";
	is($node->safe_psql('postgres', $short), $right, 'folder removed: a loaded model goes on');
	is($node->safe_psql('postgres', "SELECT state FROM gpt_models WHERE name = 'slow'"), 'loaded',
		'folder removed: a loaded model is shown');
}

$node->stop;
done_testing();
