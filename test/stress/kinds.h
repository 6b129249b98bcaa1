/*
 * kinds.h: the requests of the stress test and their right answers, which are learned one after the
 * other before the load begins.
 *
 * Filled by the main thread before the clients start; from then on nobody writes.
 */
#ifndef KINDS_H
#define KINDS_H

#include "server_fixture.h"

#include "protocol_score.h"

#define GENERATES 40
#define TOKENIZES 4
#define SCORES 12
#define WORKING (GENERATES + TOKENIZES + SCORES)	/* the others are refused */
#define MAX_KINDS (WORKING + 4)
#define SHARED 64				/* bytes that half of the prompts begin with: two KV blocks */

typedef struct kind
{
	uint16_t	type;
	bool		streams;
	bool		unloaded;		/* its model goes now and then */
	g2_buf		payload;
	uint16_t	wanted_type;
	g2_buf		wanted;			/* see normalize */
} kind;

static kind kinds[MAX_KINDS];
static uint32_t n_kinds;

/* The part of an answer that is the same each time: not times and cache hits. */
static bool
normalize(uint16_t type, const char *payload, size_t len, g2_buf *to)
{
	g2_reader	r = g2_read(payload, len);
	g2_completions_head head;

	to->len = 0;
	if (type != G2_MSG_COMPLETIONS && type != G2_MSG_SCORES)
		return g2_buf_append(to, payload, len);
	g2_completions_head_get(&r, &head);
	g2_buf_append(to, &head.prompt_tokens, sizeof head.prompt_tokens);
	if (type == G2_MSG_SCORES)
		return !r.failed && g2_buf_append(to, r.at, (size_t) (r.end - r.at));
	g2_buf_append(to, &head.seed, sizeof head.seed);
	for (uint32_t i = 0; i < head.n && !r.failed; i++)
	{
		g2_completion c;

		g2_completion_get(&r, &c);
		if (r.failed)
			break;
		g2_buf_append(to, &c.finish, sizeof c.finish);
		g2_buf_append(to, &c.logprob, sizeof c.logprob);
		g2_buf_append(to, &c.n_ids, sizeof c.n_ids);
		g2_buf_append(to, c.ids, c.n_ids * sizeof(uint32_t));
		g2_buf_append(to, c.text.data, c.text.len);
	}
	return !r.failed && !to->failed;
}

static kind *
new_kind(uint16_t type, g2_writer *w)
{
	kind	   *k = &kinds[n_kinds++];

	assert_true(n_kinds <= MAX_KINDS);
	k->type = type;
	assert_true(g2_buf_append(&k->payload, w->data, w->len));
	free(w->data);
	return k;
}

static void
add_generate(g2_generate *m)
{
	g2_writer	w = {.grow = grow};

	m->current_user = 10 + n_kinds % 3;
	g2_generate_encode(&w, m);
	new_kind(G2_MSG_GENERATE, &w)->streams = (m->flags & G2_GEN_STREAM) != 0;
}

static void
add_tokenize(const char *text, size_t len)
{
	g2_writer	w = {.grow = grow};

	g2_tokenize_encode(&w, &(g2_tokenize) {g2_span_of("tiny"), {text, (uint32_t) len},
					   .current_user = 10});
	new_kind(G2_MSG_TOKENIZE, &w);
}

/* Of each kind some, of texts that share their beginning, some longer than the context. */
static void
add_score(const char *text, uint32_t i)
{
	g2_score	m = {
		.model = g2_span_of("tiny"), .text = {text, 20 + 40 * i},
		.kind = G2_SCORE_TOKENS + i % 4, .flags = i % 3 == 0 ? G2_SCORE_NO_CACHE : 0,
		.current_user = 10, .template_text = g2_span_of("{input} {label}"),
		.n_labels = 3, .labels = {g2_span_of("yes"), g2_span_of("no"), g2_span_of("maybe")},
	};
	g2_writer	w = {.grow = grow};

	g2_score_encode(&w, &m);
	new_kind(G2_MSG_SCORE, &w);
}

/* Constraints that are compiled once, and some that each request of its kind has for itself. */
static void
constrain(g2_generate *m, uint32_t i)
{
	static char own[GENERATES][32];

	/* Beams are not held to a constraint. */
	if (i % 4 != 2 || m->decoding.n_beams > 1)
		return;
	snprintf(own[i], sizeof own[i], "[a-z]*( %u)?", i);
	m->constraint_kind = i % 8 == 2 ? G2_CONSTRAINT_REGEX : G2_CONSTRAINT_CHOICE;
	m->constraint = g2_span_of(i % 8 == 2 ? own[i] : "[\"a\", \"b\", \"c\"]");
}

static void
make_generates(void)
{
	static const uint32_t ids[] = {1, 2, 3, 200, 100};
	char		text[SHARED + 128];

	for (uint32_t i = 0; i < GENERATES; i++)
	{
		g2_generate m = random_generate(text + SHARED);

		memset(text, 's', SHARED);
		m.prompt = g2_span_of(i % 2 ? text : text + SHARED);
		m.prompt.len = G2_MIN(m.prompt.len, 100u);
		if (i % 3 == 0)
		{
			m.n = 1;
			m.decoding.n_beams = 0;
			m.flags |= G2_GEN_STREAM;
			m.temperature = i % 2;
		}
		if (i % 8 == 7)
			m.flags |= G2_GEN_NO_CACHE;
		if (i % 5 == 0)
			m.flags |= G2_GEN_SEEDED;
		if (i % 10 == 9)
		{
			m.model = g2_span_of("bare");
			m.prompt = (g2_span) {(const char *) ids, sizeof ids};
			m.flags |= G2_GEN_PROMPT_IDS;
		}
		constrain(&m, i);
		add_generate(&m);
		kinds[n_kinds - 1].unloaded = i % 10 == 9;
	}
}

static void
make_kinds(void)
{
	static char text[20000];
	g2_generate m = generate(text);

	make_generates();
	for (size_t i = 0; i < sizeof text - 1; i++)
		text[i] = (char) ('a' + random_below(26));
	for (uint32_t i = 0; i < TOKENIZES; i++)
		add_tokenize(text, 1 + random_below(sizeof text - 1));
	for (uint32_t i = 0; i < SCORES; i++)
		add_score(text, i);
	/* Refusals. */
	m.prompt = g2_span_of(text);
	add_generate(&m);			/* longer than the context */
	m = generate("x");
	m.model = g2_span_of("absent");
	add_generate(&m);
	m = generate("x");
	m.max_new = 0;
	add_generate(&m);
}

static void
learn_answers(void)
{
	client		c = greet();
	g2_frame	frame;
	const char *payload;

	for (uint32_t i = 0; i < n_kinds; i++)
	{
		kind	   *k = &kinds[i];

		send_frame(&c, k->type, i + 1, k->payload.data, k->payload.len);
		do
			assert_true(receive(&c, &frame, &payload));
		while (frame.type == G2_MSG_NOTICE || frame.type == G2_MSG_STREAM);
		assert_int_equal(frame.id, i + 1);
		assert_int_equal(frame.type == G2_MSG_ERROR, i >= WORKING);
		k->wanted_type = frame.type;
		assert_true(normalize(frame.type, payload, frame.length, &k->wanted));
	}
	leave(&c);
}

static void
free_kinds(void)
{
	for (uint32_t i = 0; i < n_kinds; i++)
	{
		g2_buf_free(&kinds[i].payload);
		g2_buf_free(&kinds[i].wanted);
	}
}

#endif							/* KINDS_H */
