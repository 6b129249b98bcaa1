/*
 * grammar_nfa.c: building a nondeterministic automaton over bytes from its end.
 *
 * Byte sets are shared: a constraint has few different ones.  Ranges of characters become ranges of
 * UTF-8 byte sequences, as ranges of numbers become ranges of digit sequences: both are what lies
 * between two sequences of one length (Thompson's grep for UTF-8; RE2's utf8 ranges).
 */
#include "grammar_nfa.h"

#include <stdio.h>

#define FIRST_SETS 64
#define WAITING 16				/* first bytes whose sets may still grow */
#define MAX_SEQUENCE 20			/* digits of the largest number; UTF-8 has four bytes at most */

void
g2_nfa_free(g2_nfa *nfa)
{
	g2_free(nfa->states);
	g2_free(nfa->sets);
	g2_free(nfa->set_table);
	nfa->states = NULL;
	nfa->sets = NULL;
	nfa->set_table = NULL;
}

uint32_t
g2_nfa_fail(g2_nfa *nfa, g2_code code, const char *message, const char *hint)
{
	if (!nfa->failed)
	{
		g2_fail(nfa->err, code, "%s", message);
		if (hint)
			g2_fail_hint(nfa->err, "%s", hint);
	}
	nfa->failed = true;
	return G2_NFA_NONE;
}

static uint32_t
fail_memory(g2_nfa *nfa, size_t bytes)
{
	if (!nfa->failed)
		g2_fail_memory(nfa->err, bytes);
	nfa->failed = true;
	return G2_NFA_NONE;
}

static void
fail_large(g2_nfa *nfa)
{
	char		message[128];

	snprintf(message, sizeof message, "the %s is too complex", nfa->what);
	g2_nfa_fail(nfa, G2_E_TOO_LONG, message,
				"Repeat less, or less often within what is repeated itself.");
}

bool
g2_nfa_work(g2_nfa *nfa)
{
	if (nfa->failed)
		return false;
	if (++nfa->work > G2_NFA_MAX_WORK)
		fail_large(nfa);
	else if (nfa->cancel && (nfa->work & 1023) == 0 && atomic_load(nfa->cancel))
		g2_nfa_fail(nfa, G2_E_CANCELED, "the request was cancelled", NULL);
	return !nfa->failed;
}

/* ---- states ---- */

static uint32_t
add_state(g2_nfa *nfa, g2_nfa_state state)
{
	if (!g2_nfa_work(nfa))
		return G2_NFA_NONE;
	if (nfa->n == G2_NFA_MAX_STATES)
	{
		fail_large(nfa);
		return G2_NFA_NONE;
	}
	if (nfa->n == nfa->cap)
	{
		uint32_t	cap = nfa->cap ? nfa->cap * 2 : 256;
		g2_nfa_state *states = g2_realloc_array(nfa->states, cap, sizeof *states);

		if (!states)
			return fail_memory(nfa, cap * sizeof *states);
		nfa->states = states;
		nfa->cap = cap;
	}
	nfa->states[nfa->n] = state;
	return nfa->n++;
}

static uint32_t
least_of(const g2_nfa *nfa, uint32_t state)
{
	return state == G2_NFA_NONE ? UINT32_MAX : nfa->states[state].least;
}

uint32_t
g2_nfa_accept(g2_nfa *nfa)
{
	return add_state(nfa, (g2_nfa_state) {G2_NFA_ACCEPT, G2_NFA_NONE, G2_NFA_NONE, 0});
}

uint32_t
g2_nfa_split(g2_nfa *nfa, uint32_t a, uint32_t b)
{
	if (a == G2_NFA_NONE || a == b)
		return b;
	if (b == G2_NFA_NONE)
		return a;
	return add_state(nfa, (g2_nfa_state) {G2_NFA_SPLIT, a, b,
		G2_MIN(least_of(nfa, a), least_of(nfa, b))});
}

uint32_t
g2_nfa_loop(g2_nfa *nfa, uint32_t exit)
{
	/* Whatever the body is, it comes back here: the way out is the shortest. */
	return exit == G2_NFA_NONE ? G2_NFA_NONE :
		add_state(nfa, (g2_nfa_state) {G2_NFA_SPLIT, exit, G2_NFA_NONE, least_of(nfa, exit)});
}

