/*
 * grammar_regex.c: regular expressions: parsed into a tree, then put in front of a state.
 *
 * A node's children are linked from the last to the first, as the automaton is built from its end.
 * Recursion goes as deep as parentheses do, which is bounded; what is repeated is made again and
 * again, which the automaton bounds.
 */
#include "grammar_regex.h"

#include <stdio.h>

#include "grammar_class.h"
#include "unicode.h"

#define NO_NODE UINT32_MAX

typedef enum node_kind
{
	NODE_CHARS,					/* one of ranges[first .. first + n) */
	NODE_SEQUENCE,
	NODE_CHOICE,
	NODE_REPEAT
} node_kind;

typedef struct node
{
	node_kind	kind;
	uint32_t	last;			/* child */
	uint32_t	before;			/* sibling */
	uint32_t	first;			/* CHARS */
	uint32_t	n;
	uint32_t	least;			/* REPEAT */
	uint32_t	most;			/* UINT32_MAX = without end */
	bool		from_start;		/* SEQUENCE of the whole expression: it began with ^ ... */
	bool		to_end;			/* ... and ended with $ */
} node;

typedef struct parser
{
	g2_nfa	   *nfa;
	const char *text;
	size_t		len;
	size_t		at;
	uint32_t	depth;
	g2_regex_mode mode;
	g2_char_form form;
	node	   *nodes;
	uint32_t	n_nodes;
	uint32_t	cap_nodes;
	g2_chars	chars;			/* of all CHARS nodes */
} parser;

/* ---- errors and nodes ---- */

bool
g2_class_fail(g2_nfa *nfa, const char *text, size_t at, const char *what, const char *hint)
{
	char		message[256];
	size_t		character = 1;

	for (size_t i = 0; i < at; i++)
		character += (text[i] & 0xC0) != 0x80;
	snprintf(message, sizeof message, "%s in the %s at character %zu", what, nfa->what, character);
	g2_nfa_fail(nfa, G2_E_PARAM, message, hint);
	return false;
}

static bool
fail(parser *p, size_t at, const char *what, const char *hint)
{
	return g2_class_fail(p->nfa, p->text, at, what, hint);
}

static bool
new_node(parser *p, node n, uint32_t *out)
{
	if (!g2_nfa_work(p->nfa))
		return false;
	if (p->n_nodes == p->cap_nodes)
	{
		uint32_t	cap = p->cap_nodes ? p->cap_nodes * 2 : 64;
		node	   *nodes = g2_realloc_array(p->nodes, cap, sizeof *nodes);

		if (!nodes)
		{
			g2_nfa_fail(p->nfa, G2_E_MEMORY, "out of memory", NULL);
			return false;
		}
		p->nodes = nodes;
		p->cap_nodes = cap;
	}
	p->nodes[p->n_nodes] = n;
	*out = p->n_nodes++;
	return true;
}

static void
add_child(parser *p, uint32_t parent, uint32_t child)
{
	p->nodes[child].before = p->nodes[parent].last;
	p->nodes[parent].last = child;
}

static int
peek(const parser *p)
{
	return p->at < p->len ? (unsigned char) p->text[p->at] : -1;
}

static bool
take(parser *p, char c)
{
	if (peek(p) != (unsigned char) c)
		return false;
	p->at++;
	return true;
}

/* ---- atoms ---- */

static bool parse_choice(parser *p, uint32_t *out);

/* A node of the ranges that were added since there were `first`. */
static bool
chars_node(parser *p, uint32_t first, uint32_t *out)
{
	return new_node(p, (node) {.kind = NODE_CHARS,.last = NO_NODE,.before = NO_NODE,
			.first = first,.n = p->chars.n - first}, out);
}

static bool
fail_group(parser *p, size_t at)
{
	int			c = peek(p);

	if (c == '=' || c == '!')
		return fail(p, at, "lookahead is not supported", "Say what may come, not what may not.");
	if (c == '<')
		return fail(p, at, "lookbehind and named groups are not supported",
					"Write (...) for a group.");
	return fail(p, at, "this kind of group is not supported", "Write (...) or (?:...).");
}

static bool
parse_group(parser *p, uint32_t *out)
{
	size_t		at = p->at - 1;

	if (take(p, '?') && !take(p, ':'))
		return fail_group(p, at);
	if (++p->depth > G2_REGEX_MAX_DEPTH)
	{
		g2_nfa_fail(p->nfa, G2_E_TOO_LONG, "the regex has too many parentheses within each other",
					"At most 200 are allowed.");
		return false;
	}
	if (!parse_choice(p, out))
		return false;
	p->depth--;
	return take(p, ')') ||
		fail(p, at, "unmatched \"(\"", "Write \\( for the character itself.");
}

