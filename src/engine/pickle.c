/*
 * pickle.c: a stack machine for the pickles that torch.save writes (Python's pickletools.py says
 * what the instructions mean).
 */
#include <stdio.h>

#include "pickle_machine.h"

/* ---------------------------------------------------------------- reading */

static bool
take(g2_pickle_machine *m, size_t n, const unsigned char **p)
{
	if (n > m->len - m->at)
		return g2_pickle_malformed(m, "unexpected end");
	*p = m->data + m->at;
	m->at += n;
	return true;
}

/* An unsigned number of n <= 8 bytes. */
static bool
take_number(g2_pickle_machine *m, size_t n, uint64_t *number)
{
	const unsigned char *p = NULL;

	if (!take(m, n, &p))
		return false;
	*number = 0;
	for (size_t i = n; i-- > 0;)
		*number = *number << 8 | p[i];
	return true;
}

static bool
push_integer(g2_pickle_machine *m, size_t n, bool is_signed)
{
	uint64_t	x;

	if (n > 8)
		return g2_pickle_refused(m, "an integer of more than 64 bits");
	if (!take_number(m, n, &x))
		return false;
	if (is_signed && n > 0 && n < 8 && x >> (8 * n - 1))
		x |= UINT64_MAX << (8 * n);
	if (!is_signed && n == 8 && x > INT64_MAX)
		return g2_pickle_refused(m, "an integer of more than 63 bits");
	return g2_pickle_push(m, (g2_pickle_value) {.kind = P_INTEGER,.u.integer = (int64_t) x});
}

static bool
push_text(g2_pickle_machine *m, size_t length_bytes)
{
	uint64_t	n;
	const unsigned char *p;

	if (!take_number(m, length_bytes, &n))
		return false;
	if (n > m->len - m->at)
		return g2_pickle_malformed(m, "unexpected end");
	return take(m, (size_t) n, &p) &&
		g2_pickle_push(m, (g2_pickle_value) {.kind = P_TEXT,
			.u.text = {(const char *) p, (size_t) n}});
}

static bool
take_line(g2_pickle_machine *m, g2_pickle_text *line)
{
	const unsigned char *p = m->data + m->at,
			   *lf = m->at < m->len ? memchr(p, '\n', m->len - m->at) : NULL;

	if (!lf)
		return g2_pickle_malformed(m, "unexpected end");
	*line = (g2_pickle_text) {(const char *) p, (size_t) (lf - p)};
	m->at += line->len + 1;
	return true;
}

/* ---------------------------------------------------------------- instructions */

static bool
memo_put(g2_pickle_machine *m, uint64_t index)
{
	if (m->stack.len == 0 || index > m->memo.len)
		return g2_pickle_malformed(m, "a value is remembered out of order");
	if (index == m->memo.len)
		return g2_pickle_append(m, &m->memo, m->stack.data[m->stack.len - 1]);
	m->memo.data[index] = m->stack.data[m->stack.len - 1];
	return true;
}

static bool
memo_get(g2_pickle_machine *m, uint64_t index)
{
	if (index >= m->memo.len)
		return g2_pickle_malformed(m, "a value that was not remembered");
	return g2_pickle_push(m, m->memo.data[index]);
}

static bool
memo(g2_pickle_machine *m, size_t bytes, bool put)
{
	uint64_t	index;

	return take_number(m, bytes, &index) && (put ? memo_put(m, index) : memo_get(m, index));
}

static bool
global(g2_pickle_machine *m)
{
	g2_pickle_text module,
				name;

	return take_line(m, &module) && take_line(m, &name) && g2_pickle_push_name(m, module, name);
}

static bool
stack_global(g2_pickle_machine *m)
{
	g2_pickle_value module,
				name;

	if (!g2_pickle_pop(m, &name) || !g2_pickle_pop(m, &module))
		return false;
	if (name.kind != P_TEXT || module.kind != P_TEXT)
		return g2_pickle_malformed(m, "a name that is no text");
	return g2_pickle_push_name(m, module.u.text, name.u.text);
}

/* What is put into a list, or set as an object's state, is of no interest here. */
static bool
drop_onto(g2_pickle_machine *m, bool from_mark)
{
	size_t		first,
				n;
	g2_pickle_value x;

	if (from_mark ? !g2_pickle_pop_mark(m, &first, &n) : !g2_pickle_pop(m, &x))
		return false;
	return m->stack.len > 0 && m->stack.data[m->stack.len - 1].kind != P_MARK ? true :
		g2_pickle_malformed(m, "the stack is empty");
}

static bool
tuple_or_items(g2_pickle_machine *m, bool tuple)
{
	size_t		first,
				n;

	return g2_pickle_pop_mark(m, &first, &n) &&
		(tuple ? g2_pickle_push_tuple(m, first, n) : g2_pickle_set_items(m, first, n));
}

