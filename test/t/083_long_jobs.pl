# A job of very many batches needs hardly more memory than one of a few.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use Test::More;

use constant ROWS => 1500;

my $node = new_server('main', conf => "gpt2.model = 'demo'\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

plan skip_all => 'memory contexts cannot be seen before PostgreSQL 14'
  if sql('SHOW server_version_num') < 140000;

# Blank inputs, whose output is blank too: nothing is asked for.
sql(<<"END");
CREATE TABLE docs (id int PRIMARY KEY, body text, summary text);
INSERT INTO docs SELECT i, ' ' FROM generate_series(1, ${\ROWS}) AS i;
CREATE TABLE memory (id int, bytes bigint);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    IF NEW.id % 500 = 10 THEN
        INSERT INTO memory SELECT NEW.id, sum(total_bytes) FROM pg_backend_memory_contexts
            WHERE name LIKE 'SPI%' OR name LIKE 'gpt_batch%' OR name LIKE 'Portal%';
    END IF;
    RETURN NEW;
END \$\$;
CREATE TRIGGER look BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION look();
END

is(sql("CALL gpt_batch('docs', 'body', 'summary', batch_size => 1)"), ROWS . '|0|0',
	'a job of a row in each batch');
is(sql('SELECT count(*) FROM memory'), 3, 'its memory was looked at');
my ($first, $last) = split /\|/,
  sql('SELECT min(bytes) FILTER (WHERE id = 10), max(bytes) FILTER (WHERE id > 1000) FROM memory');
# A few dozen bytes of a batch stay.
cmp_ok($last - $first, '<', 200 * ROWS, "which hardly grows: $first bytes, then $last");

$node->stop;
done_testing();
