# Somebody cleans pg_stat_tmp, in part or wholly, while a text and a training are made: the supervisor
# makes its files again, nobody starts a second one, and where two meet, one ends.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', slow_model => 1, conf => "gpt2.train_threads = 1\n");
my $directory = $node->data_dir . '/pg_stat_tmp';
my @files = map { "$directory/$_" } qw(gpt2_engine.lock gpt2_engine.sock gpt2_train.sock);
my ($lock, $socket, $train_socket) = @files;
my $call = slow_sql(200);
my $right = $node->safe_psql('postgres', $call);
my $supervisors = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'gpt2 supervisor'";

sub inode { return (stat $_[0])[1] || 0 }

sub all_there
{
	my ($before) = @_;
	return poll_until(sub { !grep { !inode($_) || inode($_) == $before->{$_} } @{ $before->{gone} } });
}

$node->safe_psql('postgres',
	"CREATE TABLE lines AS SELECT i || ' plus 1 is ' || i + 1 AS t FROM generate_series(1, 300) AS i");
my $train = "CALL gpt_train('sums', 'SELECT t FROM lines', tokenizer => 'char', n_layer => 1,"
  . ' n_head => 2, n_embd => 32, context => 32, batch_tokens => 128, steps => 1000000)';
my $training = start_query($node, $train);
my $progress = "FROM gpt_stat_progress_train WHERE model = 'sums'";
ok(poll_sql($node, "SELECT count(*) > 0 $progress AND step > 5"), 'it trains');

my @cases = (
	[ 'lock file', 1, sub { unlink $lock }, $lock ],
	[ 'lock file moved', 1, sub { rename $lock, "$lock.old"; unlink "$lock.old" }, $lock ],
	[ 'lock file replaced', 1,
		sub { append_to_file("$lock.new", ''); rename "$lock.new", $lock }, $lock ],
	[ 'socket', 0, sub { unlink $socket }, $socket ],
	[ 'socket of trainings', 1, sub { unlink $train_socket }, $train_socket ],
	[ 'files', 0, sub { unlink @files }, @files ],
	[ 'directory', 0, sub { system 'rm', '-rf', $directory }, @files ]);

for my $case (@cases)
{
	my ($what, $engine_stays, $remove, @gone) = @$case;
	my $supervisor = supervisor_pid($node);
	my $engine = engine_pid($node);
	my %before = (gone => \@gone, map { $_ => inode($_) } @gone);
	my $query = start_generating($node, slow_sql(300));

	ok(wait_generating($node), "$what: generating");
	# An inode that is free may be taken again at once: these keep the files' own.
	link $gone[$_], $node->data_dir . "/kept$_" or die "could not link: $!" for 0 .. $#gone;
	$remove->();
	ok(all_there(\%before), "$what: made again");
	unlink $node->data_dir . "/kept$_" for 0 .. $#gone;
	is($node->safe_psql('postgres', $call), $right, "$what: a new session");
	is(join('|', finish_generating($node, $query)),
		join('|', 0, $node->safe_psql('postgres', slow_sql(300)), ''), "$what: the running query");
	is(supervisor_pid($node), $supervisor, "$what: one supervisor, the same");
	is($node->safe_psql('postgres', 'SELECT supervisor_pid FROM gpt_info()'), $supervisor,
		"$what: others find it");
	ok(poll_until(sub { my @e = engines_of($node); @e == 1 }), "$what: one engine");
	is(engine_pid($node) == $engine ? 1 : 0, $engine_stays,
		"$what: the engine " . ($engine_stays ? 'stays' : 'is another'));
}
is($node->safe_psql('postgres', "SELECT state $progress"), 'running', 'the training goes on');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) $progress");
like((finish_query($training))[2], qr/ERROR:  57014/, 'until it is cancelled');

# One that could not look meanwhile finds another in its place: it ends, and leaves the other's files.
{
	my $supervisor = supervisor_pid($node);
	my ($engine) = engines_of($node);

	kill 'STOP', $supervisor;
	unlink @files;
	is($node->safe_psql('postgres', $call), $right, 'two: a new session starts another supervisor');
	my $other = $node->safe_psql('postgres', 'SELECT supervisor_pid FROM gpt_info()');
	isnt($other, $supervisor, 'two: it is found');
	kill 'CONT', $supervisor;
	ok(poll_until(sub { !process_exists($supervisor) }), 'two: the first ends');
	ok(poll_until(sub { !process_exists($engine) }), 'two: and its engine');
	ok(inode($_), "two: $_ is there") for @files;
	is($node->safe_psql('postgres', $supervisors), 1, 'two: one supervisor');
	is($node->safe_psql('postgres', $call), $right, 'two: a call');
	is($node->safe_psql('postgres', 'SELECT supervisor_pid FROM gpt_info()'), $other, 'two: the second');
	like(slurp_file($node->logfile), qr/another gpt2 supervisor has locked file/, 'two: the log says so');
}
$node->stop;
done_testing();