static bool
set_item(g2_pickle_machine *m)
{
	g2_pickle_value x,
				name;

	/* both are still behind the new end of the stack */
	return g2_pickle_pop(m, &x) && g2_pickle_pop(m, &name) &&
		g2_pickle_set_items(m, m->stack.len, 2);
}

static bool
skip(g2_pickle_machine *m, size_t n)
{
	const unsigned char *p;

	return take(m, n, &p);
}

static bool
long1(g2_pickle_machine *m)
{
	uint64_t	n;

	return take_number(m, 1, &n) && push_integer(m, (size_t) n, true);
}

/* Instructions that push one value, or change none; *known = false: it is none of these. */
static bool
simple_instruction(g2_pickle_machine *m, unsigned char code, bool *known)
{
	*known = true;
	switch (code)
	{
		case 0x80:				/* PROTO */
			return skip(m, 1);
		case 0x95:				/* FRAME */
			return skip(m, 8);
		case '(':				/* MARK */
			return g2_pickle_push(m, (g2_pickle_value) {.kind = P_MARK});
		case 'N':				/* NONE, NEWTRUE, NEWFALSE */
		case 0x88:
		case 0x89:
			return g2_pickle_push(m, (g2_pickle_value) {.kind = P_NOTHING});
		case 'J':				/* BININT, BININT1, BININT2, LONG1 */
			return push_integer(m, 4, true);
		case 'K':
			return push_integer(m, 1, false);
		case 'M':
			return push_integer(m, 2, false);
		case 0x8A:
			return long1(m);
		case 'G':				/* BINFLOAT */
			return skip(m, 8) && g2_pickle_push(m, (g2_pickle_value) {.kind = P_OTHER});
		case 'X':				/* BINUNICODE, SHORT_BINUNICODE, BINUNICODE8 */
			return push_text(m, 4);
		case 0x8C:
			return push_text(m, 1);
		case 0x8D:
			return push_text(m, 8);
		case '}':				/* EMPTY_DICT */
			return g2_pickle_push_dictionary(m);
		case ']':				/* EMPTY_LIST */
			return g2_pickle_push(m, (g2_pickle_value) {.kind = P_LIST});
		case ')':				/* EMPTY_TUPLE */
			return g2_pickle_push_tuple(m, 0, 0);
		default:
			*known = false;
			return true;
	}
}

static bool
instruction(g2_pickle_machine *m, unsigned char code)
{
	char		what[32];

	switch (code)
	{
		case 'q':				/* BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET */
			return memo(m, 1, true);
		case 'r':
			return memo(m, 4, true);
		case 0x94:
			return memo_put(m, m->memo.len);
		case 'h':
			return memo(m, 1, false);
		case 'j':
			return memo(m, 4, false);
		case 't':				/* TUPLE, TUPLE1, TUPLE2, TUPLE3 */
			return tuple_or_items(m, true);
		case 0x85:
		case 0x86:
		case 0x87:
			return g2_pickle_push_short_tuple(m, code - 0x84u);
		case 's':				/* SETITEM, SETITEMS */
			return set_item(m);
		case 'u':
			return tuple_or_items(m, false);
		case 'a':				/* APPEND, APPENDS, BUILD */
		case 'b':
			return drop_onto(m, false);
		case 'e':
			return drop_onto(m, true);
		case 'c':				/* GLOBAL, STACK_GLOBAL */
			return global(m);
		case 0x93:
			return stack_global(m);
		case 'R':				/* REDUCE */
			return g2_pickle_reduce(m);
		case 'Q':				/* BINPERSID */
			return g2_pickle_load_storage(m);
		default:
			snprintf(what, sizeof what, "instruction 0x%02X", code);
			return g2_pickle_refused(m, what);
	}
}

/* ---------------------------------------------------------------- all of it */

static bool
run(g2_pickle_machine *m)
{
	while (m->at < m->len)
	{
		unsigned char code = m->data[m->at];
		bool		known;

		m->instruction = m->at++;
		if (code == '.')		/* STOP */
			return true;
		if (!simple_instruction(m, code, &known) || (!known && !instruction(m, code)))
			return false;
	}
	m->instruction = m->len;
	return g2_pickle_malformed(m, "unexpected end");
}

bool
g2_pickle_tensors(const char *path, const void *data, size_t len, g2_pickle_tensor **out,
				  uint32_t *n, g2_error *err)
{
	g2_pickle_machine m = {.path = path,.data = data,.len = len,.err = err};
	bool		ok;

	*out = NULL;
	*n = 0;
	ok = run(&m) && g2_pickle_collect(&m, out, n);
	g2_free(m.stack.data);
	g2_free(m.items.data);
	g2_free(m.memo.data);
	g2_free(m.storages);
	g2_free(m.tensors);
	g2_free(m.members);
	if (!ok)
	{
		g2_free(*out);
		*out = NULL;
		*n = 0;
	}
	return ok;
}
