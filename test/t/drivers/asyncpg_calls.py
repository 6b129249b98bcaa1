# What the documentation says about asyncpg.  Arguments: host, port, user.
import asyncio
import sys

import asyncpg


async def main():
    host, port, user = sys.argv[1:4]
    place = dict(host=host, port=int(port), user=user, database="postgres")
    connection = await asyncpg.connect(**place)
    notices = []
    connection.add_log_listener(lambda _, notice: notices.append(notice.message))

    rows = await connection.fetch(
        "SELECT g FROM gpt_generate($1, 5, n => $2::int, model => $3, seed => 1) AS g",
        "My printer", 3, "demo")
    print("rows:", "|".join(row["g"] for row in rows))

    value = await connection.fetchval(
        "SELECT gpt_generate(repeat('My printer ', 5000), 5, 'demo', options => $1)",
        '{"on_error": "null"}')
    print("null:", value)
    await asyncio.sleep(0)
    print("warning:", notices[-1])

    try:
        await connection.fetchval("SELECT gpt_generate('x', $1, 'demo')", 0)
    except asyncpg.PostgresError as error:
        print("error:", error.sqlstate)

    async with connection.transaction():
        pieces = [row["piece"] async for row in connection.cursor(
            "SELECT (s).piece FROM (SELECT gpt_stream($1, 5, 'demo') AS s) AS q",
            "My printer", prefetch=1)]
    print("stream:", "".join(pieces))

    # A timeout cancels the statement in the server.
    other = await asyncpg.connect(**place)
    call = asyncio.ensure_future(
        connection.fetchval("SELECT gpt_generate('Once', 8000, 'slow')"))
    while not await other.fetchval("SELECT count(*) FROM gpt_stat_requests WHERE pid = $1",
                                   connection.get_server_pid()):
        await asyncio.sleep(0.01)
    await other.execute("SELECT pg_cancel_backend(%d)" % connection.get_server_pid())
    try:
        await call
    except asyncpg.PostgresError as error:
        print("cancel:", error.sqlstate)
    await other.close()
    await connection.close()


asyncio.run(main())
