/*
 * pickle_values.c: the values that a pickle's instructions make (torch/_utils.py says what the
 * names mean and which arguments they take).
 */
#include <stdio.h>

#include "json.h"
#include "pickle_machine.h"

static const struct
{
	const char *module;
	const char *name;
	const char *safetensors;
	size_t		size;
}			names[] = {
	{"collections", "OrderedDict", NULL, 0},
	{"torch._utils", "_rebuild_tensor_v2", NULL, 0},
	{"torch._utils", "_rebuild_parameter", NULL, 0},
	{"torch", "DoubleStorage", "F64", 8},
	{"torch", "FloatStorage", "F32", 4},
	{"torch", "HalfStorage", "F16", 2},
	{"torch", "BFloat16Storage", "BF16", 2},
	{"torch", "LongStorage", "I64", 8},
	{"torch", "IntStorage", "I32", 4},
	{"torch", "ShortStorage", "I16", 2},
	{"torch", "CharStorage", "I8", 1},
	{"torch", "ByteStorage", "U8", 1},
	{"torch", "BoolStorage", "BOOL", 1},
};

_Static_assert(G2_LENGTH(names) == P_FIRST_STORAGE + G2_STORAGE_N, "a name for each storage");

const char *
g2_storage_name(g2_storage s)
{
	return names[P_FIRST_STORAGE + s].safetensors;
}

size_t
g2_storage_size(g2_storage s)
{
	return names[P_FIRST_STORAGE + s].size;
}

/* ---------------------------------------------------------------- errors, memory */

bool
g2_pickle_malformed(const g2_pickle_machine *m, const char *what)
{
	return g2_fail(m->err, G2_E_BAD_FILE, "malformed pickle in \"%s\" at byte %zu: %s", m->path,
				   m->instruction, what);
}

bool
g2_pickle_refused(const g2_pickle_machine *m, const char *what)
{
	g2_fail(m->err, G2_E_UNSUPPORTED, "the pickle in \"%s\" is not supported: %s at byte %zu",
			m->path, what, m->instruction);
	return g2_fail_hint(m->err, "Only a dictionary of tensors is read, as torch.save writes it for "
						"a state_dict; nothing of a pickle is ever run.");
}

/* The array with room for one more element; NULL with err filled. */
static void *
grow(const g2_pickle_machine *m, void *array, size_t len, size_t *cap, size_t size, size_t max)
{
	size_t		n = *cap ? *cap * 2 : 64;

	if (len < *cap)
		return array;
	if (len >= max)
	{
		g2_fail(m->err, G2_E_LIMIT, "the pickle in \"%s\" has more than %zu values", m->path, max);
		return NULL;
	}
	array = g2_realloc_array(array, n, size);
	if (!array)
		g2_fail_memory(m->err, n * size);
	else
		*cap = n;
	return array;
}

bool
g2_pickle_append(const g2_pickle_machine *m, g2_pickle_values *v, g2_pickle_value x)
{
	g2_pickle_value *data = grow(m, v->data, v->len, &v->cap, sizeof x, G2_PICKLE_MAX_VALUES);

	if (!data)
		return false;
	v->data = data;
	v->data[v->len++] = x;
	return true;
}

bool
g2_pickle_push(g2_pickle_machine *m, g2_pickle_value x)
{
	return g2_pickle_append(m, &m->stack, x);
}

bool
g2_pickle_pop(g2_pickle_machine *m, g2_pickle_value *x)
{
	if (m->stack.len == 0 || m->stack.data[m->stack.len - 1].kind == P_MARK)
		return g2_pickle_malformed(m, "the stack is empty");
	*x = m->stack.data[--m->stack.len];
	return true;
}

bool
g2_pickle_pop_mark(g2_pickle_machine *m, size_t *first, size_t *n)
{
	size_t		end = m->stack.len,
				at = end;

	while (at > 0 && m->stack.data[at - 1].kind != P_MARK)
		at--;
	if (at == 0)
		return g2_pickle_malformed(m, "there is no mark");
	*first = at;
	*n = end - at;
	m->stack.len = at - 1;
	return true;
}

/* ---------------------------------------------------------------- values made of others */

static bool
same_text(g2_pickle_text t, const char *s)
{
	return t.len == strlen(s) && memcmp(t.data, s, t.len) == 0;
}

bool
g2_pickle_push_name(g2_pickle_machine *m, g2_pickle_text module, g2_pickle_text name)
{
	char		what[2 * G2_JSON_EXCERPT + 32],
				x[G2_JSON_EXCERPT],
				y[G2_JSON_EXCERPT];

	for (uint32_t i = 0; i < G2_LENGTH(names); i++)
		if (same_text(module, names[i].module) && same_text(name, names[i].name))
			return g2_pickle_push(m, (g2_pickle_value) {.kind = P_NAME,.n = i});
	snprintf(what, sizeof what, "the name \"%s.%s\"", g2_json_excerpt(x, module.data, module.len),
			 g2_json_excerpt(y, name.data, name.len));
	return g2_pickle_refused(m, what);
}

