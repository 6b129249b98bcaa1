# A real pg_cron that runs gpt_batch every few seconds: new rows get their summaries by themselves, as
# docs/operations.md says.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use Test::More;

my $sharedir = `"@{[ $ENV{PG_CONFIG} || 'pg_config' ]}" --sharedir`;
chomp $sharedir;
plan skip_all => 'pg_cron is not installed (Debian: postgresql-15-cron)'
  unless -e "$sharedir/extension/pg_cron.control";

my $node = new_server('main', conf => <<'END');
gpt2.model = 'demo'
shared_preload_libraries = 'pg_cron,gpt2'
cron.database_name = 'postgres'
cron.use_background_workers = on
END

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(<<'END');
CREATE EXTENSION pg_cron;
CREATE ROLE writer LOGIN;
GRANT USAGE ON SCHEMA cron TO writer;
CREATE TABLE docs (id serial PRIMARY KEY, body text, summary text, problem text);
GRANT SELECT, UPDATE ON docs TO writer;
INSERT INTO docs (body) SELECT 'My printer makes a loud noise, order ' || i
FROM generate_series(1, 30) AS i;
END

# Older versions of pg_cron know no seconds: there a job of a minute is a loop.
my $call = "CALL public.gpt_batch('docs', 'body', 'summary', error_column => 'problem',"
  . ' batch_size => 10, max_len => 20';
my $loop = "DO \$\$
DECLARE
    d bigint; f bigint; r bigint;
BEGIN
    FOR i IN 1 .. 25 LOOP
        $call, done => d, failed => f, remaining => r);
        COMMIT;
        PERFORM pg_sleep(2);
    END LOOP;
END \$\$";
my $knows_seconds = sql(q{SELECT string_to_array(split_part(extversion, '-', 1), '.')::int[] >= '{1,5}'
                          FROM pg_extension WHERE extname = 'pg_cron'}) eq 't';
$node->safe_psql('postgres',
	$knows_seconds ? "SELECT cron.schedule('summaries', '2 seconds', \$job\$$call)\$job\$)" :
	  "SELECT cron.schedule('summaries', '* * * * *', \$job\$$loop\$job\$)",
	extra_params => [ '-U', 'writer' ]);

sub filled
{
	my ($n) = @_;
	return poll_sql($node, "SELECT count(*) = $n FROM docs WHERE summary IS NOT NULL");
}

ok(filled(30), 'a job fills what there is');
my $runs = sql('SELECT count(*) FROM cron.job_run_details');
for my $n (31 .. 33)
{
	sql("INSERT INTO docs (body) VALUES ('My lamp is dark, order $n')");
	ok(filled($n), 'and a new row when it comes');
}
SKIP:
{
	skip 'runs are short where pg_cron knows seconds', 1 if $knows_seconds;
	cmp_ok(sql('SELECT count(*) FROM cron.job_run_details') - $runs, '<', 2,
		'every few seconds, not every minute');
}
is(sql('SELECT count(*) FROM docs WHERE summary IS DISTINCT FROM gpt_summarize(body, 20)'), 0,
	'with the right summaries');
sql(q{SELECT cron.unschedule(jobid) FROM cron.job});
is(sql(q{SELECT string_agg(DISTINCT username, ','),
	    count(*) FILTER (WHERE status NOT IN ('succeeded', 'running', 'starting'))
	    FROM cron.job_run_details}), 'writer|0', 'no run fails, and all are of their role');

$node->stop;
done_testing();
