# An extension that is in no directory of the server's, found by extension_control_path and
# dynamic_library_path: its programs are beside the library that was loaded.
use strict;
use warnings;

use File::Copy qw(move);
use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

sub config
{
	my $value = `"@{[ $ENV{PG_CONFIG} || 'pg_config' ]}" $_[0]`;
	chomp $value;
	return $value;
}

my %from = (lib => config('--pkglibdir'), 'share/extension' => config('--sharedir') . '/extension');
my $place = PostgreSQL::Test::Utils::tempdir_short();
my $node = PostgreSQL::Test::Cluster->new('main');

plan skip_all => 'extension_control_path came with 18' if $node->pg_version < 18;
plan skip_all => 'the installation cannot be changed'
  if grep { !-w $_ || !-o "$from{lib}/gpt2.so" } values %from;

# What was moved away comes back, whatever happens.
my %moved;
END { move($moved{$_}, $_) for keys %moved }

mkdir "$place/$_" for qw(lib share share/extension);
for my $to (keys %from)
{
	for my $file (glob "$from{$to}/gpt2*")
	{
		my $new = "$place/$to/" . (split m{/}, $file)[-1];
		move($file, $new) or die "could not move $file: $!";
		$moved{$file} = $new;
	}
}

$node->init;
$node->append_conf('postgresql.conf', "gpt2.threads = 2\ngpt2.model = 'demo'\n"
	  . "extension_control_path = '\$system:$place/share'\n"
	  . "dynamic_library_path = '\$libdir:$place/lib'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION gpt2');
my $right = $node->safe_psql('postgres', "SELECT gpt_generate('The printer', 5)");
isnt($right, '', 'a text');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'gpt2'\n");
$node->restart;
is($node->safe_psql('postgres', "SELECT gpt_generate('The printer', 5)"), $right, 'preloaded: the same');

$node->safe_psql('postgres',
	"CREATE TABLE rows AS SELECT 'Row ' || i AS body FROM generate_series(1, 50) AS i");
is($node->safe_psql('postgres', <<'SQL'), 1, 'a training');
CALL gpt_train('own', 'SELECT body FROM rows', tokenizer => 'char', n_layer => 1, n_head => 2,
    n_embd => 32, context => 32, batch_tokens => 128, steps => 1);
SELECT count(*) FROM gpt_models WHERE name = 'own'
SQL

$node->stop;
done_testing();
