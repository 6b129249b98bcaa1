/*
 * grammar_shapes.c: objects and arrays of JSON schemas.
 *
 * An object's members come in the order of its properties, each of them once or, where it is not
 * required, not at all.  Built from the end, there are two states between two properties: one where
 * a member stands before, so that the next begins with a comma, and one where none does.
 */
#include "grammar_schema.h"

/* ---- arrays ---- */

typedef struct items
{
	g2_nfa	   *nfa;
	const g2_schema_node *node;	/* of the items; NULL: any value ... */
	uint32_t	levels;			/* ... with so many levels */
} items;

static uint32_t
emit_item(const items *i, uint32_t next)
{
	return i->node ? g2_schema_emit(i->node, next) : g2_schema_any(i->nfa, i->levels, next);
}

/* One more item behind another. */
static uint32_t
emit_further(void *arg, uint32_t next)
{
	const items *i = arg;

	return g2_nfa_string(i->nfa, ",", emit_item(i, next));
}

static uint32_t
emit_items(items *i, uint32_t least, uint32_t most, uint32_t next)
{
	uint32_t	end = g2_nfa_string(i->nfa, "]", next),
				further,
				result = G2_NFA_NONE;

	if (most > 0)
	{
		further = g2_nfa_repeat(i->nfa, emit_further, i, G2_MAX(least, 1u) - 1,
								most == UINT32_MAX ? UINT32_MAX : most - 1, end);
		result = emit_item(i, further);
	}
	if (least == 0)
		result = g2_nfa_split(i->nfa, result, end);
	return g2_nfa_string(i->nfa, "[", result);
}

uint32_t
g2_schema_array(const g2_schema_node *node, uint32_t next)
{
	g2_schema  *schema = node->schema;
	const g2_schema_place place = {.outer = node->place,.name = "items"};
	const g2_schema_node item = {
		schema, cJSON_GetObjectItemCaseSensitive(node->json, "items"), &place
	};
	items		i = {schema->nfa, item.json ? &item : NULL, G2_SCHEMA_ANY_DEPTH - 1};
	uint32_t	least,
				most;

	if (!g2_schema_count(node, "minItems", 0, UINT32_MAX - 1, &least) ||
		!g2_schema_count(node, "maxItems", UINT32_MAX, UINT32_MAX - 1, &most))
		return G2_NFA_NONE;
	return most < least ? G2_NFA_NONE : emit_items(&i, least, most, next);
}

uint32_t
g2_any_array(g2_nfa *nfa, uint32_t levels, uint32_t next)
{
	items		i = {nfa, NULL, levels};

	return emit_items(&i, 0, UINT32_MAX, next);
}

/* ---- objects ---- */

typedef struct member
{
	g2_nfa	   *nfa;
	uint32_t	levels;
} member;

static uint32_t
emit_any_member(const member *m, uint32_t next)
{
	return g2_any_string(m->nfa, g2_nfa_string(m->nfa, ":", g2_schema_any(m->nfa, m->levels,
																		  next)));
}

static uint32_t
emit_further_member(void *arg, uint32_t next)
{
	const member *m = arg;

	return g2_nfa_string(m->nfa, ",", emit_any_member(m, next));
}

uint32_t
g2_any_object(g2_nfa *nfa, uint32_t levels, uint32_t next)
{
	member		m = {nfa, levels};
	uint32_t	end = g2_nfa_string(nfa, "}", next),
				further = g2_nfa_repeat(nfa, emit_further_member, &m, 0, UINT32_MAX, end);

	return g2_nfa_string(nfa, "{", g2_nfa_split(nfa, emit_any_member(&m, further), end));
}

static bool
is_required(g2_nfa *nfa, const cJSON *required, const char *name)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, required)
	{
		if (!g2_nfa_work(nfa))
			break;
		if (strcmp(item->valuestring, name) == 0)
			return true;
	}
	return false;
}

/* What `required` names is there to be made. */
static bool
check_required(const g2_schema_node *node, const cJSON *required, const cJSON *properties)
{
	const cJSON *item;

	if (required && !cJSON_IsArray(required))
	{
		g2_schema_fail(node, "required", NULL, "required must be an array of names");
		return false;
	}
	cJSON_ArrayForEach(item, required)
	{
		char		excerpt[G2_JSON_EXCERPT];

		if (!g2_nfa_work(node->schema->nfa))
			return false;
		if (cJSON_IsString(item) && g2_schema_find(node->schema->nfa, properties,
												   item->valuestring))
			continue;
		g2_schema_fail(node, "required", "Name it among the properties.",
					   "required names \"%s\", which is no property",
					   cJSON_IsString(item) ? g2_json_excerpt(excerpt, item->valuestring,
															  strlen(item->valuestring)) : "?");
		return false;
	}
	return true;
}

/* The members from `property` on, before next; *bare and *behind: without and with one before. */
static void
emit_members(const g2_schema_node *node, const cJSON *property, const cJSON *required,
			 uint32_t *bare, uint32_t *behind)
{
	g2_nfa	   *nfa = node->schema->nfa;
	const g2_schema_place list = {.outer = node->place,.name = "properties"};
	const g2_schema_place place = {.outer = &list,.name = property->string};
	uint32_t	value = g2_schema_emit(&(g2_schema_node) {node->schema, property, &place}, *behind),
				written = g2_schema_quoted(nfa, property->string,
										   g2_nfa_string(nfa, ":", value)),
				comma = g2_nfa_string(nfa, ",", written);

	if (is_required(nfa, required, property->string))
	{
		*bare = written;
		*behind = comma;
		return;
	}
	*bare = g2_nfa_split(nfa, written, *bare);
	*behind = g2_nfa_split(nfa, comma, *behind);
}

uint32_t
g2_schema_object(const g2_schema_node *node, uint32_t next)
{
	g2_nfa	   *nfa = node->schema->nfa;
	const cJSON *properties = cJSON_GetObjectItemCaseSensitive(node->json, "properties"),
			   *required = cJSON_GetObjectItemCaseSensitive(node->json, "required"),
			   *more = cJSON_GetObjectItemCaseSensitive(node->json, "additionalProperties");
	uint32_t	bare,
				behind;

	if (properties && !cJSON_IsObject(properties))
		return g2_schema_fail(node, "properties", NULL, "properties must be an object");
	if (more && !cJSON_IsBool(more))
		return g2_schema_fail(node, "additionalProperties", "Name the members as properties.",
							  "additionalProperties must be true or false");
	if (!check_required(node, required, properties))
		return G2_NFA_NONE;
	if (!properties && !cJSON_IsFalse(more))
		return g2_any_object(nfa, G2_SCHEMA_ANY_DEPTH - 1, next);
	bare = behind = g2_nfa_string(nfa, "}", next);
	/* cJSON's lists end in front: the first one's prev is the last. */
	if (properties && properties->child)
		for (const cJSON *p = properties->child->prev;; p = p->prev)
		{
			emit_members(node, p, required, &bare, &behind);
			if (p == properties->child || nfa->failed)
				break;
		}
	return g2_nfa_string(nfa, "{", bare);
}
