# gpt2.device on a machine without a CUDA device: "auto" says once that the CPU is used, "cuda" is a
# clear error with a hint, and neither is in the way of anything else.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'this machine has a CUDA device' if -e '/dev/nvidiactl';

my $node = new_server('main');
my $ask = "SELECT gpt_generate('Hello', 8, model => 'demo')";

sub set_device
{
	my ($value) = @_;

	$node->safe_psql('postgres', "LOAD 'gpt2'; ALTER SYSTEM SET gpt2.device = '$value'");
	$node->reload;
	ok( poll_until(
			sub { $node->safe_psql('postgres', "LOAD 'gpt2'; SHOW gpt2.device") eq $value }, 60),
		"gpt2.device = $value");
	return;
}

# Output of a statement that is to fail, as psql shows it with everything.
sub failure
{
	my ($sql) = @_;
	my ($rc, $out, $err) =
	  $node->psql('postgres', $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	isnt($rc, 0, 'it fails');
	return $err;
}

sub log_lines
{
	my ($pattern) = @_;
	my @found = slurp_file($node->logfile) =~ /$pattern/g;

	return scalar @found;
}

# auto
my $text = $node->safe_psql('postgres', $ask);

isnt($text, '', 'auto: it works');
is($node->safe_psql('postgres', "SELECT device FROM gpt_models WHERE name = 'demo'"),
	'cpu', 'auto: gpt_models says cpu');
is( $node->safe_psql(
		'postgres', 'SELECT cuda_device IS NULL AND cuda_driver IS NULL FROM gpt_info()'),
	't',
	'auto: gpt_info() names no device');
$node->safe_psql('postgres', $ask) for 1 .. 3;
is(log_lines(qr/no CUDA device can be used: [^\n]*; computing on the CPU/),
	1, 'auto: one line in the log');

# a load that insists
my $err = failure("SELECT gpt_load_model('demo', device => 'cuda')");

like($err, qr/0A000.*no CUDA device can be used/s, 'a load on cuda: its error');
like($err, qr/HINT: .*gpt2\.device/, 'a load on cuda: its hint');
$err = failure("SELECT gpt_load_model('demo', device => 'abacus')");
like($err, qr/0A000.*device "abacus" is not supported.*"auto", "cpu" and "cuda"/s, 'a wrong name');
$node->safe_psql('postgres', "SELECT gpt_load_model('demo', device => 'cpu')");
is($node->safe_psql('postgres', $ask), $text, 'a load on cpu works');

# cuda
for my $device ('cuda', 'cuda:1')
{
	set_device($device);
	ok( poll_until(
			sub {
				my ($rc, $out, $stderr) = $node->psql('postgres', $ask);

				return $rc != 0 && $stderr =~ /no CUDA device can be used/;
			},
			60),
		"$device: calls are refused");
	$err = failure($ask);
	like($err, qr/0A000.*no CUDA device can be used: .*HINT: .*Set gpt2\.device to "auto" or "cpu"/s,
		"$device: error and hint");
}

# cpu says nothing of CUDA; auto works again
for my $device ('cpu', 'auto')
{
	set_device($device);
	ok( poll_until(
			sub {
				my ($rc, $out) = $node->psql('postgres', $ask);

				return $rc == 0 && $out eq $text;
			},
			60),
		"$device: the same text");
}

# wrong values
($err) = ($node->psql('postgres', "LOAD 'gpt2'; ALTER SYSTEM SET gpt2.device = 'cuda:64'"))[2];
like($err, qr/invalid value.*"gpt2.device"/, 'cuda:64 is no value');

done_testing();
