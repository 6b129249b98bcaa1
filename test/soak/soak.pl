# soak.pl: one server for SOAK_MINUTES (15), and everything at once, at random: sessions that generate,
# score, classify, stream, run batches, train; that are cancelled, time out, vanish and come again;
# models loaded and unloaded, settings changed, the engine stopped for moments, strangers at its
# socket.  In the second half it also dies: kill -9, restarts, stops, the files of pg_stat_tmp removed.
#
# Every answer must be the one that was given before, undisturbed; errors are those that what was done
# explains.  In the first half one engine lives all the time, and its memory, threads and descriptors
# must not grow; at the end nothing may be left in it, or of it.
#
# One process and one loop: what a session is asked is a step of a list, its answer is looked at when
# it is there.  SOAK_SEED is the seed that an earlier run has printed.  SOAK_ENGINE: a program to be
# run instead of the installed engine, as one built with sanitizers, whose memory is not measured.
use strict;
use warnings;

use File::Copy ();
use FindBin;
use lib "$FindBin::RealBin/../t";
use Gpt2Test;
use IO::Socket::UNIX;
use List::Util qw(sum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket;
use Test::More;
use Time::HiRes qw(time);

use constant SESSIONS => 12;
use constant TRAINERS => 2;		# of them, the first
use constant LIFE => 60;		# seconds of a session, at most
use constant GONE => 30;			# seconds in which a backend ends whose client has gone, at most
use constant HANG => 150;		# seconds that nothing may take
use constant PAUSE => 0.01;
use constant GROWTH => 1.25;	# of memory, which goes up and down with what is asked; a leak of a
use constant GROWTH_KB => 4096;	# kilobyte for each request is more in minutes

my $minutes = $ENV{SOAK_MINUTES} || 15;
my $seed = $ENV{SOAK_SEED} || int(time * 1000) % 2**31;
my $other_engine = $ENV{SOAK_ENGINE};
srand $seed;
diag "result: SOAK_SEED=$seed, $minutes minutes";

if ($other_engine)
{
	my $program = engine_program();
	unlink $program;
	File::Copy::copy($other_engine, $program) or die "$program: $!";
	chmod 0755, $program;
}

my $node = new_server('main', slow_model => 1, conf => <<'END');
gpt2.model = 'demo'
gpt2.weight_format = 'q8'
gpt2.speculation = on
gpt2.result_cache_size = '64kB'
gpt2.kv_cache_size = '24MB'
gpt2.train_threads = 1
gpt2.train_checkpoint_interval = 1
client_connection_check_interval = 500
max_connections = 60
END
my $data = $node->data_dir;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# ---- what is asked ----

my $small = "tokenizer => 'char', n_layer => 1, n_head => 2, n_embd => 32, context => 32, "
  . 'batch_tokens => 128, steps => 40, threads => 1, replace => true';

# NAME is the session's own; of each the answer is the last line.
my @questions = (
	(map { my $n = 4 + 9 * $_; "SELECT md5(gpt_generate('My printer $_', $n))" } 0 .. 5),
	(map { "SELECT md5(gpt_generate('Once $_', 60, 'demo', 0.9, seed => $_, options => '{\"cache\": false}'))" } 1 .. 3),
	(map { slow_sql(20 + 30 * $_) } 0 .. 4),
	"SELECT md5(gpt_generate(repeat('A long prompt, said again. ', 150), 20, 'slow'))",
	"SELECT md5(gpt_generate_array('Dear', 24, 6, temperature => 1, seed => 5)::text)",
	"SELECT md5(gpt_generate_array('Dear', 90, 3, 'slow', temperature => 1, seed => 6)::text)",
	"SELECT md5(gpt_generate('My lamp', 24, options => '{\"num_beams\": 4}'))",
	"SELECT md5(gpt_generate('My lamp', 40, options => '{\"no_repeat_ngram_size\": 3}'))",
	"SELECT gpt_generate('Number', 12, 'demo', 1, seed => 3, options => '{\"regex\": \"[0-9]{2,6}(\\\\.[0-9]+)?\"}')",
	"SELECT gpt_generate('It is', 12, options => '{\"choice\": [\"red\", \"green\", \"dark blue\"]}')",
	"SELECT md5(string_agg(piece, '' ORDER BY pos)) FROM gpt_stream('My screen', 50)",
	"SELECT md5(string_agg(piece, '' ORDER BY pos)) FROM gpt_stream('My screen', 120, 'slow')",
	"SELECT md5(string_agg(piece, '')) FROM (SELECT piece FROM gpt_stream('My screen', 400, 'slow') LIMIT 5) AS s",
	"SELECT gpt_loss('My printer makes a loud noise')",
	"SELECT md5(string_agg(logprob::text, ' ' ORDER BY pos)) FROM gpt_logprobs(repeat('My order has not come. ', 90))",
	"SELECT md5(gpt_embed('My order has not come')::text)",
	"SELECT gpt_classify('My printer is broken', '{printer,screen,delivery}')",
	"SELECT md5(string_agg(label || logprob, ' ' ORDER BY label)) FROM gpt_label_probs('My order is late', '{printer,screen,delivery}')",
	"SELECT gpt_filter('My printer is broken', 'it is about a printer')",
	"SELECT md5(gpt_summarize(repeat('My printer makes a loud noise. ', 300), 16))",
	"SELECT md5(string_agg(gpt_generate(body, 8), '' ORDER BY id)) FROM docs",
	"SELECT md5(string_agg(gpt_generate(body, 12, 'slow'), '' ORDER BY id)) FROM docs WHERE id < 20",
	"SELECT md5(string_agg(gpt_classify(body, '{printer,order}'), '' ORDER BY id)) FROM docs",
	"SELECT md5(gpt_tokenize(repeat('My printer ', 5000))::text)",
	"SELECT count(*) >= 0 FROM gpt_models, gpt_stat_requests, gpt_stat_usage, gpt_stat_engine",
	"UPDATE NAME SET answer = NULL; CALL gpt_batch('NAME', 'body', 'answer', max_len => 8, batch_size => 7);"
	  . " SELECT md5(string_agg(answer, '' ORDER BY id)) FROM NAME",
);
my @trainings = (
	"CALL gpt_train('NAME', 'SELECT body FROM docs ORDER BY id', $small);"
	  . " SELECT md5(gpt_generate('My', 20, 'NAME'))",
	"CALL gpt_finetune('base', 'SELECT body FROM docs ORDER BY id', 'NAME', lora_rank => 2, merge => false,"
	  . " batch_tokens => 128, steps => 30, threads => 1, replace => true);"
	  . " SELECT md5(gpt_generate('My', 20, 'NAME'))",
);

# The answer is the last line: a CALL with INOUT arguments has one of its own.
sub last_line
{
	my ($text) = @_;
	return (split /\n/, $text)[-1] // '';
}

sub named { return $_[0] =~ s/NAME/s$_[1]/gr }

sub make_tables
{
	sql("CREATE TABLE docs AS SELECT i AS id, 'My printer makes a loud noise, order ' || i AS body"
		  . ' FROM generate_series(1, 40) AS i');
	for my $i (0 .. SESSIONS - 1)
	{
		sql("CREATE TABLE s$i (id int PRIMARY KEY, body text, answer text);"
			  . "INSERT INTO s$i SELECT id, body FROM docs");
	}
	sql("CALL gpt_train('base', 'SELECT body FROM docs ORDER BY id', $small)");
	return;
}

my %right;

sub learn_answers
{
	for my $question (@questions, @trainings)
	{
		my ($rc, $out, $err) = finish_query(start_query($node, split /;\s*/, named($question, 0)));
		$right{$question} = last_line($out);
		ok($rc == 0 && $right{$question} ne '', "undisturbed: $question") or diag $err;
	}
	return;
}

# ---- what goes wrong ----

my (%asked, %errors, @wrong);
my $deaths = 0;					# the second half

sub wrong
{
	my ($what) = @_;
	push @wrong, $what if @wrong < 50;
	diag $what;
	return;
}

# Errors that what was done explains.
sub explained
{
	my ($s, $state, $answer) = @_;
	return 1 if $state eq '57014' && $s->{interrupted};
	# By the backend of a client that was killed, which has had no time to notice.
	return 1 if $answer =~ /55000: another session trains/ && $s->{since} < $s->{alone_at};
	# A request that has met two ends, a training that has met that of its supervisor.
	return $deaths && ($state eq '58000' || $answer =~ /57014: the training was told to end/);
}

sub look_at_answer
{
	my ($s, $answer) = @_;
	my ($state) = $answer =~ /^ERROR:  (\w{5}):/m;

	if ($state)
	{
		$errors{$state}++;
		wrong("$s->{question}: $answer") unless explained($s, $state, $answer);
		return;
	}
	$answer = last_line($answer);
	wrong("$s->{question}: \"$answer\" instead of \"$right{$s->{question}}\"")
	  if $answer ne $right{ $s->{question} };
	return;
}

# ---- sessions ----

my @sessions;

sub open_one
{
	my ($i) = @_;
	my $s = open_session($node);

	@$s{qw(number until alone_at)} = ($i, time + rand(LIFE), 0);
	return $sessions[$i] = $s;
}

sub close_one
{
	my ($s) = @_;
	is_being_canceled($s, 1);
	$s->{in} .= "\\q\n" unless $s->{killed};
	eval { $s->{run}->finish };
	return;
}

# A SET may meet the time limit that it is to change: such sessions have one all the time.
sub has_timeouts { return $_[0]->{number} % 4 == 3 }

# Something to do, and what comes in between.
sub give
{
	my ($s) = @_;
	my $trains = $s->{number} < TRAINERS && rand() < 0.5;
	my $from = $trains ? \@trainings : \@questions;
	my $what = rand();

	$s->{question} = $from->[ rand @$from ];
	$s->{since} = time;
	$s->{interrupted} = $what < 0.2 || has_timeouts($s);
	$s->{cancel_at} = $what < 0.2 ? time + rand(1) : 0;
	$s->{kill_at} = $what > 0.96 ? time + rand(1) : 0;
	$asked{ $s->{question} }++;
	my $sql = named($s->{question}, $s->{number}) . ';';
	$sql = sprintf "SET statement_timeout = %d;\n%s", 1 + rand(800), $sql if has_timeouts($s);
	ask_only($s, $sql);
	return;
}

sub cancel
{
	my ($s) = @_;
	$s->{canceler} = start_query($node, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
		  . " WHERE application_name = 's$s->{number}'");
	return;
}

# A cancel is not to come to the next question.
sub is_being_canceled
{
	my ($s, $wait) = @_;
	my $canceler = $s->{canceler} or return 0;

	if (!$wait && $canceler->{run}->pumpable)
	{
		$canceler->{run}->pump_nb;
		return 1;
	}
	finish_query($canceler);
	$s->{canceler} = undef;
	return 0;
}

my @forgotten;

sub start_and_forget
{
	push @forgotten, start_query($node, $_[0]);
	return;
}

# What runs beside the sessions has only to end.
sub reap_forgotten
{
	my ($all) = @_;
	my @left;

	for my $query (@forgotten)
	{
		if (!$all && $query->{run}->pumpable)
		{
			$query->{run}->pump_nb;
			push @left, $query;
			next;
		}
		my ($rc, $out, $err) = finish_query($query);
		wrong("beside: $err")
		  if $rc != 0 && $err !~ /42704: model "\w+" is not loaded/ && !($deaths && $err =~ /58000/);
	}
	@forgotten = @left;
	return;
}

sub attend
{
	my ($i) = @_;
	my $s = $sessions[$i];

	if (!$s || $s->{killed})
	{
		close_one($s) if $s;
		my $alone_at = $s ? time + GONE : 0;
		$s = open_one($i);
		$s->{alone_at} = $alone_at;
		ask_only($s, "SET application_name = 's$i';");
		$s->{question} = '';
		return;
	}
	eval { $s->{run}->pump_nb; 1 } or do
	{
		wrong("session $i: $@");
		$s->{killed} = 1;
		return;
	};
	return if is_being_canceled($s) && $s->{out} =~ /^done-$s->{asked}$/m;
	if ($s->{out} =~ s/^done-$s->{asked}\n//m)
	{
		chomp(my $answer = $s->{out});
		look_at_answer($s, $answer) if $s->{question} ne '';
		if (time > $s->{until})
		{
			close_one($s);
			$sessions[$i] = undef;
			return;
		}
		give($s);
	}
	elsif (!$s->{run}->pumpable)
	{
		wrong("session $i was lost: $s->{question}: $s->{out}");
		$s->{killed} = 1;
	}
	elsif ($s->{question} ne '' && $s->{kill_at} && time > $s->{kill_at})
	{
		$s->{run}->signal('KILL');
		$s->{killed} = 1;
	}
	elsif ($s->{question} ne '' && $s->{cancel_at} && time > $s->{cancel_at})
	{
		$s->{cancel_at} = 0;
		cancel($s);
	}
	elsif ($s->{question} ne '' && time - $s->{since} > HANG)
	{
		wrong("session $i hangs: $s->{question}");
		$s->{run}->signal('KILL');
		$s->{killed} = 1;
	}
	return;
}

# ---- disturbances ----

my @stopped;					# [pid, when it goes on]

sub stop_for_a_moment
{
	my ($engine) = engines_of($node);

	return if !$engine || @stopped;
	kill 'STOP', $engine;
	@stopped = ($engine, time + rand(1.5));
	return;
}

sub let_go
{
	my ($all) = @_;

	return if !@stopped || (!$all && time < $stopped[1]);
	kill 'CONT', $stopped[0];
	@stopped = ();
	return;
}

# Junk, half a frame, or nothing; and gone.
sub knock
{
	my $socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => "$data/pg_stat_tmp/gpt2_engine.sock")
	  or return;
	my @junk = ('', 'x' x 10, pack('LSSQ', 2**31, 1, 0, 1), pack('LSSQ', 100, 1, 0, 0) . 'half',
		join('', map { chr rand 256 } 1 .. 200));

	local $SIG{PIPE} = 'IGNORE';
	syswrite $socket, $junk[ rand @junk ];
	close $socket;
	return;
}

sub change_setting
{
	my ($line) = @_;
	$node->append_conf('postgresql.conf', $line);
	$node->reload;
	return;
}

my @gentle = (
	sub { start_and_forget("SELECT gpt_unload_model('slow')") },
	sub { start_and_forget("SELECT gpt_load_model('slow')") },
	sub { start_and_forget("SELECT gpt_unload_model('demo')") },
	sub { start_and_forget('SELECT gpt_stat_reset()') },
	sub { change_setting('gpt2.result_cache_size = ' . (64 * int(rand 3))) },
	\&stop_for_a_moment,
	\&knock,
);
my @deadly = (
	sub { kill 'KILL', engines_of($node) },
	sub { start_and_forget('SELECT gpt_restart_engine()') },
	sub { start_and_forget('SELECT gpt_stop_engine()') },
	sub { change_setting('gpt2.threads = ' . (1 + int rand 2)) },
	sub { unlink glob "$data/pg_stat_tmp/gpt2_engine.*" },
);

# Until then, with what comes between.
sub run_until
{
	my ($end, $pause, @disturbances) = @_;
	my $next = time + $pause;

	while (time < $end)
	{
		attend($_) for 0 .. SESSIONS - 1;
		let_go();
		reap_forgotten();
		if (time > $next)
		{
			$disturbances[ rand @disturbances ]->();
			$next = time + rand(2 * $pause);
		}
		select(undef, undef, undef, PAUSE);
	}
	return;
}

# ---- what may not grow ----

# Of a process: kB of anonymous memory, threads, and the size of its table of descriptors, which
# doubles where they leak.  (What /proc has more is for the superuser.)
sub usage_of
{
	my ($pid) = @_;
	my $status = slurp_file("/proc/$pid/status");
	return map { $status =~ /^$_:\s*(\d+)/m ? $1 : die "no $_" } qw(RssAnon Threads FDSize);
}

# The largest memory while it goes on so long.
sub watch
{
	my ($pid, $seconds) = @_;
	my $end = time + $seconds;
	my @most = (0, 0, 0);

	while (time < $end)
	{
		run_until(time + 1, 2, @gentle);
		my @now = usage_of($pid);
		for my $i (0 .. 2)
		{
			$most[$i] = $now[$i] if $now[$i] > $most[$i];
		}
	}
	return @most;
}

# What is left in a directory that should not be.
sub leftovers
{
	my ($directory, $known) = @_;
	opendir my $dir, "$data/$directory" or return;
	my @left = grep { !/^\.\.?$/ && !/$known/ } readdir $dir;
	closedir $dir;
	return @left;
}

# Whatever is asked is answered, and no session is left.
sub wait_for_sessions
{
	for my $s (grep { $_ } @sessions)
	{
		if (!$s->{killed} && $s->{question} ne '')
		{
			is_being_canceled($s, 1);
			eval { look_at_answer($s, hear($s)); 1 } or wrong("session $s->{number}: $@");
		}
		close_one($s);
	}
	@sessions = ();
	let_go(1);
	reap_forgotten(1);
	return;
}

make_tables();
learn_answers();
my ($engine) = engines_of($node);
my $quarter = $minutes * 60 / 8;

# The first half: warm, look, go on, look again.
run_until(time + $quarter, 2, @gentle);
my @before = watch($engine, $quarter);
run_until(time + $quarter, 2, @gentle);
my @after = watch($engine, $quarter);
diag "result: engine: memory $before[0] kB, then $after[0] kB; threads $before[1], $after[1]; "
  . "descriptors $before[2], $after[2]";
is(engine_pid($node), $engine, 'the engine has lived');
SKIP:
{
	skip 'another program has other memory', 1 if $other_engine;
	cmp_ok($after[0], '<', $before[0] * GROWTH + GROWTH_KB, 'its memory has not grown');
}
cmp_ok($after[1], '<=', $before[1], 'nor its threads');
cmp_ok($after[2], '<=', $before[2], 'nor its descriptors');
my $supervisor = supervisor_pid($node);
my @supervisor_before = usage_of($supervisor);

# The second half: it dies.
$deaths = 1;
run_until(time + 4 * $quarter, 2, @gentle, @deadly);
wait_for_sessions();
sql("SELECT gpt_load_model('demo')");
ok(idle_engine($node), 'nothing is left in the engine');
my @engines = engines_of($node);
is(scalar @engines, 1, 'one engine runs');

for my $question (@questions, @trainings)
{
	is(last_line(join "\n", map { sql($_) } split /;\s*/, named($question, 0)), $right{$question},
		"in the end: $question ($asked{$question} times)");
}
is("@wrong", '', 'nothing was wrong');
diag 'result: ' . join ', ', sum(values %asked) . ' questions',
  map { "$errors{$_} errors $_" } sort keys %errors;

# ---- what is left ----

is(join(' ', leftovers('pg_stat_tmp', '^gpt2_(engine|train)\.(sock|lock)$')), '', 'pg_stat_tmp is clean');
is(join(' ', leftovers('base/pgsql_tmp_gpt2', '\.pack$|^train$')), '', 'no file of a pack is left');
is(join(' ', leftovers('gpt2_models', '^(slow|base|s\d+)$')), '', 'no folder of a training is left');
$node->stop('fast');
ok(poll_until(sub { !grep { process_exists($_) } @engines }), 'no engine is left');
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|Sanitizer|runtime error|terminated by signal (?!9)|could not (?:lock|create) /,
	'the log has nothing grave');
unlike($log, qr/server process .* was terminated/, 'no backend has crashed');
done_testing();