/* One character, class or group. */
static bool
parse_atom(parser *p, uint32_t *out)
{
	/* JavaScript's, which is JSON schema's: no line ends of any kind. */
	static const g2_char_range dot[] = {
		{0, '\n' - 1}, {'\n' + 1, '\r' - 1}, {'\r' + 1, 0x2027}, {0x202A, G2_MAX_CHAR}
	};
	uint32_t	first = p->chars.n;
	size_t		at = p->at;
	int			c = peek(p);

	switch (c)
	{
		case '(':
			p->at++;
			return parse_group(p, out);
		case '[':
			return g2_class_bracket(p->nfa, p->text, p->len, &p->at, &p->chars) &&
				chars_node(p, first, out);
		case '\\':
			return g2_class_escape(p->nfa, p->text, p->len, &p->at, &p->chars) &&
				chars_node(p, first, out);
		case '.':
			p->at++;
			for (size_t i = 0; i < G2_LENGTH(dot); i++)
				if (!g2_chars_add(p->nfa, &p->chars, dot[i].lo, dot[i].hi))
					return false;
			return chars_node(p, first, out);
		case '*':
		case '+':
		case '?':
			return fail(p, at, "there is nothing to repeat",
						"Write a backslash before the character itself.");
		case '{':
			return fail(p, at, "there is nothing to repeat", "Write \\{ for the character itself.");
		case '^':
			return fail(p, at, "^ stands inside", "The whole text must match: ^ may stand at the "
						"beginning only. Write \\^ for the character itself.");
		case '$':
			return fail(p, at, "$ stands inside", "The whole text must match: $ may stand at the "
						"end only. Write \\$ for the character itself.");
		default:
			break;
	}
	return g2_class_char(p->nfa, p->text, p->len, &p->at, &p->chars) && chars_node(p, first, out);
}

/* ---- repetition ---- */

/* A number of at most G2_REGEX_MAX_REPEAT; *given: there was one. */
static bool
parse_count(parser *p, uint32_t *count, bool *given)
{
	size_t		at = p->at;

	*count = 0;
	while (peek(p) >= '0' && peek(p) <= '9')
	{
		*count = *count * 10 + (uint32_t) (p->text[p->at++] - '0');
		if (*count > G2_REGEX_MAX_REPEAT)
			return fail(p, at, "a repetition of more than 1000",
						"Repeat a group of what is repeated, as in (a{1000}){2}.");
	}
	*given = p->at > at;
	return true;
}

/* {n}, {n,} or {n,m}. */
static bool
parse_braces(parser *p, uint32_t *least, uint32_t *most)
{
	size_t		at = p->at++;
	bool		given;

	if (!parse_count(p, least, &given))
		return false;
	*most = *least;
	if (given && take(p, ','))
	{
		bool		bounded;

		if (!parse_count(p, most, &bounded))
			return false;
		if (!bounded)
			*most = UINT32_MAX;
	}
	if (!given || !take(p, '}'))
		return fail(p, at, "\"{\" begins no repetition", "A repetition is {n}, {n,} or {n,m}; "
					"write \\{ for the character itself.");
	if (*most < *least)
		return fail(p, at, "a repetition ends below its beginning", "Write {n,m} with n <= m.");
	return true;
}

/* How often the atom is repeated; false with *repeated unset: not at all. */
static bool
parse_quantifier(parser *p, uint32_t *least, uint32_t *most, bool *repeated)
{
	size_t		at = p->at;

	*repeated = true;
	*least = 0;
	*most = UINT32_MAX;
	if (take(p, '+'))
		*least = 1;
	else if (take(p, '?'))
		*most = 1;
	else if (peek(p) == '{')
	{
		if (!parse_braces(p, least, most))
			return false;
	}
	else if (!take(p, '*'))
		*repeated = false;
	if (!*repeated)
		return true;
	take(p, '?');				/* lazy: the same texts match */
	if (peek(p) == '*' || peek(p) == '+' || peek(p) == '?' || peek(p) == '{')
		return fail(p, at, "a repetition is repeated", "Write a group around it, as in (a+){2}.");
	return true;
}

static bool
parse_piece(parser *p, uint32_t parent)
{
	uint32_t	atom,
				least,
				most,
				repeat;
	bool		repeated;

	if (!parse_atom(p, &atom) || !parse_quantifier(p, &least, &most, &repeated))
		return false;
	if (repeated)
	{
		if (!new_node(p, (node) {.kind = NODE_REPEAT,.last = NO_NODE,.before = NO_NODE,
				.least = least,.most = most}, &repeat))
			return false;
		add_child(p, repeat, atom);
		atom = repeat;
	}
	add_child(p, parent, atom);
	return true;
}