bool
g2_pickle_push_tuple(g2_pickle_machine *m, size_t first, size_t n)
{
	g2_pickle_value tuple = {.kind = P_TUPLE,.n = (uint32_t) n,.u.first = m->items.len};

	for (size_t i = 0; i < n; i++)
		if (!g2_pickle_append(m, &m->items, m->stack.data[first + i]))
			return false;
	return g2_pickle_push(m, tuple);
}

bool
g2_pickle_push_short_tuple(g2_pickle_machine *m, size_t n)
{
	g2_pickle_value x[3];

	for (size_t i = n; i-- > 0;)
		if (!g2_pickle_pop(m, &x[i]))
			return false;
	/* they are still behind the new end of the stack */
	return g2_pickle_push_tuple(m, m->stack.len, n);
}

static const g2_pickle_value *
tuple_at(const g2_pickle_machine *m, const g2_pickle_value *tuple, uint32_t i)
{
	return tuple->kind == P_TUPLE && i < tuple->n ? &m->items.data[tuple->u.first + i] : NULL;
}

static bool
is_kind(const g2_pickle_value *v, g2_pickle_kind k)
{
	return v && v->kind == k;
}

/* ("storage", type, key, location, count) */
bool
g2_pickle_load_storage(g2_pickle_machine *m)
{
	g2_pickle_value id;
	const g2_pickle_value *type,
			   *key,
			   *count;
	g2_pickle_storage *storages;

	if (!g2_pickle_pop(m, &id))
		return false;
	type = tuple_at(m, &id, 1);
	key = tuple_at(m, &id, 2);
	count = tuple_at(m, &id, 4);
	if (!is_kind(tuple_at(m, &id, 0), P_TEXT) ||
		!same_text(tuple_at(m, &id, 0)->u.text, "storage") || !is_kind(type, P_NAME) ||
		type->n < P_FIRST_STORAGE || !is_kind(key, P_TEXT) || !is_kind(count, P_INTEGER) ||
		count->u.integer < 0)
		return g2_pickle_malformed(m, "a storage is described otherwise than PyTorch does");
	storages = grow(m, m->storages, m->n_storages, &m->cap_storages, sizeof *storages,
					G2_PICKLE_MAX_TENSORS);
	if (!storages)
		return false;
	m->storages = storages;
	m->storages[m->n_storages] = (g2_pickle_storage) {
		.type = (g2_storage) (type->n - P_FIRST_STORAGE), .key = key->u.text,
		.count = (uint64_t) count->u.integer,
	};
	return g2_pickle_push(m, (g2_pickle_value) {.kind = P_STORAGE,.u.first = m->n_storages++});
}

/* Shape and strides of a tensor; a dimension of one element may have any stride. */
static bool
read_shape(const g2_pickle_machine *m, const g2_pickle_value *size,
		   const g2_pickle_value *stride, g2_pickle_record *t)
{
	uint64_t	step = 1;

	t->t.rank = size->n;
	t->contiguous = true;
	for (uint32_t i = size->n; i-- > 0;)
	{
		const g2_pickle_value *n = tuple_at(m, size, i),
				   *s = tuple_at(m, stride, i);

		if (!is_kind(n, P_INTEGER) || !is_kind(s, P_INTEGER) || n->u.integer < 0 ||
			s->u.integer < 0)
			return g2_pickle_malformed(m, "a shape is no list of sizes");
		t->t.shape[i] = (uint64_t) n->u.integer;
		if (t->t.shape[i] != 1 && (uint64_t) s->u.integer != step)
			t->contiguous = false;
		if (__builtin_mul_overflow(step, t->t.shape[i], &step))
			return g2_pickle_malformed(m, "a shape is too large");
	}
	t->t.count = step;
	return true;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, …) */
