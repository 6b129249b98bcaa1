/*
 * grammar_schema.c: JSON schemas: which keywords there are, types and their combinations.
 */
#include "grammar_schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define LOOKS 16				/* at members: one unit of work */

/* What a value may be. */
enum
{
	TYPE_NULL = 1, TYPE_BOOLEAN = 2, TYPE_INTEGER = 4, TYPE_NUMBER = 8, TYPE_STRING = 16,
	TYPE_ARRAY = 32, TYPE_OBJECT = 64, TYPE_ANY = 127
};

static const struct
{
	const char *name;
	unsigned	type;
}			type_names[] = {
	{"null", TYPE_NULL}, {"boolean", TYPE_BOOLEAN}, {"integer", TYPE_INTEGER},
	{"number", TYPE_NUMBER}, {"string", TYPE_STRING}, {"array", TYPE_ARRAY},
	{"object", TYPE_OBJECT},
};

/* How a keyword takes part. */
typedef enum keyword_kind
{
	ANNOTATES,					/* changes nothing */
	DEFINES,					/* schemas for references */
	TYPES,						/* goes with what decides and with what limits */
	DECIDES,					/* alone: enum, const, anyOf, allOf, $ref */
	LIMITS						/* values of one type */
} keyword_kind;

static const struct
{
	const char *name;
	keyword_kind kind;
	unsigned	type;			/* LIMITS: which */
}			keywords[] = {
	{"type", TYPES, 0}, {"nullable", TYPES, 0},
	{"enum", DECIDES, 0}, {"const", DECIDES, 0}, {"anyOf", DECIDES, 0}, {"allOf", DECIDES, 0},
	{"$ref", DECIDES, 0},
	{"properties", LIMITS, TYPE_OBJECT}, {"required", LIMITS, TYPE_OBJECT},
	{"additionalProperties", LIMITS, TYPE_OBJECT},
	{"items", LIMITS, TYPE_ARRAY}, {"minItems", LIMITS, TYPE_ARRAY},
	{"maxItems", LIMITS, TYPE_ARRAY},
	{"minLength", LIMITS, TYPE_STRING}, {"maxLength", LIMITS, TYPE_STRING},
	{"pattern", LIMITS, TYPE_STRING},
	{"minimum", LIMITS, TYPE_NUMBER}, {"maximum", LIMITS, TYPE_NUMBER},
	{"exclusiveMinimum", LIMITS, TYPE_NUMBER}, {"exclusiveMaximum", LIMITS, TYPE_NUMBER},
	{"$defs", DEFINES, 0}, {"definitions", DEFINES, 0},
	{"title", ANNOTATES, 0}, {"description", ANNOTATES, 0}, {"default", ANNOTATES, 0},
	{"examples", ANNOTATES, 0}, {"deprecated", ANNOTATES, 0}, {"readOnly", ANNOTATES, 0},
	{"writeOnly", ANNOTATES, 0}, {"$schema", ANNOTATES, 0}, {"$id", ANNOTATES, 0},
	{"$comment", ANNOTATES, 0},
};

/* ---- errors ---- */

const char *
g2_schema_pointer(const g2_schema_place *place, char *buf, size_t size)
{
	char		name[G2_JSON_EXCERPT];
	size_t		at = size - 1;

	/* Written from its end; of a long one, the end is what says where it is. */
	buf[at] = '\0';
	for (; place && place->outer; place = place->outer)
	{
		size_t		len;

		if (place->name)
			g2_json_excerpt(name, place->name, strlen(place->name));
		else
			snprintf(name, sizeof name, "%u", place->index);
		len = strlen(name);
		if (at < len + 5)
		{
			at -= 3;
			memcpy(buf + at, "...", 3);
			break;
		}
		at -= len;
		memcpy(buf + at, name, len);
		buf[--at] = '/';
	}
	return at == size - 1 ? "its beginning" : buf + at;
}

uint32_t
g2_schema_fail(const g2_schema_node *node, const char *keyword, const char *hint,
			   const char *fmt,...)
{
	g2_nfa	   *nfa = node->schema->nfa;
	const g2_schema_place here = {.outer = node->place,.name = keyword};
	char		what[160],
				pointer[128],
				message[384];
	va_list		ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	snprintf(message, sizeof message, "json_schema: %s, at %s", what,
			 g2_schema_pointer(keyword ? &here : node->place, pointer, sizeof pointer));
	return g2_nfa_fail(nfa, G2_E_PARAM, message, hint);
}

