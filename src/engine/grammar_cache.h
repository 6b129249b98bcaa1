/*
 * grammar_cache.h: compiled constraints, shared by the requests that ask for the same: many rows of
 * one query have one constraint.
 *
 * Locking: any thread may get and release; one mutex protects the lists.  Compiling happens outside
 * of it: two threads that ask for the same at once both compile, and one result is thrown away.
 *
 * Memory: what nobody holds is kept up to a capacity, those that were used last; what is held
 * altogether is bounded too, and beyond that a request is refused.
 */
#ifndef G2_GRAMMAR_CACHE_H
#define G2_GRAMMAR_CACHE_H

#include "grammar.h"
#include "model.h"

#define G2_GRAMMARS_KEPT ((size_t) 32 << 20)	/* bytes of those that nobody holds */
#define G2_GRAMMARS_HELD ((size_t) 256 << 20)	/* bytes of all that are held */

typedef struct g2_grammars g2_grammars;

extern bool g2_grammars_open(g2_grammars **out, g2_error *err);

/* Everything has been released. */
extern void g2_grammars_close(g2_grammars *grammars);

/*
 * The constraint compiled for the vocabulary of a model that has one, held until it is released.  Errors of g2_grammar_compile; 0A000 for a vocabulary that is not byte-level; 53400
 * where those that are held need too much memory.
 */
extern bool g2_grammars_get(g2_grammars *grammars, const g2_pack *pack, g2_constraint_kind kind,
							g2_span text, const atomic_bool *cancel, const g2_grammar **out,
							g2_error *err);

/* Whether it is compiled: then getting it takes no time. */
extern bool g2_grammars_has(g2_grammars *grammars, const g2_pack *pack, g2_constraint_kind kind,
							g2_span text);

extern void g2_grammars_release(g2_grammars *grammars, const g2_grammar *grammar);

#endif							/* G2_GRAMMAR_CACHE_H */
