/*
 * constraint.c: constraints of requests, and sequences under them.
 */
#include "constraint.h"

/* ---- requests ---- */

bool
g2_constraint_check(const g2_generate *m, g2_error *err)
{
	const char *name;

	if (m->constraint_kind == G2_CONSTRAINT_NONE)
		return true;
	if (m->constraint_kind >= G2_N_CONSTRAINTS)
		return g2_fail(err, G2_E_INTERNAL, "malformed constraint");
	name = g2_constraint_names[m->constraint_kind];
	if (m->constraint.len > G2_MAX_CONSTRAINT)
	{
		g2_fail(err, G2_E_TOO_LONG, "%s must have at most %d bytes", name, G2_MAX_CONSTRAINT);
		return g2_fail_hint(err, "Say it shorter, or in several calls.");
	}
	if (m->decoding.n_beams > 1)
	{
		g2_fail(err, G2_E_PARAM, "num_beams and %s cannot both be given", name);
		g2_fail_hint(err, "Leave one of them out.");
		return g2_fail_options(err);
	}
	if (m->n_stops > 0)
	{
		g2_fail(err, G2_E_PARAM, "stop strings and %s cannot both be given", name);
		g2_fail_hint(err, "The constraint says where the text ends.");
		return g2_fail_options(err);
	}
	return true;
}

/* The budget has room for some text that is allowed. */
static bool
check_budget(const g2_grammar *grammar, const char *name, uint32_t end_token, uint32_t max_new,
			 g2_error *err)
{
	uint32_t	shortest = g2_grammar_shortest(grammar, end_token == G2_NO_TOKEN);

	if (shortest <= max_new)
		return true;
	if (shortest == UINT32_MAX)
	{
		g2_fail(err, G2_E_PARAM, "the %s allows the empty text alone", name);
		g2_fail_hint(err, "A model without an end token makes one token at least.");
		return g2_fail_options(err);
	}
	g2_fail(err, G2_E_PARAM, "max_len is too small for the %s", name);
	g2_fail_detail(err, "The text needs %u tokens, and only %u may be made.", shortest, max_new);
	return g2_fail_hint(err, "Raise max_len; where the context is full, shorten the prompt.");
}

bool
g2_constraint_prepare(g2_grammars *grammars, const g2_generate *m, const g2_pack *pack,
					  uint32_t max_new, const atomic_bool *cancel, const g2_grammar **out,
					  g2_error *err)
{
	const char *name = g2_constraint_names[m->constraint_kind];

	*out = NULL;
	if (m->constraint_kind == G2_CONSTRAINT_NONE)
		return true;
	if (!pack->tokenizer)
		return g2_fail(err, G2_E_UNSUPPORTED, "%s needs a model with tokenizer files", name);
	if (!g2_grammars_get(grammars, pack, m->constraint_kind, m->constraint, cancel, out, err))
		return g2_fail_options(err);
	if (check_budget(*out, name, pack->description.end_token, max_new, err))
		return true;
	g2_grammars_release(grammars, *out);
	*out = NULL;
	return false;
}

/* ---- sequences ---- */

/* Where a token leads; G2_DFA_DEAD where it has no text of its own. */
static uint32_t
follow(const g2_group *group, uint32_t state, uint32_t token)
{
	size_t		len;
	const char *piece = g2_tokenizer_piece(group->o.tokenizer, token, &len);

	if (!piece || g2_tokenizer_is_special(group->o.tokenizer, token))
		return G2_DFA_DEAD;
	return g2_dfa_run(&group->o.grammar->dfa, state, piece, len);
}

static bool
fail_mask(const g2_group *group, g2_error *err)
{
	return g2_fail_memory(err, group->o.n_vocab / 8);
}

bool
g2_constraint_accept(const g2_group *group, g2_sequence *sequence, uint32_t token, g2_error *err)
{
	const g2_grammar *grammar = group->o.grammar;
	uint32_t	left = group->o.max_new - (uint32_t) sequence->ids.len;
	const g2_mask *mask;

	if (!grammar || sequence->finish)
		return true;
	/* No visit is in flight now that reads masks. */
	g2_masks_trim(group->o.masks);
	sequence->grammar_state = follow(group, sequence->grammar_state, token);
	if (sequence->grammar_state == G2_DFA_DEAD)
		return g2_fail(err, G2_E_INTERNAL, "token %u is not allowed here", token);
	if (!grammar->dfa.accepts[sequence->grammar_state])
		return true;
	if (g2_grammar_ends(grammar, sequence->grammar_state))
		sequence->finish = G2_FINISH_STOP;
	if (sequence->finish || left == 0)
		return true;
	/* The next plan needs it too, unless this is the end. */
	mask = g2_masks_get(group->o.masks, grammar, sequence->grammar_state, left,
						group->o.end_token, group->o.n_vocab);
	if (!mask)
		return fail_mask(group, err);
	if (!mask->goes_on)
		sequence->finish = G2_FINISH_STOP;
	return true;
}

bool
g2_constraint_mask(const g2_group *group, uint32_t i, uint32_t n_draft, const uint64_t **bits,
				   g2_error *err)
{
	const g2_sequence *sequence = &group->sequences[i];
	uint32_t	state = sequence->grammar_state;
	const g2_mask *mask;

	*bits = NULL;
	if (!group->o.grammar)
		return true;
	for (uint32_t d = 0; d < n_draft; d++)
		state = follow(group, state, sequence->draft.token[d]);
	mask = g2_masks_get(group->o.masks, group->o.grammar, state,
						group->o.max_new - (uint32_t) sequence->ids.len - n_draft,
						group->o.end_token, group->o.n_vocab);
	if (!mask)
		return fail_mask(group, err);
	*bits = mask->bits;
	return true;
}

void
g2_constraint_cut_draft(g2_group *group, uint32_t i)
{
	g2_sequence *sequence = &group->sequences[i];
	uint32_t	state = sequence->grammar_state,
				left = group->o.max_new - (uint32_t) sequence->ids.len;

	if (!group->o.grammar)
		return;
	for (uint32_t d = 0; d < sequence->draft.n_found; d++)
	{
		state = follow(group, state, sequence->draft.token[d]);
		if (state == G2_DFA_DEAD || group->o.grammar->least[state] + d >= left)
		{
			sequence->draft.n_found = d;
			return;
		}
	}
}
