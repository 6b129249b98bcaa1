/*
 * grammar_least.c: how many tokens lie between a state and acceptance, at least.
 *
 * Edges from state to state are tokens; the counts are a breadth-first search against them from
 * the accepting states.  All edges of a state are found by a walk over the vocabulary.  Where few
 * tokens are possible, as in keys and choices, that is cheap; of the states where many are, only
 * the first ones are looked at so closely, and the others get the edges along one shortest sequence
 * of bytes from them to acceptance.  A token of one byte exists for every byte, so each state has an
 * edge to one that is nearer in bytes, and the counts hold: they may then be higher than necessary,
 * but a text of so many tokens exists, and behind its first token one of one token less.
 */
#include "grammar.h"

#define FEW_VISITS 1024			/* of nodes: a walk that is always made */
#define MAX_VISITS (UINT64_C(1) << 22)	/* of all longer walks together */
#define MAX_EDGES (1u << 21)	/* of states with all edges */
#define MAX_SHORTEST 16			/* edges along the shortest sequence of bytes */

typedef struct edge
{
	uint32_t	from;
	uint32_t	to;
} edge;

typedef struct counter
{
	g2_grammar *grammar;
	const atomic_bool *cancel;
	g2_error   *err;
	uint64_t	visits;
	edge	   *edges;
	uint32_t	n_edges;
	uint32_t	cap_edges;
	uint32_t   *seen;			/* [n_states] the last list with an edge there */
	uint32_t	list;			/* of edges of one state */
} counter;

static bool
add_edge(counter *c, uint32_t from, uint32_t to)
{
	if (c->seen[to] == c->list)
		return true;
	c->seen[to] = c->list;
	if (c->n_edges == c->cap_edges)
	{
		uint32_t	cap = c->cap_edges ? c->cap_edges * 2 : 256;
		edge	   *edges = g2_realloc_array(c->edges, cap, sizeof *edges);

		if (!edges)
			return g2_fail_memory(c->err, cap * sizeof *edges);
		c->edges = edges;
		c->cap_edges = cap;
	}
	c->edges[c->n_edges++] = (edge) {from, to};
	return true;
}

/* All edges of the state; *all: none were left out for lack of time. */
static bool
add_all(counter *c, uint32_t state, bool *all)
{
	uint32_t	before = c->n_edges;
	bool		may_be_long = c->visits < MAX_VISITS;
	g2_walk		w;

	*all = c->n_edges < MAX_EDGES;
	if (!*all)
		return true;
	c->list++;
	g2_walk_begin(&w, c->grammar->lexicon, &c->grammar->dfa, state);
	while (g2_walk_next(&w))
	{
		if (w.steps > FEW_VISITS && !may_be_long)
		{
			c->n_edges = before;
			*all = false;
			return true;
		}
		if (!add_edge(c, state, w.state))
			return false;
	}
	c->visits += w.steps > FEW_VISITS ? w.steps : 0;
	return true;
}

/* The next state on the shortest way to acceptance, by the lowest byte; none from accepting ones. */
static uint32_t
nearer(const g2_dfa *dfa, uint32_t state, uint8_t *byte)
{
	const uint32_t *next = dfa->next + (size_t) state * dfa->n_classes;

	for (uint32_t c = 0; c < dfa->n_classes; c++)
		if (next[c] != G2_DFA_DEAD && dfa->least[next[c]] + 1 == dfa->least[state])
		{
			*byte = dfa->byte_of[c];
			return next[c];
		}
	return G2_DFA_DEAD;
}

/* The node of a byte among the children of another, which lie from `at` to `end`. */
static uint32_t
find_child(const g2_lexicon *lexicon, uint32_t at, uint32_t end, uint8_t byte)
{
	while (at < end && lexicon->nodes[at].byte != byte)
		at = lexicon->nodes[at].end;
	return at < end ? at : UINT32_MAX;
}