void
g2_nfa_close(g2_nfa *nfa, uint32_t loop, uint32_t body)
{
	if (loop != G2_NFA_NONE && !nfa->failed)
		nfa->states[loop].other = body;
}

/* ---- bytes ---- */

static uint32_t
hash_set(const g2_byte_set *set)
{
	uint64_t	h = 0;

	for (int i = 0; i < 4; i++)
	{
		h = (h ^ set->bits[i]) * 0x9E3779B97F4A7C15u;
		h ^= h >> 29;
	}
	return (uint32_t) (h >> 32);
}

static uint32_t *
find_set(const g2_nfa *nfa, const g2_byte_set *set)
{
	uint32_t	mask = 2 * nfa->cap_sets - 1,
				at = hash_set(set) & mask;

	while (nfa->set_table[at] != 0 &&
		   memcmp(&nfa->sets[nfa->set_table[at] - 1], set, sizeof *set) != 0)
		at = (at + 1) & mask;
	return &nfa->set_table[at];
}

static bool
grow_sets(g2_nfa *nfa)
{
	uint32_t	cap = nfa->cap_sets ? nfa->cap_sets * 2 : FIRST_SETS;
	g2_byte_set *sets = g2_realloc_array(nfa->sets, cap, sizeof *sets);
	uint32_t   *table;

	if (sets)
		nfa->sets = sets;
	table = sets ? g2_alloc_array(2 * (size_t) cap, sizeof *table) : NULL;
	if (!table)
	{
		fail_memory(nfa, cap * sizeof *sets);
		return false;
	}
	g2_free(nfa->set_table);
	nfa->set_table = table;
	nfa->cap_sets = cap;
	for (uint32_t i = 0; i < nfa->n_sets; i++)
		*find_set(nfa, &nfa->sets[i]) = i + 1;
	return true;
}

uint32_t
g2_nfa_bytes(g2_nfa *nfa, const g2_byte_set *set, uint32_t next)
{
	static const g2_byte_set none = {{0}};
	uint32_t   *at;

	if (next == G2_NFA_NONE || nfa->failed || memcmp(set, &none, sizeof none) == 0 ||
		(nfa->n_sets == nfa->cap_sets && !grow_sets(nfa)))
		return G2_NFA_NONE;
	at = find_set(nfa, set);
	if (*at == 0)
	{
		nfa->sets[nfa->n_sets++] = *set;
		*at = nfa->n_sets;
	}
	return add_state(nfa, (g2_nfa_state) {*at - 1, next, G2_NFA_NONE, least_of(nfa, next) + 1});
}

uint32_t
g2_nfa_literal(g2_nfa *nfa, const char *data, size_t len, uint32_t next)
{
	while (len-- > 0)
	{
		g2_byte_set set = {{0}};
		uint32_t	byte = (unsigned char) data[len];

		g2_byte_set_add(&set, byte, byte);
		next = g2_nfa_bytes(nfa, &set, next);
	}
	return next;
}

uint32_t
g2_nfa_string(g2_nfa *nfa, const char *s, uint32_t next)
{
	return g2_nfa_literal(nfa, s, strlen(s), next);
}

/* ---- sequences between two ---- */

/* First bytes, by where they lead; `result` is what has been made of those before. */
typedef struct firsts
{
	g2_nfa	   *nfa;
	uint32_t	result;
	uint32_t	n;
	uint32_t	target[WAITING];
	g2_byte_set set[WAITING];
} firsts;

static void
flush_firsts(firsts *f)
{
	for (uint32_t i = 0; i < f->n; i++)
		f->result = g2_nfa_split(f->nfa, g2_nfa_bytes(f->nfa, &f->set[i], f->target[i]),
								 f->result);
	f->n = 0;
}

