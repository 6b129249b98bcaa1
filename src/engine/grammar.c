/*
 * grammar.c: compiling a constraint: its text to an automaton over bytes, that to one which is
 * deterministic, and that against the vocabulary.
 */
#include "grammar.h"

#include "grammar_regex.h"
#include "grammar_schema.h"
#include "json.h"

const char *const g2_constraint_names[G2_N_CONSTRAINTS] = {
	[G2_CONSTRAINT_CHOICE] = "choice",
	[G2_CONSTRAINT_REGEX] = "regex",
	[G2_CONSTRAINT_SCHEMA] = "json_schema",
};

#define CHOICE_HINT "Write for example [\"yes\", \"no\"]."

/* ---- choice ---- */

/* One of the strings of a JSON array. */
static uint32_t
compile_choice(g2_nfa *nfa, const char *text, size_t len, uint32_t next)
{
	cJSON	   *array = g2_json_parse("choice", text, len, false, nfa->err),
			   *item;
	uint32_t	result = G2_NFA_NONE;

	if (!array)
	{
		nfa->failed = true;
		return G2_NFA_NONE;
	}
	if (!cJSON_IsArray(array) || !array->child)
		g2_nfa_fail(nfa, G2_E_PARAM, "choice must be an array of at least one string",
					CHOICE_HINT);
	else
		cJSON_ArrayForEach(item, array)
		{
			if (!cJSON_IsString(item) || !item->valuestring[0])
				g2_nfa_fail(nfa, G2_E_PARAM, "choice contains something else than a string that "
							"is not empty", CHOICE_HINT);
			if (nfa->failed)
				break;
			result = g2_nfa_split(nfa, g2_nfa_string(nfa, item->valuestring, next), result);
		}
	cJSON_Delete(array);
	return result;
}

/* ---- all kinds ---- */

static uint32_t
compile_text(g2_constraint_kind kind, g2_nfa *nfa, const char *text, size_t len)
{
	uint32_t	end = g2_nfa_accept(nfa);

	switch (kind)
	{
		case G2_CONSTRAINT_CHOICE:
			return compile_choice(nfa, text, len, end);
		case G2_CONSTRAINT_REGEX:
			return g2_regex_compile(nfa, text, len, G2_REGEX_WHOLE, G2_CHARS_RAW, end);
		default:
			return g2_schema_compile(nfa, text, len, end);
	}
}

static bool
build(g2_constraint_kind kind, const char *text, size_t len, const atomic_bool *cancel,
	  g2_dfa *dfa, g2_error *err)
{
	g2_nfa		nfa = {.what = g2_constraint_names[kind],.cancel = cancel,.err = err};
	uint32_t	start = compile_text(kind, &nfa, text, len);
	bool		ok = false;

	/* It is an argument, not a file. */
	if (nfa.failed && err->code == G2_E_BAD_JSON)
	{
		err->code = G2_E_PARAM;
		g2_fail_hint(err, "%s", kind == G2_CONSTRAINT_CHOICE ? CHOICE_HINT :
					 "Write one JSON object, as in {\"type\": \"object\"}.");
	}
	else if (!nfa.failed && start == G2_NFA_NONE)
	{
		g2_fail(err, G2_E_PARAM, "no text satisfies the %s", nfa.what);
		g2_fail_hint(err, kind == G2_CONSTRAINT_SCHEMA ?
					 "Its parts exclude each other, a $ref requires itself, or no number of up to 15 "
					 "digits is within the bounds." : "Its parts exclude each other.");
	}
	else if (!nfa.failed)
		ok = g2_dfa_build(&nfa, start, dfa, err);
	g2_nfa_free(&nfa);
	return ok;
}

bool
g2_grammar_compile(g2_constraint_kind kind, const char *text, size_t len,
				   const g2_lexicon *lexicon, const atomic_bool *cancel, g2_grammar **out,
				   g2_error *err)
{
	static _Atomic uint64_t n_compiled;
	g2_grammar *grammar = g2_alloc(sizeof *grammar);

	if (!grammar)
		return g2_fail_memory(err, sizeof *grammar);
	grammar->lexicon = lexicon;
	if (!build(kind, text, len, cancel, &grammar->dfa, err) ||
		!g2_grammar_count(grammar, cancel, err))
	{
		g2_grammar_free(grammar);
		return false;
	}
	grammar->id = atomic_fetch_add(&n_compiled, 1) + 1;
	grammar->bytes = sizeof *grammar + grammar->dfa.n_states *
		(grammar->dfa.n_classes * sizeof(uint32_t) + 2 * sizeof(uint32_t) + 1);
	*out = grammar;
	return true;
}

void
g2_grammar_free(g2_grammar *grammar)
{
	if (!grammar)
		return;
	g2_dfa_free(&grammar->dfa);
	g2_free(grammar->least);
	g2_free(grammar);
}

uint32_t
g2_grammar_shortest(const g2_grammar *grammar, bool some)
{
	uint32_t	shortest = UINT32_MAX;
	g2_walk		w;

	if (!some || grammar->least[G2_GRAMMAR_START] > 0)
		return grammar->least[G2_GRAMMAR_START];
	g2_walk_begin(&w, grammar->lexicon, &grammar->dfa, G2_GRAMMAR_START);
	while (g2_walk_next(&w))
		shortest = G2_MIN(shortest, grammar->least[w.state] + 1);
	return shortest;
}

bool
g2_grammar_ends(const g2_grammar *grammar, uint32_t state)
{
	const g2_dfa *dfa = &grammar->dfa;

	for (uint32_t c = 0; c < dfa->n_classes; c++)
		if (dfa->next[(size_t) state * dfa->n_classes + c] != G2_DFA_DEAD)
			return false;
	return true;
}
