/*
 * grammar_nfa.h: what a constraint allows, as a nondeterministic automaton over bytes (Thompson,
 * "Regular Expression Search Algorithm", CACM 1968), and how it is built.
 *
 * It is built from its end: every function takes the state in which the rest goes on, `next`, and
 * returns the state in front of it.  So nothing is ever patched but the body of a loop, and every
 * state reaches acceptance.  G2_NFA_NONE is the language of nothing: what cannot match, or, once
 * `failed` is set, anything at all.
 *
 * The texts that constraints are made of are untrusted: states and work are bounded, and *cancel
 * ends the work soon.  One thread owns the automaton; free it with g2_nfa_free.
 */
#ifndef G2_GRAMMAR_NFA_H
#define G2_GRAMMAR_NFA_H

#include <stdatomic.h>

#include "util.h"

#define G2_NFA_NONE UINT32_MAX
#define G2_NFA_MAX_STATES (1u << 18)
#define G2_NFA_MAX_WORK (1u << 22)	/* calls of the functions below */
#define G2_MAX_CHAR 0x10FFFFu

typedef struct g2_byte_set
{
	uint64_t	bits[4];
} g2_byte_set;

/* What a state does: any other value is the index of the set whose bytes lead to `next`. */
#define G2_NFA_ACCEPT UINT32_MAX
#define G2_NFA_SPLIT (UINT32_MAX - 1)	/* goes on as next and as other, without a byte */

typedef struct g2_nfa_state
{
	uint32_t	set;
	uint32_t	next;
	uint32_t	other;
	uint32_t	least;			/* bytes to acceptance */
} g2_nfa_state;

typedef struct g2_nfa
{
	const char *what;			/* of the request, for messages: "regex" */
	const atomic_bool *cancel;	/* may be NULL */
	g2_error   *err;
	bool		failed;			/* err says why */
	uint32_t	work;
	uint32_t	n;
	uint32_t	cap;
	g2_nfa_state *states;
	uint32_t	n_sets;
	uint32_t	cap_sets;
	g2_byte_set *sets;
	uint32_t   *set_table;		/* [2 * cap_sets] index + 1 by hash, 0 = empty */
} g2_nfa;

/* Characters from lo to hi, code points of Unicode. */
typedef struct g2_char_range
{
	uint32_t	lo;
	uint32_t	hi;
} g2_char_range;

/* How characters are written: as they are, or as in a JSON string, where quotes, backslashes and
 * line breaks have a backslash before them and other control characters do not occur. */
typedef enum g2_char_form
{
	G2_CHARS_RAW, G2_CHARS_JSON
} g2_char_form;

static inline bool
g2_byte_set_has(const g2_byte_set *set, uint32_t byte)
{
	return set->bits[byte / 64] >> byte % 64 & 1;
}

static inline void
g2_byte_set_add(g2_byte_set *set, uint32_t lo, uint32_t hi)
{
	for (uint32_t b = lo; b <= hi; b++)
		set->bits[b / 64] |= (uint64_t) 1 << b % 64;
}

extern void g2_nfa_free(g2_nfa *nfa);

/* Sets failed with this error, unless it has failed before; returns G2_NFA_NONE. */
extern uint32_t g2_nfa_fail(g2_nfa *nfa, g2_code code, const char *message, const char *hint);

/* Counts one unit of work; false: it has failed, is cancelled, or has done too much. */
extern bool g2_nfa_work(g2_nfa *nfa);

extern uint32_t g2_nfa_accept(g2_nfa *nfa);
extern uint32_t g2_nfa_bytes(g2_nfa *nfa, const g2_byte_set *set, uint32_t next);

/* Either; NONE and x is x. */
extern uint32_t g2_nfa_split(g2_nfa *nfa, uint32_t a, uint32_t b);

/* A state that goes on as `exit` and, once it is closed, as `body`, which leads back to it. */
extern uint32_t g2_nfa_loop(g2_nfa *nfa, uint32_t exit);
extern void g2_nfa_close(g2_nfa *nfa, uint32_t loop, uint32_t body);

extern uint32_t g2_nfa_literal(g2_nfa *nfa, const char *data, size_t len, uint32_t next);
extern uint32_t g2_nfa_string(g2_nfa *nfa, const char *s, uint32_t next);	/* NUL-terminated */

/* One of the characters, in UTF-8; NUL and surrogates never match.  The ranges are ascending and
 * do not overlap. */
extern uint32_t g2_nfa_chars(g2_nfa *nfa, const g2_char_range *ranges, size_t n,
							 g2_char_form form, uint32_t next);

/* The decimal numbers from lo to hi, without leading zeros; 0 <= lo. */
extern uint32_t g2_nfa_numbers(g2_nfa *nfa, uint64_t lo, uint64_t hi, uint32_t next);

/*
 * n times at least and at most (UINT32_MAX = without end) what `emit` puts before the state that it
 * is given.
 */
typedef uint32_t (*g2_nfa_emit) (void *arg, uint32_t next);
extern uint32_t g2_nfa_repeat(g2_nfa *nfa, g2_nfa_emit emit, void *arg, uint32_t least,
							  uint32_t most, uint32_t next);

#endif							/* G2_GRAMMAR_NFA_H */
