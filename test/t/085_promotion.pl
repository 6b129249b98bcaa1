# Usage counters of an engine that runs while its standby is promoted: those of the new timeline
# start at zero, in the engine as in the file, and are there after its end.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
my $short = q{SELECT gpt_generate('ab', 3)};
my $calls = 'SELECT sum(calls) FROM gpt_stat_usage';

$node->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 4\n");
$node->append_conf('pg_hba.conf', "local replication all trust\n");
$node->restart;
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;

sub sql { return $standby->safe_psql('postgres', @_) }

# A session that is open all the time, and has asked before.
my $session = open_session($standby);

ask($session, "$short;");
sql($short) for 1 .. 2;
is(sql($calls), 3, 'the standby counts');
my $engine = engine_pid($standby);
$standby->promote;
ask($session, "$short;");
is(sql($calls), 1, 'promoted: from zero on');
is(engine_pid($standby), $engine, 'promoted: by the same engine');
like(slurp_file($standby->logfile), qr/gpt2 engine: the usage counters start at zero: .*timeline 2/,
	'promoted: the log says so');
sql($short);
sql('SELECT gpt_stop_engine()');
is(sql($calls), 2, 'they are saved as those of the new timeline');
sql($short);
is(sql($calls), 3, 'and the next engine goes on with them');

$session->{run}->finish;
$standby->stop;
$node->stop;
done_testing();
