/*
 * grammar_lexicon.h: a byte-level vocabulary as a tree of the bytes of its tokens, and the walk of
 * an automaton over it: which tokens may come, without trying each of them.
 *
 * The nodes stand in the order in which a walk meets them; where the automaton dies, it goes on
 * behind the node's subtree (the idea of llguidance's token trie).  Immutable once made.
 *
 * Tokens that no text can produce, that have no text, that end it, or that have more than
 * G2_LEXICON_MAX_DEPTH bytes are not in it.
 */
#ifndef G2_GRAMMAR_LEXICON_H
#define G2_GRAMMAR_LEXICON_H

#include "grammar_dfa.h"
#include "tokenizer.h"

#define G2_LEXICON_MAX_DEPTH 255

typedef struct g2_lexicon_node
{
	uint32_t	token;			/* that ends here; G2_NO_TOKEN */
	uint32_t	end;			/* first node behind its subtree */
	uint8_t		byte;
	uint8_t		depth;			/* bytes from the root, from 1 */
} g2_lexicon_node;

typedef struct g2_lexicon
{
	uint32_t	n_nodes;
	g2_lexicon_node *nodes;
	uint32_t	first[256];		/* node of each byte at the root */
} g2_lexicon;

/* end_token may be G2_NO_TOKEN.  0A000 for a vocabulary in which not every byte is a token. */
extern bool g2_lexicon_new(const g2_tokenizer *tok, uint32_t end_token, g2_lexicon **out,
						   g2_error *err);
extern void g2_lexicon_free(g2_lexicon *lexicon);

/* The next token whose bytes the automaton can read. */
typedef struct g2_walk
{
	const g2_lexicon *lexicon;
	const g2_dfa *dfa;
	uint32_t	at;				/* node to be looked at next */
	uint32_t	token;			/* found ... */
	uint32_t	state;			/* ... and where its bytes lead */
	uint32_t	steps;			/* nodes looked at */
	uint32_t	states[G2_LEXICON_MAX_DEPTH + 1];	/* behind the bytes of the path */
} g2_walk;

static inline void
g2_walk_begin(g2_walk *w, const g2_lexicon *lexicon, const g2_dfa *dfa, uint32_t state)
{
	w->lexicon = lexicon;
	w->dfa = dfa;
	w->at = w->steps = 0;
	w->states[0] = state;
}

/* False: there are no more. */
static inline bool
g2_walk_next(g2_walk *w)
{
	const g2_lexicon *lexicon = w->lexicon;

	while (w->at < lexicon->n_nodes)
	{
		const g2_lexicon_node *node = &lexicon->nodes[w->at];
		uint32_t	state = g2_dfa_next(w->dfa, w->states[node->depth - 1], node->byte);

		w->steps++;
		if (state == G2_DFA_DEAD)
		{
			w->at = node->end;
			continue;
		}
		w->states[node->depth] = state;
		w->at++;
		if (node->token == G2_NO_TOKEN)
			continue;
		w->token = node->token;
		w->state = state;
		return true;
	}
	return false;
}

#endif							/* G2_GRAMMAR_LEXICON_H */
