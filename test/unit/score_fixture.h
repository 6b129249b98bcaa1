/*
 * score_fixture.h: SCOREs sent to an engine, and their answers read.
 */
#ifndef SCORE_FIXTURE_H
#define SCORE_FIXTURE_H

#include "engine_driver.h"

#include "protocol_score.h"

static UNUSED g2_score
score_of(g2_score_kind kind, g2_span text)
{
	return (g2_score) {.model = g2_span_of("tiny"), .text = text, .kind = kind};
}

static UNUSED void
send_score(reply *r, uint64_t id, const g2_score *m)
{
	g2_writer	w = {.grow = grow};

	g2_score_encode(&w, m);
	g2_engine_submit(client_of(r), id, G2_MSG_SCORE, w.data, w.len);
	free(w.data);
}

/* The head of an answer; *in is what follows. */
static UNUSED g2_completions_head
scores_head(const reply *r, g2_reader *in)
{
	g2_completions_head head;

	if (r->type == G2_MSG_ERROR)
	{
		g2_error_message e;

		assert_true(g2_error_decode(r->data, r->len, &e));
		fail_msg("%s %.*s", e.sqlstate, (int) e.message.len, e.message.data);
	}
	assert_int_equal(r->type, G2_MSG_SCORES);
	assert_int_equal(r->answers, 1);
	*in = g2_read(r->data, r->len);
	g2_completions_head_get(in, &head);
	assert_false(in->failed);
	return head;
}

/* What follows the head must be the same bits. */
static UNUSED void
same_scores(const reply *a, const reply *b)
{
	g2_reader	x,
				y;
	g2_completions_head of_a = scores_head(a, &x),
				of_b = scores_head(b, &y);

	assert_int_equal(of_a.n, of_b.n);
	assert_int_equal(of_a.prompt_tokens, of_b.prompt_tokens);
	assert_int_equal(x.end - x.at, y.end - y.at);
	assert_memory_equal(x.at, y.at, (size_t) (x.end - x.at));
}

#endif							/* SCORE_FIXTURE_H */
