/*
 * grammar_dfa.c: the subset construction (Rabin and Scott, "Finite Automata and Their Decision
 * Problems", 1959), over classes of bytes instead of bytes.
 *
 * A state of the DFA is a set of states of the NFA that want a byte, or accept, ascending; splits
 * are followed when the set is made.  Sets lie one behind the other in one array and are found by
 * their hash.
 */
#include "grammar_dfa.h"

#include <stdio.h>
#include <stdlib.h>

#define LOOK_EVERY 65536		/* steps */
#define SORT_STEPS 8			/* that sorting takes for each member, about */

typedef struct builder
{
	const g2_nfa *nfa;
	g2_dfa	   *dfa;
	g2_error   *err;
	uint64_t	steps;
	uint64_t	look_at;		/* when it is looked whether that is too much, or cancelled */
	uint32_t   *members;		/* of all sets */
	uint32_t	n_members;
	uint32_t	cap_members;
	uint32_t   *starts;			/* [n_states + 1] */
	uint32_t	cap_states;
	uint32_t   *table;			/* [n_table] state + 1 by hash, 0 = empty */
	uint32_t	n_table;
	uint32_t   *seen;			/* [nfa->n] number of the set that it was last seen for */
	uint32_t	mark;
	uint32_t   *stack;
	uint32_t   *set;			/* the one that is being made */
	uint32_t	n_set;
} builder;

void
g2_dfa_free(g2_dfa *dfa)
{
	g2_free(dfa->next);
	g2_free(dfa->accepts);
	g2_free(dfa->least);
	*dfa = (g2_dfa) {.n_states = 0};
}

uint32_t
g2_dfa_run(const g2_dfa *dfa, uint32_t state, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && state != G2_DFA_DEAD; i++)
		state = g2_dfa_next(dfa, state, (uint8_t) bytes[i]);
	return state;
}

/* ---- classes ---- */

/* Bytes that the same sets have are of one class, numbered by their lowest bytes. */
static void
make_classes(const g2_nfa *nfa, g2_dfa *dfa)
{
	uint32_t	n = 1;

	memset(dfa->class_of, 0, sizeof dfa->class_of);
	for (uint32_t s = 0; s < nfa->n_sets && n < 256; s++)
	{
		int16_t		split[256];	/* what the members of the set get instead; -1 = not known yet */
		uint32_t	outside[256] = {0};	/* bytes of the class that are no members */

		memset(split, -1, sizeof split);
		for (uint32_t b = 0; b < 256; b++)
			outside[dfa->class_of[b]] += !g2_byte_set_has(&nfa->sets[s], b);
		for (uint32_t b = 0; b < 256; b++)
		{
			uint8_t		c = dfa->class_of[b];

			if (!g2_byte_set_has(&nfa->sets[s], b) || outside[c] == 0)
				continue;
			if (split[c] < 0)
				split[c] = (int16_t) n++;
			dfa->class_of[b] = (uint8_t) split[c];
		}
	}
	dfa->n_classes = n;
	for (uint32_t b = 256; b-- > 0;)
		dfa->byte_of[dfa->class_of[b]] = (uint8_t) b;
}

/* ---- sets ---- */

static bool
fail_large(const builder *b)
{
	g2_fail(b->err, G2_E_TOO_LONG, "the %s is too complex", b->nfa->what);
	return g2_fail_hint(b->err, "Make it shorter, or repeat less; what repeats must not be hard to "
						"tell from what follows it.");
}

/* Counts work; false: too much, or cancelled. */
static bool
step(builder *b, uint64_t n)
{
	const atomic_bool *cancel = b->nfa->cancel;

	b->steps += n;
	if (b->steps < b->look_at)
		return true;
	b->look_at = b->steps + LOOK_EVERY;
	if (cancel && atomic_load(cancel))
		return g2_fail(b->err, G2_E_CANCELED, "the request was cancelled");
	return b->steps <= G2_DFA_MAX_STEPS || fail_large(b);
}