/* ---- sequences and alternatives ---- */

static bool
parse_sequence(parser *p, uint32_t *out)
{
	const node	empty = {.kind = NODE_SEQUENCE,.last = NO_NODE,.before = NO_NODE};

	if (!new_node(p, empty, out))
		return false;
	if (p->depth == 0)
		p->nodes[*out].from_start = take(p, '^');
	while (peek(p) >= 0 && peek(p) != '|' && peek(p) != ')')
	{
		if (p->depth == 0 && peek(p) == '$' &&
			(p->at + 1 == p->len || p->text[p->at + 1] == '|'))
		{
			p->at++;
			p->nodes[*out].to_end = true;
			break;
		}
		if (!parse_piece(p, *out))
			return false;
	}
	return true;
}

static bool
parse_choice(parser *p, uint32_t *out)
{
	uint32_t	sequence;

	if (!new_node(p, (node) {.kind = NODE_CHOICE,.last = NO_NODE,.before = NO_NODE}, out))
		return false;
	do
	{
		if (!parse_sequence(p, &sequence))
			return false;
		add_child(p, *out, sequence);
	} while (take(p, '|'));
	return true;
}

/* ---- the automaton ---- */

typedef struct repeated
{
	const parser *p;
	uint32_t	node;
} repeated;

static uint32_t emit(const parser *p, uint32_t at, uint32_t next);

static uint32_t
emit_repeated(void *arg, uint32_t next)
{
	const repeated *r = arg;

	return emit(r->p, r->node, next);
}

/* Any text before `next`. */
static uint32_t
emit_anything(const parser *p, uint32_t next)
{
	static const g2_char_range all = {0, G2_MAX_CHAR};
	uint32_t	loop = g2_nfa_loop(p->nfa, next);

	g2_nfa_close(p->nfa, loop, g2_nfa_chars(p->nfa, &all, 1, p->form, loop));
	return loop;
}

static uint32_t
emit_sequence(const parser *p, const node *n, bool search, uint32_t next)
{
	if (search && !n->to_end)
		next = emit_anything(p, next);
	for (uint32_t child = n->last; child != NO_NODE; child = p->nodes[child].before)
		next = emit(p, child, next);
	if (search && !n->from_start)
		next = emit_anything(p, next);
	return next;
}

static uint32_t
emit(const parser *p, uint32_t at, uint32_t next)
{
	const node *n = &p->nodes[at];
	uint32_t	result = G2_NFA_NONE;

	if (next == G2_NFA_NONE || !g2_nfa_work(p->nfa))
		return G2_NFA_NONE;
	switch (n->kind)
	{
		case NODE_CHARS:
			return g2_nfa_chars(p->nfa, p->chars.ranges + n->first, n->n, p->form, next);
		case NODE_SEQUENCE:
			return emit_sequence(p, n, false, next);
		case NODE_REPEAT:
			return g2_nfa_repeat(p->nfa, emit_repeated, &(repeated) {p, n->last}, n->least,
								 n->most, next);
		case NODE_CHOICE:
			for (uint32_t child = n->last; child != NO_NODE; child = p->nodes[child].before)
				result = g2_nfa_split(p->nfa, emit(p, child, next), result);
			break;
	}
	return result;
}

/* The expression as a whole. */
static uint32_t
emit_root(const parser *p, uint32_t root, uint32_t next)
{
	uint32_t	result = G2_NFA_NONE;

	for (uint32_t child = p->nodes[root].last; child != NO_NODE; child = p->nodes[child].before)
		result = g2_nfa_split(p->nfa, emit_sequence(p, &p->nodes[child],
													p->mode == G2_REGEX_SEARCH, next), result);
	return result;
}

uint32_t
g2_regex_compile(g2_nfa *nfa, const char *text, size_t len, g2_regex_mode mode,
				 g2_char_form form, uint32_t next)
{
	parser		p = {.nfa = nfa,.text = text,.len = len,.mode = mode,.form = form};
	uint32_t	root,
				result = G2_NFA_NONE;

	if (g2_utf8_valid_prefix(text, len) != len)
		g2_nfa_fail(nfa, G2_E_PARAM, "the regex is not valid UTF-8",
					"A database in SQL_ASCII hands its bytes over as they are.");
	else if (parse_choice(&p, &root))
	{
		if (p.at < len)
			fail(&p, p.at, "unmatched \")\"", "Write \\) for the character itself.");
		else
			result = emit_root(&p, root, next);
	}
	g2_free(p.nodes);
	g2_free(p.chars.ranges);
	return nfa->failed ? G2_NFA_NONE : result;
}
