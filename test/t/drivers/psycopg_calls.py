# What the documentation says about psycopg (3).  Arguments: host, port, user.
import sys
import threading
import time

import psycopg
from psycopg.types.json import Jsonb

host, port, user = sys.argv[1:4]
place = dict(host=host, port=port, user=user, dbname="postgres", autocommit=True)
connection = psycopg.connect(**place)
notices = []
connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))

rows = connection.execute("SELECT * FROM gpt_generate(%s, 5, n => %s::int, model => %s, seed => 1)",
                          ("My printer", 3, "demo")).fetchall()
print("rows:", "|".join(row[0] for row in rows))

row = connection.execute(
    "SELECT gpt_generate(repeat('My printer ', 5000), 5, 'demo', options => %s)",
    (Jsonb({"on_error": "null"}),)).fetchone()
print("null:", row[0])
print("warning:", notices[-1])

try:
    connection.execute("SELECT gpt_generate('x', %s::int, 'demo')", (0,))
except psycopg.Error as error:
    print("error:", error.sqlstate)

with connection.transaction(), connection.cursor("texts") as stream:
    stream.itersize = 1
    stream.execute("SELECT (s).piece FROM (SELECT gpt_stream(%s, 5, 'demo') AS s) AS q",
                   ("My printer",))
    print("stream:", "".join(row[0] for row in stream))


def cancel_when_it_runs():
    with psycopg.connect(**place) as other:
        while not other.execute("SELECT count(*) FROM gpt_stat_requests WHERE pid = %s::int",
                                (connection.info.backend_pid,)).fetchone()[0]:
            time.sleep(0.01)
        connection.cancel()


canceler = threading.Thread(target=cancel_when_it_runs)
canceler.start()
try:
    connection.execute("SELECT gpt_generate('Once', 8000, 'slow')")
except psycopg.Error as error:
    print("cancel:", error.sqlstate)
canceler.join()