/* Adds the state, or what it splits into, to the set. */
static bool
add_closure(builder *b, uint32_t state)
{
	uint32_t	n = 0;

	b->stack[n++] = state;
	while (n > 0)
	{
		uint32_t	at = b->stack[--n];
		const g2_nfa_state *s = &b->nfa->states[at];

		if (b->seen[at] == b->mark)
			continue;
		b->seen[at] = b->mark;
		b->steps++;
		if (s->set != G2_NFA_SPLIT)
		{
			b->set[b->n_set++] = at;
			continue;
		}
		if (s->other != G2_NFA_NONE)
			b->stack[n++] = s->other;
		b->stack[n++] = s->next;
	}
	return step(b, 1);
}

static int
compare_states(const void *a, const void *b)
{
	uint32_t	x = *(const uint32_t *) a,
				y = *(const uint32_t *) b;

	return x < y ? -1 : x > y;
}

static uint32_t
hash_members(const uint32_t *set, uint32_t n)
{
	uint64_t	h = n;

	for (uint32_t i = 0; i < n; i++)
	{
		h = (h ^ set[i]) * 0x9E3779B97F4A7C15u;
		h ^= h >> 32;
	}
	return (uint32_t) h;
}

static uint32_t *
find_state(const builder *b, const uint32_t *set, uint32_t n)
{
	uint32_t	mask = b->n_table - 1,
				at = hash_members(set, n) & mask;

	for (; b->table[at] != 0; at = (at + 1) & mask)
	{
		uint32_t	state = b->table[at] - 1,
					start = b->starts[state];

		if (b->starts[state + 1] - start == n &&
			memcmp(b->members + start, set, n * sizeof *set) == 0)
			break;
	}
	return &b->table[at];
}

/* ---- states ---- */

static bool
resize_array(builder *b, uint32_t **array, size_t n)
{
	uint32_t   *resized = g2_realloc_array(*array, n, sizeof *resized);

	if (!resized)
		return g2_fail_memory(b->err, n * sizeof *resized);
	*array = resized;
	return true;
}

static bool
grow_states(builder *b)
{
	g2_dfa	   *dfa = b->dfa;
	uint32_t	cap = b->cap_states ? b->cap_states * 2 : 64;
	uint8_t    *accepts = g2_realloc(dfa->accepts, cap);

	if (!accepts)
		return g2_fail_memory(b->err, cap);
	dfa->accepts = accepts;
	if (!resize_array(b, &b->starts, (size_t) cap + 1) ||
		!resize_array(b, &dfa->next, (size_t) cap * dfa->n_classes) ||
		!resize_array(b, &dfa->least, cap))
		return false;
	g2_free(b->table);
	b->n_table = cap * 2;
	b->table = g2_alloc_array(b->n_table, sizeof *b->table);
	if (!b->table)
		return g2_fail_memory(b->err, b->n_table * sizeof *b->table);
	b->cap_states = cap;
	b->starts[0] = 0;
	for (uint32_t s = 0; s < dfa->n_states; s++)
		*find_state(b, b->members + b->starts[s], b->starts[s + 1] - b->starts[s]) = s + 1;
	return true;
}

static bool
add_state(builder *b, uint32_t *out)
{
	g2_dfa	   *dfa = b->dfa;
	uint32_t	state = dfa->n_states,
				end = b->n_members + b->n_set;

	if (state == G2_DFA_MAX_STATES || end > G2_DFA_MAX_MEMBERS ||
		((uint64_t) state + 1) * dfa->n_classes > G2_DFA_MAX_TABLE)
		return fail_large(b);
	if (state == b->cap_states && !grow_states(b))
		return false;
	if (end > b->cap_members)
	{
		uint32_t	cap = G2_MAX(end, b->cap_members * 2);

		if (!resize_array(b, &b->members, cap))
			return false;
		b->cap_members = cap;
	}
	memcpy(b->members + b->n_members, b->set, b->n_set * sizeof *b->set);
	b->n_members = end;
	b->starts[state + 1] = end;
	dfa->accepts[state] = 0;
	dfa->least[state] = UINT32_MAX;
	for (uint32_t i = 0; i < b->n_set; i++)
	{
		const g2_nfa_state *s = &b->nfa->states[b->set[i]];

		dfa->accepts[state] |= s->set == G2_NFA_ACCEPT;
		dfa->least[state] = G2_MIN(dfa->least[state], s->least);
	}
	*find_state(b, b->set, b->n_set) = state + 1;
	dfa->n_states++;
	*out = state;
	return true;
}