bool
g2_schema_count(const g2_schema_node *node, const char *keyword, uint32_t fallback,
				uint32_t most, uint32_t *out)
{
	const cJSON *json = cJSON_GetObjectItemCaseSensitive(node->json, keyword);
	double		d;

	*out = fallback;
	if (!json)
		return true;
	d = json->valuedouble;
	if (!cJSON_IsNumber(json) || d < 0 || d != floor(d))
	{
		g2_schema_fail(node, keyword, NULL, "%s must be an integer from 0 on", keyword);
		return false;
	}
	*out = d > most ? most : (uint32_t) d;
	return true;
}

/* ---- what stands in a schema ---- */

/* Counts a look at one of many; false: there were too many. */
static bool
look(g2_nfa *nfa, uint32_t *n)
{
	return ++*n % LOOKS != 0 || g2_nfa_work(nfa);
}

const cJSON *
g2_schema_find(g2_nfa *nfa, const cJSON *object, const char *name)
{
	const cJSON *member;
	uint32_t	n = 0;

	cJSON_ArrayForEach(member, object)
	{
		if (member->string && strcmp(member->string, name) == 0)
			return member;
		if (!look(nfa, &n))
			return NULL;
	}
	return NULL;
}

const cJSON *
g2_schema_element(g2_nfa *nfa, const cJSON *array, uint32_t index)
{
	const cJSON *element;
	uint32_t	n = 0;

	cJSON_ArrayForEach(element, array)
	{
		if (n == index)
			return element;
		if (!look(nfa, &n))
			return NULL;
	}
	return NULL;
}

static int
find_keyword(const char *name)
{
	for (size_t i = 0; i < G2_LENGTH(keywords); i++)
		if (strcmp(keywords[i].name, name) == 0)
			return (int) i;
	return -1;
}

static void
fail_keyword(const g2_schema_node *node, const char *name)
{
	const char *hint = "Supported are type, enum, const, anyOf, $ref, $defs, properties, required, "
		"additionalProperties, items, minItems, maxItems, minLength, maxLength, pattern, minimum, "
		"maximum, exclusiveMinimum, exclusiveMaximum, nullable, and annotations.";
	char		excerpt[G2_JSON_EXCERPT];

	if (strcmp(name, "oneOf") == 0)
		hint = "Write anyOf where the schemas exclude each other.";
	else if (strcmp(name, "format") == 0)
		hint = "Write a pattern.";
	g2_schema_fail(node, name, hint, "keyword \"%s\" is not supported",
				   g2_json_excerpt(excerpt, name, strlen(name)));
}

/* Looks at all keywords.  *decides: the one that decides alone; *limited: types of which
 * something is said. */
static bool
look_at_keywords(const g2_schema_node *node, const cJSON **decides, unsigned *limited)
{
	const cJSON *member,
			   *limit = NULL;

	*decides = NULL;
	*limited = 0;
	cJSON_ArrayForEach(member, node->json)
	{
		int			i = find_keyword(member->string);

		if (!g2_nfa_work(node->schema->nfa))
			return false;
		if (i < 0)
		{
			fail_keyword(node, member->string);
			return false;
		}
		if (keywords[i].kind == LIMITS)
		{
			*limited |= keywords[i].type;
			limit = member;
		}
		else if (keywords[i].kind == DECIDES && *decides)
		{
			g2_schema_fail(node, member->string, "Give only one of them.",
						   "%s and %s together are not supported", (*decides)->string,
						   member->string);
			return false;
		}
		else if (keywords[i].kind == DECIDES)
			*decides = member;
	}
	if (*decides && limit)
	{
		g2_schema_fail(node, limit->string, "Put it into the schemas themselves.",
					   "%s and %s together are not supported", (*decides)->string, limit->string);
		return false;
	}
	return true;
}

static unsigned
type_of_name(const cJSON *name)
{
	for (size_t i = 0; cJSON_IsString(name) && i < G2_LENGTH(type_names); i++)
		if (strcmp(type_names[i].name, name->valuestring) == 0)
			return type_names[i].type;
	return 0;
}

