# gpt_train, and gpt_finetune with LoRA, killed (-9) at random moments, together with the server in some:
# the same CALL goes on, and comes to the bits of a training that nobody has killed.  GPT2_TEST_SEED is
# the seed that an earlier run has printed.
use strict;
use warnings;

use Digest::SHA;
use Fcntl qw(O_NONBLOCK O_RDONLY);
use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use POSIX qw(mkfifo);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(stat time);

use constant KILLS => 24;
use constant MOST_TRAININGS => 24;
use constant PAUSE => 0.001;
use constant { READING => 1, TOKENIZING => 2, STEPS => 3, WRITING => 4 };	# g2_train_phase
use constant CHECKPOINT => 5;	# part of STEPS
use constant F_SETPIPE_SZ => 1031;
use constant { PIPE => 4096, SMALLEST_CHECKPOINT => 16384 };	# bytes

my $seed = $ENV{GPT2_TEST_SEED} || int(time * 1000) % 2**31;
srand $seed;
note "GPT2_TEST_SEED=$seed";

# A checkpoint after each step.
my $node = new_server('main',
	conf => "gpt2.train_threads = 1\ngpt2.train_checkpoint_interval = 0\n");
my $models = $node->data_dir . '/gpt2_models';
my $places = $node->data_dir . '/base/pgsql_tmp_gpt2/train';

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE lines AS
SELECT i || ' plus ' || i % 7 || ' is ' || i + i % 7 || ', says ' || md5((i % 50)::text) AS t
FROM generate_series(1, 10000) AS i;
SQL

my $options = "steps => 30, eval_every => 10, batch_tokens => 256, learning_rate => 0.01, dropout => 0.1";
my %call = (
	all => "CALL gpt_train('NAME', 'SELECT t FROM lines', tokenizer => 'bpe', vocab_size => 400, "
	  . "n_layer => 2, n_head => 2, n_embd => 64, context => 64, $options)",
	merge => "CALL gpt_finetune('all', 'SELECT reverse(t) FROM lines', 'NAME', lora_rank => 4, $options)",
	keep => "CALL gpt_finetune('all', 'SELECT reverse(t) FROM lines', 'NAME', lora_rank => 4, "
	  . "merge => false, $options)");

my @kinds = sort keys %call;
my @phases = ('starting or done', 'reading', 'tokenizing', 'training', 'writing');

sub start_call
{
	my ($kind, $name) = @_;
	return start_query($node, 'SELECT pg_backend_pid()', $call{$kind} =~ s/NAME/$name/r);
}

# Until something is so, or the query has ended.
sub wait_for
{
	my ($query, $code) = @_;
	return poll_until(sub { return $code->() || !is_running($query) }, undef, PAUSE);
}

# How far the training of a query is, by the progress file of its backend: phase, step and directory;
# 0 before there is one.
sub progress
{
	my ($query) = @_;
	my ($wanted) = $query->{out} =~ /^(\d+)\n/;

	for my $path ($wanted ? glob "$places/*/progress" : ())
	{
		open my $file, '<:raw', $path or next;
		my $n = read $file, my $bytes, 36;
		next unless $n && $n == 36;
		my ($phase, $pid, $step) = unpack 'x8 L L x16 L', $bytes;
		return ($phase, $step, $path =~ s{/progress$}{}r) if $pid == $wanted;
	}
	return (0, 0);
}

sub weights
{
	my ($kind, $name) = @_;
	return "$models/$name/" . ($kind eq 'keep' ? 'adapter_model' : 'model') . '.safetensors';
}

sub sha_of { return Digest::SHA->new(256)->addfile(weights(@_), 'b')->hexdigest }

# ---- undisturbed: the weights, and how long each phase takes

my (%expected, %length);
for my $kind (@kinds)
{
	my $query = start_call($kind, $kind);
	my @begin;

	wait_for($query, sub { $begin[$_] ||= time for 1 .. (progress($query))[0]; return 0 });
	$begin[ WRITING + 1 ] = time;
	$begin[$_] ||= $begin[ $_ + 1 ] for reverse READING .. WRITING;
	$length{$kind}[$_] = $begin[ $_ + 1 ] - $begin[$_] for READING .. WRITING;
	my ($rc, undef, $err) = finish_query($query);
	is($rc, 0, "$kind: trained") or diag $err;
	$expected{$kind} = sha_of($kind, $kind);
	note sprintf '%s: reading %.3f s, tokenizing %.3f s, steps %.3f s, writing %.3f s', $kind,
	  @{ $length{$kind} }[ READING .. WRITING ];
}

