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

# Older versions of pg_cron know no seconds, and run a job every minute at most.
my $job = q{CALL public.gpt_batch('docs', 'body', 'summary', error_column => 'problem',
	batch_size => 10, max_len => 20, time_limit => '50 s')};
my $seconds = 1;
{
	my ($rc, $out, $err) = $node->psql('postgres',
		"SELECT cron.schedule('summaries', '2 seconds', \$job\$$job\$job\$)",
		extra_params => [ '-U', 'writer' ]);
	if ($rc != 0)
	{
		$seconds = 60;
		$node->safe_psql('postgres', "SELECT cron.schedule('summaries', '* * * * *', \$job\$$job\$job\$)",
			extra_params => [ '-U', 'writer' ]);
	}
}
ok(poll_sql($node, 'SELECT count(*) = 30 FROM docs WHERE summary IS NOT NULL', 't', 180),
	'a job fills what there is');
sql(q{INSERT INTO docs (body) VALUES ('My lamp is dark.'), ('My phone is hot.')});
ok(poll_sql($node, 'SELECT count(*) = 32 FROM docs WHERE summary IS NOT NULL', 't', 180),
	'and new rows as they come');
is(sql('SELECT count(*) FROM docs WHERE summary IS DISTINCT FROM gpt_summarize(body, 20)'), 0,
	'with the right summaries');
is(sql(q{SELECT count(*) > 1 OR } . ($seconds == 60 ? 'true' : 'false')
	  . q{, string_agg(DISTINCT username, ','),
	    string_agg(DISTINCT status, ',') FILTER (WHERE status NOT IN ('succeeded', 'running', 'starting'))
	    FROM cron.job_run_details}), 't|writer|', 'each run succeeds, as its role');
sql(q{SELECT cron.unschedule(jobid) FROM cron.job});
ok(poll_sql($node, 'SELECT count(*) FROM gpt_stat_progress_batch', '0'), 'no job is left');

$node->stop;
done_testing();
