/*
 * grammar_schema.h: JSON schemas (draft 2020-12, as far as it is listed here) as automata.
 *
 * The automaton's texts are JSON without white space, members in the order of `properties`, strings
 * in their shortest form.  Each of them satisfies the schema; not everything that does is among
 * them: an object has no members but its properties, a number at most 15 digits, or 9 before and 6
 * behind its point, and no exponent.
 *
 * Keywords: type, enum, const, anyOf, allOf of one, $ref with $defs or definitions, nullable;
 * properties, required, additionalProperties (true or false); items, minItems, maxItems; minLength,
 * maxLength or pattern; minimum, maximum, exclusiveMinimum, exclusiveMaximum; annotations.  All
 * others are 22023, naming keyword and place.
 *
 * Files: grammar_schema.c (types, combinations), grammar_reference.c, grammar_shapes.c (objects,
 * arrays), grammar_scalars.c (strings, numbers, values that are given), to which all but
 * g2_schema_compile is internal.
 */
#ifndef G2_GRAMMAR_SCHEMA_H
#define G2_GRAMMAR_SCHEMA_H

#include "grammar_nfa.h"
#include "json.h"

#define G2_SCHEMA_MAX_NESTING 256	/* of schemas in each other, references followed */
#define G2_SCHEMA_MAX_RECURSION 8	/* of a reference to what contains it */
#define G2_SCHEMA_ANY_DEPTH 3	/* of arrays and objects where any value is allowed */

/* The automaton of the JSON texts that schema text[0..len) allows, before next. */
extern uint32_t g2_schema_compile(g2_nfa *nfa, const char *text, size_t len, uint32_t next);

/* Where in the schema something stands, from there outwards. */
typedef struct g2_schema_place
{
	const struct g2_schema_place *outer;
	const char *name;			/* of the member or array; NULL = an element */
	uint32_t	index;
} g2_schema_place;

/* A schema that is being followed by reference, and those around it. */
typedef struct g2_schema_reference
{
	const struct g2_schema_reference *outer;
	const cJSON *target;
} g2_schema_reference;

typedef struct g2_schema
{
	g2_nfa	   *nfa;
	const cJSON *root;
	uint32_t	nesting;
	const g2_schema_reference *references;
} g2_schema;

/* One schema at a place. */
typedef struct g2_schema_node
{
	g2_schema  *schema;
	const cJSON *json;
	const g2_schema_place *place;
} g2_schema_node;

/* 22023: "json_schema: what", with the keyword's (or, where it is NULL, the schema's) place. */
extern uint32_t g2_schema_fail(const g2_schema_node *node, const char *keyword, const char *hint,
							   const char *fmt,...) G2_PRINTF(4, 5);

/* A JSON pointer to a place, in buf. */
extern const char *g2_schema_pointer(const g2_schema_place *place, char *buf, size_t size);

/* The values that a schema allows, before next. */
extern uint32_t g2_schema_emit(const g2_schema_node *node, uint32_t next);

/* Any value, with so many levels of arrays and objects. */
extern uint32_t g2_schema_any(g2_nfa *nfa, uint32_t levels, uint32_t next);

/* The member of that name; NULL: there is none.  Looking is work too: there may be thousands. */
extern const cJSON *g2_schema_find(g2_nfa *nfa, const cJSON *object, const char *name);

/* The array's element of that index, likewise. */
extern const cJSON *g2_schema_element(g2_nfa *nfa, const cJSON *array, uint32_t index);

/* A member that is an integer from 0 to most; absent: fallback. */
extern bool g2_schema_count(const g2_schema_node *node, const char *keyword, uint32_t fallback,
							uint32_t most, uint32_t *out);

/* grammar_reference.c: what a $ref allows. */
extern uint32_t g2_schema_follow(const g2_schema_node *node, const cJSON *ref, uint32_t next);

/* grammar_shapes.c */
extern uint32_t g2_schema_object(const g2_schema_node *node, uint32_t next);
extern uint32_t g2_schema_array(const g2_schema_node *node, uint32_t next);
extern uint32_t g2_any_array(g2_nfa *nfa, uint32_t levels, uint32_t next);
extern uint32_t g2_any_object(g2_nfa *nfa, uint32_t levels, uint32_t next);

/* grammar_scalars.c */
extern uint32_t g2_schema_string(const g2_schema_node *node, uint32_t next);
extern uint32_t g2_schema_number(const g2_schema_node *node, bool integer, uint32_t next);
extern uint32_t g2_any_string(g2_nfa *nfa, uint32_t next);
extern uint32_t g2_any_number(g2_nfa *nfa, uint32_t next);
/* The value itself, without white space; a string alone is g2_schema_quoted. */
extern uint32_t g2_schema_value(const g2_schema_node *node, const cJSON *value, uint32_t next);
extern uint32_t g2_schema_quoted(g2_nfa *nfa, const char *s, uint32_t next);

#endif							/* G2_GRAMMAR_SCHEMA_H */
