# What the documentation says about psycopg2.  Arguments: host, port, user.
import sys
import threading
import time

import psycopg2

host, port, user = sys.argv[1:4]
connection = psycopg2.connect(host=host, port=port, user=user, dbname="postgres")
connection.autocommit = True
cursor = connection.cursor()

cursor.execute("SELECT * FROM gpt_generate(%s, 5, n => %s, model => %s, seed => 1)",
               ("My printer", 3, "demo"))
print("rows:", "|".join(row[0] for row in cursor))

cursor.execute("SELECT gpt_generate(repeat('My printer ', 5000), 5, 'demo', options => %s)",
               ('{"on_error": "null"}',))
print("null:", cursor.fetchone()[0])
print("warning:", connection.notices[-1].splitlines()[0].replace("WARNING:  ", ""))

try:
    cursor.execute("SELECT gpt_generate('x', %s, 'demo')", (0,))
except psycopg2.Error as error:
    print("error:", error.pgcode)

connection.autocommit = False
with connection.cursor("texts") as stream:
    stream.itersize = 1
    stream.execute("SELECT (s).piece FROM (SELECT gpt_stream(%s, 5, 'demo') AS s) AS q",
                   ("My printer",))
    print("stream:", "".join(row[0] for row in stream))
connection.rollback()


def cancel_when_it_runs():
    with psycopg2.connect(host=host, port=port, user=user, dbname="postgres") as other:
        other.autocommit = True
        look = other.cursor()
        running = 0
        while not running:
            look.execute("SELECT count(*) FROM gpt_stat_requests WHERE pid = %s",
                         (connection.get_backend_pid(),))
            running = look.fetchone()[0]
            time.sleep(0.01)
        connection.cancel()


canceler = threading.Thread(target=cancel_when_it_runs)
canceler.start()
try:
    cursor.execute("SELECT gpt_generate('Once', 8000, 'slow')")
except psycopg2.Error as error:
    print("cancel:", error.pgcode)
canceler.join()
