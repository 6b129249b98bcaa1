/*
 * grammar.h: a constraint (`choice`, `regex`, `json_schema`), compiled against a vocabulary.
 *
 * A text under a constraint is a walk through its automaton.  What may come next in a state is
 * every token from behind which acceptance can be reached within the tokens that remain: least[]
 * knows how many that takes.  There is always such a token where there was one before, since the
 * one that least[] counts with is among them.
 *
 * Phases: compile (a helper thread; bounded in time and memory), then immutable; any number of
 * threads may read it.
 */
#ifndef G2_GRAMMAR_H
#define G2_GRAMMAR_H

#include "grammar_lexicon.h"
#include "protocol.h"

typedef struct g2_grammar
{
	uint64_t	id;				/* of all that were ever compiled; what masks are kept by */
	const g2_lexicon *lexicon;	/* lives at least as long */
	g2_dfa		dfa;
	uint32_t   *least;			/* [dfa.n_states] tokens to acceptance; 0 = accepts */
	size_t		bytes;			/* of memory */
} g2_grammar;

/* By kind: what the option is called. */
extern const char *const g2_constraint_names[G2_N_CONSTRAINTS];

/*
 * Compiles text[0..len) as kind says.  22023 for what is malformed or not supported, naming where;
 * 54000 for what is too large; 57014 soon after *cancel (may be NULL) is set; 53200.
 */
extern bool g2_grammar_compile(g2_constraint_kind kind, const char *text, size_t len,
							   const g2_lexicon *lexicon, const atomic_bool *cancel,
							   g2_grammar **out, g2_error *err);
extern void g2_grammar_free(g2_grammar *grammar);

/* The state in which every text begins. */
#define G2_GRAMMAR_START 0

/* Tokens of the shortest text; with `some`, of the shortest that is not empty.  UINT32_MAX: there
 * is no such text. */
extern uint32_t g2_grammar_shortest(const g2_grammar *grammar, bool some);

/* Nothing can follow. */
extern bool g2_grammar_ends(const g2_grammar *grammar, uint32_t state);

/* grammar_least.c: fills grammar->least. */
extern bool g2_grammar_count(g2_grammar *grammar, const atomic_bool *cancel, g2_error *err);

#endif							/* G2_GRAMMAR_H */
