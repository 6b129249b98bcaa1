/*
 * stream_clients.c: closed-loop clients that read generated texts token by token through cursors,
 * and what they wait for: the first token, and each one after it.
 *
 *     stream_clients CONNINFO MODEL PROMPTS CLIENTS SECONDS
 *
 * A client begins a transaction, declares a cursor over gpt_stream on a random row of the table
 * prompts (id 1 .. PROMPTS), fetches one row at a time until there is none, commits, and begins
 * again.  (Rows of a plain SELECT leave the server when 8 kB of them are there: a cursor sees each
 * token when it is made.)  One thread drives all connections with libpq's asynchronous calls.
 *
 * Prints one line: clients, texts, tokens per second, p50 and p99 of the time to the first token and
 * between tokens in milliseconds, errors.  Exit status 1 when there was an error.
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NEW_TOKENS 32
#define MAX_CLIENTS 1000

typedef struct series
{
	double	   *values;
	size_t		n;
	size_t		room;
} series;

typedef struct client
{
	PGconn	   *conn;
	enum
	{
		FIRST, NEXT, COMMIT, DONE
	}			state;
	double		asked;			/* when what it waits for was sent */
	int			rows;			/* of the answer that is being read */
} client;

static client clients[MAX_CLIENTS];
static int	n_clients;
static const char *model;
static int	n_prompts;
static series first_token,
			between;
static uint64_t texts,
			errors;
static uint64_t random_state = 1;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static uint32_t
random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (random_state >> 33) % n;
}

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "stream_clients: %s: %s\n", what, why);
	exit(1);
}

static void
add(series *s, double value)
{
	if (s->n == s->room)
	{
		s->room = s->room ? 2 * s->room : 1024;
		s->values = realloc(s->values, s->room * sizeof *s->values);
		if (!s->values)
			fail("measuring", "out of memory");
	}
	s->values[s->n++] = value;
}

static int
compare(const void *a, const void *b)
{
	double		x = *(const double *) a,
				y = *(const double *) b;

	return (x > y) - (x < y);
}

/* Milliseconds. */
static double
percentile(series *s, double p)
{
	if (s->n == 0)
		return 0;
	qsort(s->values, s->n, sizeof *s->values, compare);
	return 1e3 * s->values[(size_t) (p * (double) (s->n - 1))];
}

/* ---- one client ---- */

static void
send_query(client *c, const char *sql)
{
	if (!PQsendQuery(c->conn, sql))
		fail("sending", PQerrorMessage(c->conn));
	c->asked = now();
	c->rows = 0;
}

static void
begin(client *c)
{
	char		sql[512];

	snprintf(sql, sizeof sql,
			 "BEGIN; DECLARE c NO SCROLL CURSOR FOR SELECT (s).pos FROM (SELECT gpt_stream(text, %d,"
			 " model => '%s', options => '{\"cache\": false}') AS s FROM prompts WHERE id = %u)"
			 " AS q; FETCH 1 FROM c", NEW_TOKENS, model,
			 1 + random_below((uint32_t) n_prompts));
	c->state = FIRST;
	send_query(c, sql);
}

/* All results of a query are here. */
static void
advance(client *c, bool go_on)
{
	if (c->state != COMMIT && c->rows > 0)
	{
		add(c->state == FIRST ? &first_token : &between, now() - c->asked);
		c->state = NEXT;
		send_query(c, "FETCH 1 FROM c");
	}
	else if (c->state != COMMIT)
	{
		c->state = COMMIT;
		send_query(c, "COMMIT");
	}
	else
	{
		texts++;
		if (go_on)
			begin(c);
		else
			c->state = DONE;
	}
}

static void
take_results(client *c, bool go_on)
{
	if (!PQconsumeInput(c->conn))
		fail("receiving", PQerrorMessage(c->conn));
	while (c->state != DONE && !PQisBusy(c->conn))
	{
		PGresult   *result = PQgetResult(c->conn);

		if (!result)
		{
			advance(c, go_on);
			continue;
		}
		if (PQresultStatus(result) == PGRES_TUPLES_OK)
			c->rows = PQntuples(result);
		else if (PQresultStatus(result) != PGRES_COMMAND_OK)
		{
			fprintf(stderr, "%s", PQresultErrorMessage(result));
			errors++;
		}
		PQclear(result);
	}
}

/* ---- all of them ---- */

static void
connect_all(const char *conninfo)
{
	for (int i = 0; i < n_clients; i++)
	{
		clients[i].conn = PQconnectdb(conninfo);
		if (PQstatus(clients[i].conn) != CONNECTION_OK)
			fail("connecting", PQerrorMessage(clients[i].conn));
		PQclear(PQexec(clients[i].conn, "SET client_min_messages = warning"));
	}
}

/* Seconds that it took; texts that were begun in time are read to their end. */
static double
run(double seconds)
{
	double		started = now();
	int			busy = n_clients;

	for (int i = 0; i < n_clients; i++)
		begin(&clients[i]);
	while (busy > 0)
	{
		struct pollfd fds[MAX_CLIENTS];
		bool		go_on = now() - started < seconds;

		for (int i = 0; i < n_clients; i++)
		{
			client	   *c = &clients[i];

			/* poll leaves out negative descriptors */
			fds[i] = (struct pollfd) {c->state == DONE ? -1 : PQsocket(c->conn), POLLIN, 0};
			if (PQflush(c->conn) > 0)
				fds[i].events |= POLLOUT;
		}
		if (poll(fds, (nfds_t) n_clients, 60000) == 0)
			fail("waiting", "no answer for a minute");
		for (int i = 0; i < n_clients; i++)
			if (fds[i].revents)
			{
				take_results(&clients[i], go_on);
				busy -= clients[i].state == DONE;
			}
	}
	return now() - started;
}

int
main(int argc, char **argv)
{
	double		took;

	if (argc != 6)
		fail("usage", "stream_clients CONNINFO MODEL PROMPTS CLIENTS SECONDS");
	model = argv[2];
	n_prompts = atoi(argv[3]);
	n_clients = atoi(argv[4]);
	if (n_prompts < 1 || n_clients < 1 || n_clients > MAX_CLIENTS || strlen(model) > 64)
		fail("usage", "an argument is out of range");
	random_state = (uint64_t) n_clients;
	connect_all(argv[1]);
	took = run(atof(argv[5]));
	printf("%d %llu %.1f %.1f %.1f %.2f %.2f %llu\n", n_clients, (unsigned long long) texts,
		   (double) (first_token.n + between.n) / took, percentile(&first_token, 0.5),
		   percentile(&first_token, 0.99), percentile(&between, 0.5), percentile(&between, 0.99),
		   (unsigned long long) errors);
	for (int i = 0; i < n_clients; i++)
		PQfinish(clients[i].conn);
	return errors > 0;
}