/* The types that `type` names; 0: it is wrong, and an error is set. */
static unsigned
named_types(const g2_schema_node *node, const cJSON *type)
{
	unsigned	types = cJSON_IsArray(type) ? 0 : type_of_name(type);
	const cJSON *name;
	bool		ok = types != 0 || (cJSON_IsArray(type) && type->child);

	if (cJSON_IsArray(type))
		cJSON_ArrayForEach(name, type)
		{
			if (!g2_nfa_work(node->schema->nfa))
				return 0;
			types |= type_of_name(name);
			ok &= type_of_name(name) != 0;
		}
	if (!ok)
	{
		g2_schema_fail(node, "type", "Types are null, boolean, integer, number, string, array and "
					   "object.", "type must be the name of a type or an array of such names");
		return 0;
	}
	return types;
}

/* ---- what decides alone ---- */

static bool
has_type(const cJSON *value, unsigned types)
{
	if (cJSON_IsNumber(value))
		return (types & TYPE_NUMBER) ||
			((types & TYPE_INTEGER) && value->valuedouble == floor(value->valuedouble));
	return ((types & TYPE_NULL) && cJSON_IsNull(value)) ||
		((types & TYPE_BOOLEAN) && cJSON_IsBool(value)) ||
		((types & TYPE_STRING) && cJSON_IsString(value)) ||
		((types & TYPE_ARRAY) && cJSON_IsArray(value)) ||
		((types & TYPE_OBJECT) && cJSON_IsObject(value));
}

static uint32_t
emit_enum(const g2_schema_node *node, const cJSON *values, unsigned types, uint32_t next)
{
	uint32_t	result = G2_NFA_NONE;
	const cJSON *value;

	if (!cJSON_IsArray(values) || !values->child)
		return g2_schema_fail(node, "enum", NULL, "enum must be an array of at least one value");
	cJSON_ArrayForEach(value, values)
	{
		/* Also for those that are passed over. */
		if (!g2_nfa_work(node->schema->nfa))
			return G2_NFA_NONE;
		if (has_type(value, types))
			result = g2_nfa_split(node->schema->nfa, g2_schema_value(node, value, next), result);
	}
	return result;
}

static uint32_t
emit_any_of(const g2_schema_node *node, const cJSON *schemas, uint32_t next)
{
	const g2_schema_place list = {.outer = node->place,.name = schemas->string};
	uint32_t	result = G2_NFA_NONE,
				index = 0;
	const cJSON *member;

	if (!cJSON_IsArray(schemas) || !schemas->child)
		return g2_schema_fail(node, schemas->string, NULL,
							  "%s must be an array of at least one schema", schemas->string);
	if (strcmp(schemas->string, "allOf") == 0 && schemas->child->next)
		return g2_schema_fail(node, "allOf", "Write one schema that says all of it.",
							  "allOf of several schemas is not supported");
	cJSON_ArrayForEach(member, schemas)
	{
		const g2_schema_place place = {.outer = &list,.index = index++};
		uint32_t	one = g2_schema_emit(&(g2_schema_node) {node->schema, member, &place}, next);

		result = g2_nfa_split(node->schema->nfa, one, result);
	}
	return result;
}

static uint32_t
emit_decided(const g2_schema_node *node, const cJSON *decides, bool typed, unsigned types,
			 uint32_t next)
{
	if (strcmp(decides->string, "enum") == 0)
		return emit_enum(node, decides, types, next);
	if (strcmp(decides->string, "const") == 0)
		return has_type(decides, types) ? g2_schema_value(node, decides, next) : G2_NFA_NONE;
	if (typed)
		return g2_schema_fail(node, "type", "Put it into the schemas themselves.",
							  "%s and type together are not supported", decides->string);
	if (strcmp(decides->string, "$ref") == 0)
		return g2_schema_follow(node, decides, next);
	return emit_any_of(node, decides, next);
}

/* ---- types ---- */

