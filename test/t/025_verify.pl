# gpt2_engine verify: what it prints of the demo model and of models with outlier channels made from
# it, what it says of damage, of texts and of reference logits.  Needs no server.
use strict;
use warnings;

use Cwd qw(getcwd);
use File::Copy qw(copy);
use PostgreSQL::Test::Utils;
use Test::More;

my $engine = getcwd() . '/build/gpt2_engine';
my $root = PostgreSQL::Test::Utils::tempdir;
my @packs = ('--packs', "$root/packs", '--threads', 2);

sub verify
{
	my (@arguments) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ $engine, 'verify', @arguments, @packs ], '>', \$out, '2>', \$err);

	return ($ok, $out, $err);
}

# What the table says of a format: perplexity, divergence, per cent.
sub figures
{
	my ($out, $format) = @_;

	return $out =~ /^$format +\d+ +([\d.]+) +([\d.e+-]+) +([\d.]+) %$/m ? ($1, $2, $3) : ();
}

sub check_figures
{
	my ($name, $out, %bound) = @_;
	my ($f32) = figures($out, 'f32');

	for my $format (sort keys %bound)
	{
		my ($perplexity, $divergence, $same) = figures($out, $format);

		ok(defined $same, "$name, $format: figures") or next;
		cmp_ok($divergence, '<', $bound{$format}[0], "$name, $format: divergence");
		cmp_ok($same, '>=', $bound{$format}[1], "$name, $format: the same next token");
		cmp_ok(abs($perplexity / $f32 - 1), '<', 0.05, "$name, $format: perplexity");
	}
	return;
}

# Formats.
my ($ok, $out, $err) = verify('models/demo');
ok($ok, 'demo') or diag($err);
my ($perplexity) = figures($out, 'f32');
check_figures('demo', $out, f32 => [ 1e-9, 100 ], bf16 => [ 1e-4, 99.9 ], q8 => [ 1e-3, 99.5 ],
	q4 => [ 3e-2, 97 ]);

SKIP:
{
	skip 'no python3', 1 unless IPC::Run::run([ 'python3', '-c', '' ], '2>', \my $none);
	for my $kind (qw(norms values))
	{
		my $folder = "$root/$kind";

		ok( IPC::Run::run([ 'python3', 'scripts/make_outlier_model.py', $kind, 'models/demo', $folder ]),
			"$kind: made");
		($ok, $out, $err) = verify($folder, '--text', 'models/demo/held_out.txt');
		ok($ok, "$kind: verified") or diag($err);
		my ($same) = figures($out, 'f32');
		cmp_ok(abs($same / $perplexity - 1), '<', 1e-5, "$kind: the same function");
		check_figures($kind, $out, q8 => $kind eq 'norms' ? [ 3e-4, 99.9 ] : [ 2e-3, 99.5 ],
			q4 => [ $kind eq 'norms' ? 1e-2 : 3e-2, 97 ]);
	}
}

# One format, and as much of a text as is wanted.
($ok, $out) = verify('models/demo', '--format', 'q8', '--max-tokens', 1000);
ok($ok && figures($out, 'q8') && !figures($out, 'q4'), 'one format beside f32');
like($out, qr/^1000 tokens/m, 'so many tokens');

# Texts that are none.
append_to_file("$root/short", 'a');
for my $case ([ "$root/short", qr/too short/ ], [ "$root/none", qr/could not open/ ],
	[ $root, qr/not a regular file/ ])
{
	($ok, $out, $err) = verify('models/demo', '--text', $case->[0]);
	ok(!$ok, 'a text that is none');
	like($err, $case->[1], 'is named');
}

# Reference logits: those of f32 itself, then with one changed.
my $vocabulary = 1024;
my $reference = "$root/reference";
mkdir $reference or die "could not create: $!";
append_to_file("$reference/demo_reference.json", '[{"ids": [72, 300, 5]}]');
append_to_file("$reference/demo_0.logits.f32", pack('f<*', (0) x $vocabulary));
($ok, $out, $err) = verify('models/demo', '--reference', $reference, '--max-tokens', 10);
ok(!$ok, 'other logits than the reference');
like($err, qr/logits of prompt 0 are not the reference's/, 'are an error');
like($out, qr/^reference 0  f32   logits within/m, 'that says how far they are');
append_to_file("$reference/demo_0.logits.f32", 'x');
($ok, $out, $err) = verify('models/demo', '--reference', $reference);
ok(!$ok && $err =~ /demo_0\.logits\.f32/, 'a file of another size');
unlink "$reference/demo_0.logits.f32" or die "could not remove: $!";
unlink "$reference/demo_reference.json" or die "could not remove: $!";
($ok, $out, $err) = verify('models/demo', '--reference', $reference);
ok(!$ok && $err =~ /no file \*_reference\.json/, 'a folder without a reference');

# A model of zeros, whose logits are zeros: no text, the right reference.
my $zero = "$root/zero";
IPC::Run::run([ $engine, 'synth', $zero, '--sigma', 0, '--layer', 1, '--embd', 32, '--head', 2,
		'--ctx', 64, '--vocab', 50 ]) or die 'could not make a model';
($ok, $out, $err) = verify($zero);
ok(!$ok && $err =~ /no held_out\.txt.*Name a text with --text/s, 'a folder without a text');
append_to_file("$reference/zero_reference.json", '[{"ids": [1, 2, 3]}, {"ids": [49]}]');
append_to_file("$reference/zero_$_.logits.f32", pack('f<*', (0) x 50)) for 0, 1;
($ok, $out, $err) = verify($zero, '--reference', $reference);
ok($ok, 'the right logits') or diag($err);
my @right = $out =~ /^reference [01]  (?:f32|bf16|q8|q4) +logits within 0\.00e\+00, same/mg;
is(scalar @right, 8, 'in every format');
unlink "$reference/zero_reference.json" or die "could not remove: $!";
append_to_file("$reference/zero_reference.json", '[{"ids": [50]}]');
($ok, $out, $err) = verify($zero, '--reference', $reference);
ok(!$ok && $err =~ /token id 50 is not below 50/, 'an id that the model has not');

# A weight of a pack that is not what was written.
my ($pack) = glob("$root/packs/demo-q4-*.pack");
open(my $file, '+<', $pack) or die "could not open: $!";
seek($file, -5000, 2);
print $file 'damaged';
close($file);
($ok, $out, $err) = verify('models/demo');
ok(!$ok, 'a damaged pack');
like($err, qr/damaged packed file .*checksum of the weights/, 'is found');

done_testing();
