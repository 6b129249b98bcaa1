/*
 * grammar_reference.c: references within a JSON schema (JSON pointer: RFC 6901).
 *
 * Schemas are followed wherever they are used, so a reference to a schema is a copy of it.  One to
 * a schema that contains it is followed G2_SCHEMA_MAX_RECURSION times and then allows nothing: what
 * may be left out there, is.
 */
#include "grammar_schema.h"

/* One part of a JSON pointer, ~0 and ~1 replaced; false: too long. */
static bool
pointer_part(const char **at, char *part, size_t size)
{
	size_t		n = 0;

	for (++*at; **at && **at != '/'; ++*at)
	{
		char		c = **at;

		if (c == '~' && ((*at)[1] == '0' || (*at)[1] == '1'))
			c = *++*at == '0' ? '~' : '/';
		if (n + 1 == size)
			return false;
		part[n++] = c;
	}
	part[n] = '\0';
	return true;
}

static const cJSON *
find_target(const g2_schema *schema, const char *pointer)
{
	const cJSON *target = schema->root;
	char		part[256];

	if (*pointer++ != '#')
		return NULL;
	while (target && *pointer)
	{
		if (*pointer != '/' || !pointer_part(&pointer, part, sizeof part))
			return NULL;
		if (cJSON_IsArray(target))
		{
			uint32_t	index = 0;

			for (const char *p = part; *p; p++)
			{
				if (*p < '0' || *p > '9' || index > 1000000)
					return NULL;
				index = index * 10 + (uint32_t) (*p - '0');
			}
			target = part[0] ? g2_schema_element(schema->nfa, target, index) : NULL;
		}
		else
			target = g2_schema_find(schema->nfa, target, part);
	}
	return target;
}

uint32_t
g2_schema_follow(const g2_schema_node *node, const cJSON *ref, uint32_t next)
{
	g2_schema  *schema = node->schema;
	const cJSON *target = cJSON_IsString(ref) ? find_target(schema, ref->valuestring) : NULL;
	const g2_schema_place start = {.outer = NULL};
	const g2_schema_place place = {.outer = &start,.name = cJSON_IsString(ref) ?
		ref->valuestring + (strncmp(ref->valuestring, "#/", 2) == 0 ? 2 : 0) : ""};
	const g2_schema_reference here = {.outer = schema->references,.target = target};
	uint32_t	times = 0,
				result;

	if (!target)
		return g2_schema_fail(node, "$ref", "Write \"#/$defs/name\" and define name there.",
							  "$ref does not name a schema within this one");
	for (const g2_schema_reference *r = schema->references; r; r = r->outer)
		times += r->target == target;
	if (times == G2_SCHEMA_MAX_RECURSION)
		return G2_NFA_NONE;
	schema->references = &here;
	result = g2_schema_emit(&(g2_schema_node) {schema, target, &place}, next);
	schema->references = here.outer;
	return result;
}
