// What the documentation says about node-postgres.  Arguments: host, port, user.
const { Client } = require('pg');

async function main() {
  const [host, port, user] = process.argv.slice(2);
  const place = { host, port: Number(port), user, database: 'postgres' };
  const client = new Client(place);
  const notices = [];
  client.on('notice', (notice) => notices.push(notice.message));
  await client.connect();

  let result = await client.query(
    'SELECT g FROM gpt_generate($1, 5, n => $2::int, model => $3, seed => 1) AS g',
    ['My printer', 3, 'demo']);
  console.log('rows:', result.rows.map((row) => row.g).join('|'));

  result = await client.query(
    "SELECT gpt_generate(repeat('My printer ', 5000), 5, 'demo', options => $1) AS g",
    [{ on_error: 'null' }]);
  console.log('null:', result.rows[0].g === null ? 'None' : result.rows[0].g);
  console.log('warning:', notices[notices.length - 1]);

  await client.query("SELECT gpt_generate('x', $1::int, 'demo')", [0])
    .catch((error) => console.log('error:', error.code));

  await client.query('BEGIN');
  await client.query({
    text: "DECLARE c CURSOR FOR SELECT (s).piece FROM (SELECT gpt_stream('My printer', 5, 'demo') AS s) AS q",
  });
  let text = '';
  for (;;) {
    const { rows } = await client.query('FETCH 1 FROM c');
    if (rows.length === 0) break;
    text += rows[0].piece;
  }
  await client.query('COMMIT');
  console.log('stream:', text);

  const other = new Client(place);
  await other.connect();
  const { rows: [{ pid }] } = await client.query('SELECT pg_backend_pid() AS pid');
  const call = client.query("SELECT gpt_generate('Once', 8000, 'slow')")
    .catch((error) => console.log('cancel:', error.code));
  for (;;) {
    const { rows } = await other.query(
      'SELECT 1 FROM gpt_stat_requests WHERE pid = $1::int', [pid]);
    if (rows.length > 0) break;
  }
  await other.query('SELECT pg_cancel_backend($1::int)', [pid]);
  await call;
  await other.end();
  await client.end();
}

main().catch((error) => { console.error(error); process.exit(1); });