static bool
make_tensor(g2_pickle_machine *m, const g2_pickle_value *arguments)
{
	const g2_pickle_value *from = tuple_at(m, arguments, 0),
			   *offset = tuple_at(m, arguments, 1),
			   *size = tuple_at(m, arguments, 2),
			   *stride = tuple_at(m, arguments, 3);
	g2_pickle_record t = {.contiguous = true},
			   *tensors;
	const g2_pickle_storage *s;

	if (!is_kind(from, P_STORAGE) || !is_kind(offset, P_INTEGER) || offset->u.integer < 0 ||
		!is_kind(size, P_TUPLE) || !is_kind(stride, P_TUPLE) || size->n != stride->n ||
		size->n > G2_PICKLE_MAX_RANK)
		return g2_pickle_malformed(m, "a tensor is described otherwise than PyTorch does");
	if (!read_shape(m, size, stride, &t))
		return false;
	s = &m->storages[from->u.first];
	t.t.key = s->key;
	t.t.storage = s->type;
	t.t.storage_count = s->count;
	t.t.offset = (uint64_t) offset->u.integer;
	if (t.contiguous && (t.t.offset > s->count || t.t.count > s->count - t.t.offset))
		return g2_pickle_malformed(m, "a tensor goes beyond its storage");
	tensors = grow(m, m->tensors, m->n_tensors, &m->cap_tensors, sizeof *tensors,
				   G2_PICKLE_MAX_TENSORS);
	if (!tensors)
		return false;
	m->tensors = tensors;
	m->tensors[m->n_tensors] = t;
	return g2_pickle_push(m, (g2_pickle_value) {.kind = P_TENSOR,.u.first = m->n_tensors++});
}

bool
g2_pickle_push_dictionary(g2_pickle_machine *m)
{
	return g2_pickle_push(m, (g2_pickle_value) {.kind = P_DICTIONARY,.n = m->n_dictionaries++});
}

/* What a "call" makes. */
bool
g2_pickle_reduce(g2_pickle_machine *m)
{
	g2_pickle_value arguments,
				function;
	const g2_pickle_value *first;

	if (!g2_pickle_pop(m, &arguments) || !g2_pickle_pop(m, &function))
		return false;
	if (function.kind != P_NAME || arguments.kind != P_TUPLE)
		return g2_pickle_malformed(m, "a call of what is no function");
	first = tuple_at(m, &arguments, 0);
	switch (function.n)
	{
		case P_ORDERED_DICT:
			return arguments.n == 0 ? g2_pickle_push_dictionary(m) :
				g2_pickle_refused(m, "a dictionary that is made of a list");
		case P_REBUILD_TENSOR:
			return make_tensor(m, &arguments);
		case P_REBUILD_PARAMETER:
			return is_kind(first, P_TENSOR) ? g2_pickle_push(m, *first) :
				g2_pickle_malformed(m, "a parameter is described otherwise than PyTorch does");
		default:
			return g2_pickle_malformed(m, "a call of a storage");
	}
}

/* Items of the dictionary on top of the stack: first[0] -> first[1], … */
bool
g2_pickle_set_items(g2_pickle_machine *m, size_t first, size_t n)
{
	const g2_pickle_value *dictionary = m->stack.len > 0 ? &m->stack.data[m->stack.len - 1] : NULL;

	if (!is_kind(dictionary, P_DICTIONARY) || n % 2 != 0)
		return g2_pickle_malformed(m, "items of what is no dictionary");
	for (size_t i = 0; i < n; i += 2)
	{
		const g2_pickle_value *name = &m->stack.data[first + i],
				   *x = name + 1;
		g2_pickle_item *members;

		if (name->kind != P_TEXT || x->kind != P_TENSOR)
			continue;
		members = grow(m, m->members, m->n_members, &m->cap_members, sizeof *members,
					   G2_PICKLE_MAX_TENSORS);
		if (!members)
			return false;
		m->members = members;
		m->members[m->n_members++] = (g2_pickle_item) {
			.dictionary = dictionary->n, .name = name->u.text, .tensor = x->u.first,
		};
	}
	return true;
}

/* ---------------------------------------------------------------- the result */

bool
g2_pickle_collect(g2_pickle_machine *m, g2_pickle_tensor **out, uint32_t *n)
{
	g2_pickle_value result;
	char		excerpt[G2_JSON_EXCERPT];

	if (!g2_pickle_pop(m, &result))
		return false;
	*out = g2_alloc_array(m->n_members + 1, sizeof **out);
	if (!*out)
		return g2_fail_memory(m->err, m->n_members * sizeof **out);
	for (size_t i = 0; result.kind == P_DICTIONARY && i < m->n_members; i++)
	{
		const g2_pickle_item *member = &m->members[i];
		const g2_pickle_record *t = &m->tensors[member->tensor];

		if (member->dictionary != result.n)
			continue;
		if (!t->contiguous)
			return g2_fail(m->err, G2_E_UNSUPPORTED, "tensor \"%s\" in \"%s\" is not contiguous",
						   g2_json_excerpt(excerpt, member->name.data, member->name.len),
						   m->path);
		(*out)[*n] = t->t;
		(*out)[(*n)++].name = member->name;
	}
	if (*n > 0)
		return true;
	m->instruction = m->at;
	return g2_pickle_refused(m, "a result that is no dictionary of tensors");
}