static bool
add_shortest(counter *c, uint32_t state)
{
	const g2_dfa *dfa = &c->grammar->dfa;
	const g2_lexicon *lexicon = c->grammar->lexicon;
	uint32_t	first_edge = c->n_edges,
				at = UINT32_MAX,
				reached = state;
	uint8_t		byte;

	c->list++;
	while (c->n_edges - first_edge < MAX_SHORTEST &&
		   (reached = nearer(dfa, reached, &byte)) != G2_DFA_DEAD)
	{
		at = at == UINT32_MAX ? lexicon->first[byte] :
			find_child(lexicon, at + 1, lexicon->nodes[at].end, byte);
		if (at == UINT32_MAX)
			break;
		if (lexicon->nodes[at].token != G2_NO_TOKEN && !add_edge(c, state, reached))
			return false;
	}
	return true;
}

static bool
find_edges(counter *c)
{
	const g2_dfa *dfa = &c->grammar->dfa;
	bool		all;

	for (uint32_t state = 0; state < dfa->n_states; state++)
	{
		if (c->cancel && atomic_load(c->cancel))
			return g2_fail(c->err, G2_E_CANCELED, "the request was cancelled");
		if (!add_all(c, state, &all) || (!all && !add_shortest(c, state)))
			return false;
	}
	return true;
}

/* starts[to] .. starts[to + 1]: where the states with an edge to it stand in `from`. */
static void
sort_edges(const counter *c, uint32_t *starts, uint32_t *from)
{
	uint32_t	n_states = c->grammar->dfa.n_states;

	for (uint32_t e = 0; e < c->n_edges; e++)
		starts[c->edges[e].to + 2]++;
	for (uint32_t s = 2; s < n_states + 2; s++)
		starts[s] += starts[s - 1];
	for (uint32_t e = 0; e < c->n_edges; e++)
		from[starts[c->edges[e].to + 1]++] = c->edges[e].from;
}

static void
search(g2_grammar *grammar, const uint32_t *starts, const uint32_t *from, uint32_t *queue)
{
	const g2_dfa *dfa = &grammar->dfa;
	uint32_t	n = 0;

	for (uint32_t s = 0; s < dfa->n_states; s++)
	{
		grammar->least[s] = dfa->accepts[s] ? 0 : UINT32_MAX;
		if (dfa->accepts[s])
			queue[n++] = s;
	}
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t e = starts[queue[i]]; e < starts[queue[i] + 1]; e++)
			if (grammar->least[from[e]] == UINT32_MAX)
			{
				grammar->least[from[e]] = grammar->least[queue[i]] + 1;
				queue[n++] = from[e];
			}
}

bool
g2_grammar_count(g2_grammar *grammar, const atomic_bool *cancel, g2_error *err)
{
	counter		c = {.grammar = grammar,.cancel = cancel,.err = err};
	size_t		n_states = grammar->dfa.n_states;
	uint32_t   *starts = NULL,
			   *from = NULL,
			   *queue = NULL;
	bool		ok;

	grammar->least = g2_alloc_array(n_states, sizeof *grammar->least);
	c.seen = g2_alloc_array(n_states, sizeof *c.seen);
	ok = grammar->least && c.seen ? find_edges(&c) :
		g2_fail_memory(err, 2 * n_states * sizeof *c.seen);
	if (ok)
	{
		starts = g2_alloc_array(n_states + 2, sizeof *starts);
		from = g2_alloc_array((size_t) c.n_edges + 1, sizeof *from);
		queue = g2_alloc_array(n_states, sizeof *queue);
		ok = starts && from && queue;
		if (!ok)
			g2_fail_memory(err, (2 * n_states + c.n_edges) * sizeof *from);
	}
	if (ok)
	{
		sort_edges(&c, starts, from);
		search(grammar, starts, from, queue);
	}
	g2_free(c.seen);
	g2_free(c.edges);
	g2_free(starts);
	g2_free(from);
	g2_free(queue);
	return ok;
}
