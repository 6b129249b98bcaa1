/*
 * grammar_dfa.h: the deterministic automaton of a constraint: one table lookup per byte.
 *
 * All of its states are made when it is built, which is bounded, so that nothing grows while texts
 * are made, and any number of threads may read it.  Acceptance can be reached from every state.
 */
#ifndef G2_GRAMMAR_DFA_H
#define G2_GRAMMAR_DFA_H

#include "grammar_nfa.h"

#define G2_DFA_DEAD UINT32_MAX
#define G2_DFA_MAX_STATES (1u << 17)
#define G2_DFA_MAX_TABLE (1u << 22)	/* entries */
#define G2_DFA_MAX_MEMBERS (1u << 22)	/* of all states' sets together */
#define G2_DFA_MAX_STEPS (UINT64_C(1) << 26)

typedef struct g2_dfa
{
	uint32_t	n_states;		/* the first is the start */
	uint32_t	n_classes;		/* bytes of one class lead to the same states everywhere */
	uint8_t		class_of[256];
	uint8_t		byte_of[256];	/* [n_classes] the lowest byte of each */
	uint32_t   *next;			/* [n_states][n_classes]; G2_DFA_DEAD */
	uint8_t    *accepts;		/* [n_states] */
	uint32_t   *least;			/* [n_states] bytes to acceptance, made of the NFA's */
} g2_dfa;

/* Builds it from state `start` on; free with g2_dfa_free also where this fails.  54000 where it is
 * too large, 57014, 53200. */
extern bool g2_dfa_build(const g2_nfa *nfa, uint32_t start, g2_dfa *dfa, g2_error *err);
extern void g2_dfa_free(g2_dfa *dfa);

static inline uint32_t
g2_dfa_next(const g2_dfa *dfa, uint32_t state, uint8_t byte)
{
	return dfa->next[(size_t) state * dfa->n_classes + dfa->class_of[byte]];
}

/* The state behind these bytes; G2_DFA_DEAD. */
extern uint32_t g2_dfa_run(const g2_dfa *dfa, uint32_t state, const char *bytes, size_t len);

#endif							/* G2_GRAMMAR_DFA_H */