static bool
sort_set(builder *b)
{
	uint32_t	sorted = 1;

	while (sorted < b->n_set && b->set[sorted - 1] < b->set[sorted])
		sorted++;
	if (sorted >= b->n_set)
		return true;
	qsort(b->set, b->n_set, sizeof *b->set, compare_states);
	return step(b, (uint64_t) SORT_STEPS * b->n_set);
}

/* The state of the set that has been made. */
static bool
intern(builder *b, uint32_t *out)
{
	if (b->n_set == 0)
	{
		*out = G2_DFA_DEAD;
		return true;
	}
	if (!sort_set(b))
		return false;
	if (b->n_table > 0)
	{
		uint32_t	found = *find_state(b, b->set, b->n_set);

		if (found != 0)
		{
			*out = found - 1;
			return true;
		}
	}
	return add_state(b, out);
}

static void
begin_set(builder *b)
{
	b->n_set = 0;
	b->mark++;
}

/* Where the bytes of one class lead from a state. */
static bool
make_next(builder *b, uint32_t state, uint32_t class)
{
	uint32_t	start = b->starts[state],
				end = b->starts[state + 1],
				next;

	begin_set(b);
	if (!step(b, end - start))
		return false;
	for (uint32_t i = start; i < end; i++)
	{
		const g2_nfa_state *s = &b->nfa->states[b->members[i]];

		if (s->set != G2_NFA_ACCEPT &&
			g2_byte_set_has(&b->nfa->sets[s->set], b->dfa->byte_of[class]) &&
			!add_closure(b, s->next))
			return false;
	}
	if (!intern(b, &next))
		return false;
	b->dfa->next[(size_t) state * b->dfa->n_classes + class] = next;
	return true;
}

static bool
make_states(builder *b, uint32_t start)
{
	uint32_t	first;

	begin_set(b);
	if (!add_closure(b, start) || !intern(b, &first))
		return false;
	for (uint32_t state = 0; state < b->dfa->n_states; state++)
		for (uint32_t class = 0; class < b->dfa->n_classes; class++)
			if (!make_next(b, state, class))
				return false;
	return true;
}

/* Gives back what was taken in advance: automata are kept, and counted by their states. */
static bool
shrink(builder *b)
{
	g2_dfa	   *dfa = b->dfa;
	uint8_t    *accepts = g2_realloc(dfa->accepts, dfa->n_states);

	if (!accepts)
		return g2_fail_memory(b->err, dfa->n_states);
	dfa->accepts = accepts;
	return resize_array(b, &dfa->next, (size_t) dfa->n_states * dfa->n_classes) &&
		resize_array(b, &dfa->least, dfa->n_states);
}

bool
g2_dfa_build(const g2_nfa *nfa, uint32_t start, g2_dfa *dfa, g2_error *err)
{
	builder		b = {.nfa = nfa,.dfa = dfa,.err = err};
	bool		ok;

	*dfa = (g2_dfa) {.n_states = 0};
	make_classes(nfa, dfa);
	b.seen = g2_alloc_array(nfa->n, sizeof *b.seen);
	/* A split puts two on the stack and takes one away. */
	b.stack = g2_alloc_array((size_t) nfa->n + 2, sizeof *b.stack);
	b.set = g2_alloc_array(nfa->n, sizeof *b.set);
	ok = b.seen && b.stack && b.set ? make_states(&b, start) && shrink(&b)
		: g2_fail_memory(err, 3 * (unsigned long long) nfa->n * sizeof *b.seen);
	g2_free(b.seen);
	g2_free(b.stack);
	g2_free(b.set);
	g2_free(b.members);
	g2_free(b.starts);
	g2_free(b.table);
	return ok;
}
