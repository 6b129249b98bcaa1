/*
 * grammar_lexicon.c: the tree of a vocabulary's bytes, made from its tokens in the order of their
 * bytes: each goes on where it leaves the one before.
 */
#include "grammar_lexicon.h"

typedef struct maker
{
	g2_lexicon *lexicon;
	uint32_t	cap;
	uint32_t	path[G2_LEXICON_MAX_DEPTH];	/* nodes from the root to the last token */
	char		bytes[G2_LEXICON_MAX_DEPTH];	/* its bytes */
	uint32_t	depth;
} maker;

void
g2_lexicon_free(g2_lexicon *lexicon)
{
	if (!lexicon)
		return;
	g2_free(lexicon->nodes);
	g2_free(lexicon);
}

static bool
add_node(maker *m, uint8_t byte, uint32_t depth)
{
	g2_lexicon *lexicon = m->lexicon;

	if (lexicon->n_nodes == m->cap)
	{
		uint32_t	cap = m->cap ? m->cap * 2 : 1024;
		g2_lexicon_node *nodes = g2_realloc_array(lexicon->nodes, cap, sizeof *nodes);

		if (!nodes)
			return false;
		lexicon->nodes = nodes;
		m->cap = cap;
	}
	lexicon->nodes[lexicon->n_nodes] = (g2_lexicon_node) {G2_NO_TOKEN, 0, byte, (uint8_t) depth};
	m->path[depth - 1] = lexicon->n_nodes++;
	m->bytes[depth - 1] = (char) byte;
	return true;
}

/* Their subtrees end here. */
static void
leave(maker *m, uint32_t depth)
{
	while (m->depth > depth)
		m->lexicon->nodes[m->path[--m->depth]].end = m->lexicon->n_nodes;
}

static bool
add_token(maker *m, uint32_t id, const char *piece, uint32_t len)
{
	uint32_t	common = 0;

	while (common < m->depth && common < len && m->bytes[common] == piece[common])
		common++;
	/* A piece that is there twice gets a node of its own beside the first one's. */
	leave(m, G2_MIN(common, len - 1));
	while (m->depth < len)
	{
		if (!add_node(m, (uint8_t) piece[m->depth], m->depth + 1))
			return false;
		m->depth++;
	}
	m->lexicon->nodes[m->path[len - 1]].token = id;
	return true;
}

static bool
add_tokens(maker *m, const g2_tokenizer *tok, uint32_t end_token)
{
	uint32_t	n = g2_tokenizer_size(tok);
	const uint32_t *order = g2_tokenizer_order(tok);

	for (uint32_t i = 0; i < n; i++)
	{
		size_t		len;
		const char *piece = g2_tokenizer_piece(tok, order[i], &len);

		if (len <= G2_LEXICON_MAX_DEPTH && order[i] != end_token &&
			g2_tokenizer_is_text(tok, order[i]) && !add_token(m, order[i], piece, (uint32_t) len))
			return false;
	}
	leave(m, 0);
	return true;
}

static bool
find_bytes(g2_lexicon *lexicon, g2_error *err)
{
	bool		whole = true;

	for (int b = 0; b < 256; b++)
		lexicon->first[b] = UINT32_MAX;
	for (uint32_t at = 0; at < lexicon->n_nodes; at = lexicon->nodes[at].end)
		if (lexicon->first[lexicon->nodes[at].byte] == UINT32_MAX)
			lexicon->first[lexicon->nodes[at].byte] = at;
	for (int b = 0; b < 256; b++)
		whole &= lexicon->first[b] != UINT32_MAX &&
			lexicon->nodes[lexicon->first[b]].token != G2_NO_TOKEN;
	if (whole)
		return true;
	g2_fail(err, G2_E_UNSUPPORTED,
			"choice, regex and json_schema need a byte-level vocabulary that has every byte");
	return g2_fail_hint(err, "Use a model with the tokenizer of GPT-2; gpt_classify chooses among "
						"labels with any model.");
}

bool
g2_lexicon_new(const g2_tokenizer *tok, uint32_t end_token, g2_lexicon **out, g2_error *err)
{
	maker		m = {.lexicon = g2_alloc(sizeof *m.lexicon)};
	bool		ok = false;

	if (m.lexicon)
		ok = add_tokens(&m, tok, end_token) ? find_bytes(m.lexicon, err)
			: g2_fail_memory(err, 2 * (unsigned long long) m.cap * sizeof *m.lexicon->nodes);
	else
		g2_fail_memory(err, sizeof *m.lexicon);
	if (!ok)
	{
		g2_lexicon_free(m.lexicon);
		return false;
	}
	*out = m.lexicon;
	return true;
}
