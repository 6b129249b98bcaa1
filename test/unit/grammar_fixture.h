/*
 * grammar_fixture.h: a small vocabulary, constraints compiled against it, and their masks.
 */
#ifndef GRAMMAR_FIXTURE_H
#define GRAMMAR_FIXTURE_H

#include "tokenizer_fixture.h"

#include "grammar_mask.h"

static model vocabulary;
static g2_lexicon *lexicon;
static g2_masks *masks;
static uint32_t end_token;

static int
set_up(void **state)
{
	g2_error	err;

	(void) state;
	make_small(&vocabulary);
	end_token = g2_tokenizer_find(vocabulary.tok, "<|endoftext|>", 13);
	assert_true(g2_lexicon_new(vocabulary.tok, end_token, &lexicon, &err));
	assert_true(g2_masks_open(1 << 20, &masks, &err));
	return 0;
}

static int
tear_down(void **state)
{
	(void) state;
	g2_masks_close(masks);
	g2_lexicon_free(lexicon);
	free_model(&vocabulary);
	return 0;
}

static g2_grammar *
compile(g2_constraint_kind kind, const char *text, g2_error *err)
{
	g2_grammar *grammar = NULL;

	memset(err, 0, sizeof *err);
	return g2_grammar_compile(kind, text, strlen(text), lexicon, NULL, &grammar, err) ?
		grammar : NULL;
}

static bool
allows(const g2_grammar *grammar, const char *text)
{
	uint32_t	state = g2_dfa_run(&grammar->dfa, G2_GRAMMAR_START, text, strlen(text));

	return state != G2_DFA_DEAD && grammar->dfa.accepts[state];
}

#endif							/* GRAMMAR_FIXTURE_H */
