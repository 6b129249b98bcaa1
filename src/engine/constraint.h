/*
 * constraint.h: what a constraint means for a request and for the sequences of its group: which
 * tokens may come next, and when the text is complete.
 *
 * A sequence's place in the automaton is part of it and follows its tokens, so preemption changes
 * nothing.  Masks are made when a visit is planned; the device only applies them.
 */
#ifndef G2_CONSTRAINT_H
#define G2_CONSTRAINT_H

#include "grammar_cache.h"
#include "grammar_mask.h"
#include "group.h"
#include "model.h"

/* Of the argument that gives one of a kind, not NONE. */
extern const char *g2_constraint_name(uint32_t kind);

/* Before anything is spent: 22023, 54000. */
extern bool g2_constraint_check(const g2_generate *m, g2_error *err);

/*
 * The helper thread's part, when the budget of new tokens is known: *out is the constraint,
 * compiled and held; NULL where there is none.  22023 where the budget is too small for the
 * shortest text that is allowed.
 */
extern bool g2_constraint_prepare(g2_grammars *grammars, const g2_generate *m,
								  const g2_pack *pack, uint32_t max_new,
								  const atomic_bool *cancel, const g2_grammar **out,
								  g2_error *err);

/* A sequence of the group has got one more token, which is in its ids: ends it where nothing can
 * follow.  False: no memory. */
extern bool g2_constraint_accept(const g2_group *group, g2_sequence *sequence, uint32_t token,
								 g2_error *err);

/* The tokens that may follow the first n_draft of the sequence's draft, for g2_output.mask; *bits
 * is NULL without a constraint.  False: no memory. */
extern bool g2_constraint_mask(const g2_group *group, uint32_t i, uint32_t n_draft,
							   const uint64_t **bits, g2_error *err);

/* Cuts the draft where the constraint would. */
extern void g2_constraint_cut_draft(g2_group *group, uint32_t i);

#endif							/* G2_CONSTRAINT_H */