# ---- killed

my ($kills, $server_kills, $checkpoint_kills, $said) = (0, 0, 0, '');

sub trainers
{
	return children_of(slurp_file($node->data_dir . '/pg_stat_tmp/gpt2_engine.lock'), 'gpt2_train');
}

# Its processes end by themselves; before they are reaped no other server starts.
sub kill_server
{
	my @left = server_processes($node);

	$node->kill9;
	poll_until(sub { return !grep { -e "/proc/$_" } @left }) or BAIL_OUT('the server lives on');
	$node->start;
	return 1;
}

# A training killed amid the next checkpoint, whatever the machine's speed: the file that it writes to
# is a pipe, of which a random part is read.  That part is what the kill leaves as the file.
sub kill_in_checkpoint
{
	my ($query, $kill) = @_;
	my (undef, undef, $place) = progress($query);
	my $file = "$place/checkpoint.new";
	my $wanted = 1 + int rand((-s "$place/checkpoint" || SMALLEST_CHECKPOINT) - 2 * PIPE);
	my ($bytes, $killed) = ('', 0);

	wait_for($query, sub { return mkfifo($file, 0600) });
	sysopen my $pipe, $file, O_RDONLY | O_NONBLOCK or die "$file: $!";
	if (-p $pipe)
	{
		fcntl($pipe, F_SETPIPE_SZ, PIPE) or die "$file: $!";
		wait_for($query,
			sub { sysread $pipe, $bytes, $wanted - length $bytes, length $bytes; length $bytes == $wanted });
		$killed = is_running($query) && $kill->();
	}
	unlink $file;
	append_to_file($file, $bytes) if $killed;
	return $killed;
}

# Goes on with a training, and kills it at a random moment after a phase has begun, or amid the next
# checkpoint, unless it has ended.
sub strike
{
	my ($kind, $name, $phase, $with_server) = @_;
	my $query = start_call($kind, $name);
	my $aimed = $phase == CHECKPOINT;
	$phase = STEPS if $aimed;

	wait_for($query, sub { return (progress($query))[0] >= $phase });
	my $moment = time + rand($aimed ? 0.5 : 1) * $length{$kind}[$phase];
	my @trainers = trainers();
	my $kill = sub { return $with_server ? kill_server() : kill 'KILL', @trainers };
	wait_for($query, sub { return time >= $moment });
	my ($at, $step) = progress($query);
	$aimed &&= $at == STEPS;
	my $killed = $aimed ? kill_in_checkpoint($query, $kill) : is_running($query) && $kill->();
	my ($rc, undef, $err) = finish_query($query);
	$said .= $err;
	return if !$killed || $rc == 0;
	$kills++;
	$server_kills++ if $with_server;
	$checkpoint_kills++ if $aimed;
	note "$name: killed when $phases[$at], step $step" . ($aimed ? ', in a checkpoint' : '')
	  . ($with_server ? ', with the server' : '');
	return;
}

for my $n (0 .. MOST_TRAININGS)
{
	my $kind = $kinds[ $n % @kinds ];
	my $name = "$kind$n";

	last if $kills >= KILLS;
	for my $phase (READING, TOKENIZING, STEPS, CHECKPOINT, WRITING)
	{
		strike($kind, $name, $phase, $kills % 4 == 3) unless -e weights($kind, $name);
	}
	if (!-e weights($kind, $name))
	{
		my ($rc, undef, $err) = finish_query(start_call($kind, $name));
		is($rc, 0, "$name: trained in the end") or diag $err;
		$said .= $err;
	}
	is(sha_of($kind, $name), $expected{$kind}, "$name: the same bits");
}
note "$kills kills, $server_kills with the server, $checkpoint_kills in a checkpoint";
cmp_ok($kills, '>=', KILLS, 'killed often enough');
cmp_ok($server_kills, '>=', KILLS / 5, 'and with the server');
cmp_ok($checkpoint_kills, '>', 0, 'and in a checkpoint');
like($said, qr/going on with the rows that were read before/, 'rows were not read again');
like($said, qr/going on after step \d/, 'steps were not done again');

done_testing();