static void
add_first(firsts *f, uint32_t lo, uint32_t hi, uint32_t target)
{
	uint32_t	i = 0;

	if (target == G2_NFA_NONE)
		return;
	while (i < f->n && f->target[i] != target)
		i++;
	if (i == WAITING)
	{
		flush_firsts(f);
		i = 0;
	}
	if (i == f->n)
	{
		f->target[i] = target;
		f->set[i] = (g2_byte_set) {{0}};
		f->n++;
	}
	g2_byte_set_add(&f->set[i], lo, hi);
}

/* Sequences whose later bytes are from `first` to `last`. */
typedef struct sequences
{
	g2_nfa	   *nfa;
	uint32_t	first;
	uint32_t	last;
	uint32_t	tail[MAX_SEQUENCE];	/* [k]: any k of them, then next; made when needed */
	uint32_t	n_tails;
} sequences;

static uint32_t
tail(sequences *s, uint32_t k)
{
	g2_byte_set set = {{0}};

	g2_byte_set_add(&set, s->first, s->last);
	for (; s->n_tails <= k; s->n_tails++)
		s->tail[s->n_tails] = g2_nfa_bytes(s->nfa, &set, s->tail[s->n_tails - 1]);
	return s->tail[k];
}

static bool
all_are(const uint8_t *bytes, uint32_t n, uint32_t byte)
{
	for (uint32_t i = 0; i < n; i++)
		if (bytes[i] != byte)
			return false;
	return true;
}

static uint32_t between(sequences *s, const uint8_t *lo, const uint8_t *hi, uint32_t n);

/* Adds the first bytes of the sequences of n bytes from lo to hi. */
static void
add_between(sequences *s, const uint8_t *lo, const uint8_t *hi, uint32_t n, firsts *f)
{
	uint32_t	from = lo[0],
				to = hi[0];
	uint8_t		end[MAX_SEQUENCE];

	if (from == to)
	{
		add_first(f, from, from, between(s, lo + 1, hi + 1, n - 1));
		return;
	}
	if (!all_are(lo + 1, n - 1, s->first))
	{
		memset(end, (int) s->last, n);
		add_first(f, from, from, between(s, lo + 1, end, n - 1));
		from++;
	}
	if (!all_are(hi + 1, n - 1, s->last))
	{
		memset(end, (int) s->first, n);
		add_first(f, to, to, between(s, end, hi + 1, n - 1));
		to--;
	}
	if (from <= to)
		add_first(f, from, to, tail(s, n - 1));
}

static uint32_t
between(sequences *s, const uint8_t *lo, const uint8_t *hi, uint32_t n)
{
	firsts		f = {.nfa = s->nfa,.result = G2_NFA_NONE};

	if (all_are(lo, n, s->first) && all_are(hi, n, s->last))
		return tail(s, n);
	add_between(s, lo, hi, n, &f);
	flush_firsts(&f);
	return f.result;
}

/* ---- characters ---- */

static uint32_t
utf8_encode(uint32_t c, uint8_t *out)
{
	static const uint8_t marks[] = {0, 0, 0xC0, 0xE0, 0xF0};
	uint32_t	n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (uint32_t i = n; i-- > 1; c >>= 6)
		out[i] = (uint8_t) (0x80 | (c & 0x3F));
	out[0] = (uint8_t) (marks[n] | c);
	return n;
}

/* Adds those of lo..hi that lie within one length of UTF-8. */
static void
add_chars(sequences *s, uint32_t lo, uint32_t hi, uint32_t from, uint32_t to, firsts *f)
{
	uint8_t		a[4],
				b[4];
	uint32_t	n;

	lo = G2_MAX(lo, from);
	hi = G2_MIN(hi, to);
	if (lo > hi || !g2_nfa_work(s->nfa))
		return;
	n = utf8_encode(lo, a);
	utf8_encode(hi, b);
	add_between(s, a, b, n, f);
}