static uint32_t
emit_types(const g2_schema_node *node, unsigned types, uint32_t next)
{
	g2_nfa	   *nfa = node->schema->nfa;
	uint32_t	result = G2_NFA_NONE;

	if (types & TYPE_OBJECT)
		result = g2_nfa_split(nfa, g2_schema_object(node, next), result);
	if (types & TYPE_ARRAY)
		result = g2_nfa_split(nfa, g2_schema_array(node, next), result);
	if (types & TYPE_STRING)
		result = g2_nfa_split(nfa, g2_schema_string(node, next), result);
	if (types & (TYPE_NUMBER | TYPE_INTEGER))
		result = g2_nfa_split(nfa, g2_schema_number(node, !(types & TYPE_NUMBER), next), result);
	if (types & TYPE_BOOLEAN)
		result = g2_nfa_split(nfa, g2_nfa_split(nfa, g2_nfa_string(nfa, "true", next),
												g2_nfa_string(nfa, "false", next)), result);
	if (types & TYPE_NULL)
		result = g2_nfa_split(nfa, g2_nfa_string(nfa, "null", next), result);
	return result;
}

uint32_t
g2_schema_any(g2_nfa *nfa, uint32_t levels, uint32_t next)
{
	uint32_t	result = g2_nfa_split(nfa, g2_any_string(nfa, next), g2_any_number(nfa, next));

	for (int i = 0; i < 3; i++)
		result = g2_nfa_split(nfa, g2_nfa_string(nfa, i == 0 ? "true" : i == 1 ? "false" : "null",
												 next), result);
	if (levels == 0)
		return result;
	result = g2_nfa_split(nfa, g2_any_array(nfa, levels - 1, next), result);
	return g2_nfa_split(nfa, g2_any_object(nfa, levels - 1, next), result);
}

static uint32_t
emit_object_schema(const g2_schema_node *node, uint32_t next)
{
	const cJSON *type = cJSON_GetObjectItemCaseSensitive(node->json, "type"),
			   *nullable = cJSON_GetObjectItemCaseSensitive(node->json, "nullable"),
			   *decides;
	unsigned	limited,
				types = TYPE_ANY;
	uint32_t	result;

	if (!look_at_keywords(node, &decides, &limited))
		return G2_NFA_NONE;
	if (nullable && !cJSON_IsBool(nullable))
		return g2_schema_fail(node, "nullable", NULL, "nullable must be true or false");
	if (type && (types = named_types(node, type)) == 0)
		return G2_NFA_NONE;
	if (decides)
		result = emit_decided(node, decides, type != NULL, types, next);
	else if (type || limited)
		/* What is said of one type only is meant of a value of that type. */
		result = emit_types(node, type ? types : limited, next);
	else
		result = g2_schema_any(node->schema->nfa, G2_SCHEMA_ANY_DEPTH, next);
	if (cJSON_IsTrue(nullable))
		result = g2_nfa_split(node->schema->nfa,
							  g2_nfa_string(node->schema->nfa, "null", next), result);
	return result;
}

uint32_t
g2_schema_emit(const g2_schema_node *node, uint32_t next)
{
	g2_schema  *schema = node->schema;
	uint32_t	result;

	if (next == G2_NFA_NONE || !g2_nfa_work(schema->nfa))
		return G2_NFA_NONE;
	if (cJSON_IsTrue(node->json))
		return g2_schema_any(schema->nfa, G2_SCHEMA_ANY_DEPTH, next);
	if (cJSON_IsFalse(node->json))
		return G2_NFA_NONE;
	if (!cJSON_IsObject(node->json))
		return g2_schema_fail(node, NULL, NULL, "a schema must be an object, true or false");
	if (schema->nesting == G2_SCHEMA_MAX_NESTING)
		return g2_nfa_fail(schema->nfa, G2_E_TOO_LONG,
						   "the json_schema nests too deeply, its references followed",
						   "At most 256 schemas may lie within each other.");
	schema->nesting++;
	result = emit_object_schema(node, next);
	schema->nesting--;
	return result;
}

uint32_t
g2_schema_compile(g2_nfa *nfa, const char *text, size_t len, uint32_t next)
{
	cJSON	   *root = g2_json_parse("json_schema", text, len, true, nfa->err);
	g2_schema	schema = {.nfa = nfa,.root = root};
	const g2_schema_place start = {.outer = NULL};
	uint32_t	result;

	if (!root)
	{
		nfa->failed = true;
		return G2_NFA_NONE;
	}
	result = g2_schema_emit(&(g2_schema_node) {&schema, root, &start}, next);
	cJSON_Delete(root);
	return result;
}