/* ASCII characters in a JSON string. */
static void
add_json_ascii(const g2_byte_set *ascii, firsts *f, uint32_t next)
{
	static const char escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	g2_byte_set short_forms = {{0}};
	bool		any = false;

	for (const char *e = escapes; *e; e += 2)
		if (g2_byte_set_has(ascii, (unsigned char) e[0]))
		{
			g2_byte_set_add(&short_forms, (unsigned char) e[1], (unsigned char) e[1]);
			any = true;
		}
	for (uint32_t c = 0x20; c < 0x80; c++)
		if (g2_byte_set_has(ascii, c) && c != '"' && c != '\\')
			add_first(f, c, c, next);
	if (any)
		add_first(f, '\\', '\\', g2_nfa_bytes(f->nfa, &short_forms, next));
}

uint32_t
g2_nfa_chars(g2_nfa *nfa, const g2_char_range *ranges, size_t n, g2_char_form form, uint32_t next)
{
	sequences	s = {.nfa = nfa,.first = 0x80,.last = 0xBF,.tail = {next},.n_tails = 1};
	firsts		f = {.nfa = nfa,.result = G2_NFA_NONE};
	g2_byte_set ascii = {{0}};

	if (next == G2_NFA_NONE)
		return G2_NFA_NONE;
	for (size_t i = 0; i < n; i++)
	{
		uint32_t	lo = G2_MAX(ranges[i].lo, 1u),
					hi = ranges[i].hi;

		if (lo < 0x80 && lo <= hi)
			g2_byte_set_add(&ascii, lo, G2_MIN(hi, 0x7Fu));
		add_chars(&s, lo, hi, 0x80, 0x7FF, &f);
		add_chars(&s, lo, hi, 0x800, 0xD7FF, &f);
		add_chars(&s, lo, hi, 0xE000, 0xFFFF, &f);
		add_chars(&s, lo, hi, 0x10000, G2_MAX_CHAR, &f);
	}
	if (form == G2_CHARS_JSON)
		add_json_ascii(&ascii, &f, next);
	else
		for (uint32_t c = 0; c < 0x80; c++)
			if (g2_byte_set_has(&ascii, c))
				add_first(&f, c, c, next);
	flush_firsts(&f);
	return f.result;
}

/* ---- numbers ---- */

uint32_t
g2_nfa_numbers(g2_nfa *nfa, uint64_t lo, uint64_t hi, uint32_t next)
{
	sequences	s = {.nfa = nfa,.first = '0',.last = '9',.tail = {next},.n_tails = 1};
	firsts		f = {.nfa = nfa,.result = G2_NFA_NONE};
	uint64_t	from = 0,
				to = 9;

	if (next == G2_NFA_NONE)
		return G2_NFA_NONE;
	/* One length of digits after the other: 0..9, 10..99, ... */
	for (uint32_t digits = 1; digits < MAX_SEQUENCE && from <= hi; digits++)
	{
		char		a[MAX_SEQUENCE + 1],
					b[MAX_SEQUENCE + 1];

		if (lo <= to)
		{
			snprintf(a, sizeof a, "%llu", (unsigned long long) G2_MAX(lo, from));
			snprintf(b, sizeof b, "%llu", (unsigned long long) G2_MIN(hi, to));
			add_between(&s, (const uint8_t *) a, (const uint8_t *) b, digits, &f);
		}
		from = to + 1;
		to = to * 10 + 9;
	}
	flush_firsts(&f);
	return f.result;
}

/* ---- repetition ---- */

uint32_t
g2_nfa_repeat(g2_nfa *nfa, g2_nfa_emit emit, void *arg, uint32_t least, uint32_t most,
			  uint32_t next)
{
	uint32_t	entry = next;

	if (most == UINT32_MAX)
	{
		uint32_t	body;

		entry = g2_nfa_loop(nfa, next);
		body = emit(arg, entry);
		g2_nfa_close(nfa, entry, body);
		if (least > 0)
		{
			entry = body;
			least--;
		}
	}
	else
		for (uint32_t i = least; i < most && g2_nfa_work(nfa); i++)
		{
			uint32_t	body = emit(arg, entry);

			if (body == G2_NFA_NONE)
				break;
			entry = g2_nfa_split(nfa, body, next);
		}
	for (uint32_t i = 0; i < least && entry != G2_NFA_NONE && g2_nfa_work(nfa); i++)
		entry = emit(arg, entry);
	return nfa->failed ? G2_NFA_NONE : entry;
}
