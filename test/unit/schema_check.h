/*
 * schema_check.h: a validator of JSON schemas for tests, written against the specification and not
 * against the engine, for the keywords that the engine knows; and schemas made at random.
 */
#ifndef SCHEMA_CHECK_H
#define SCHEMA_CHECK_H

#define PCRE2_CODE_UNIT_WIDTH 8

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <pcre2.h>

#define UNUSED_HERE __attribute__((unused))

/* ---- validation ---- */

static bool valid(const cJSON *root, const cJSON *schema, const cJSON *value);

static bool
same_value(const cJSON *a, const cJSON *b)
{
	return cJSON_Compare(a, b, true);
}

static bool
is_type(const char *name, const cJSON *value)
{
	if (strcmp(name, "integer") == 0)
		return cJSON_IsNumber(value) && value->valuedouble == floor(value->valuedouble);
	return strcmp(name, "null") == 0 ? cJSON_IsNull(value) :
		strcmp(name, "boolean") == 0 ? cJSON_IsBool(value) :
		strcmp(name, "number") == 0 ? cJSON_IsNumber(value) :
		strcmp(name, "string") == 0 ? cJSON_IsString(value) :
		strcmp(name, "array") == 0 ? cJSON_IsArray(value) : cJSON_IsObject(value);
}

static bool
valid_type(const cJSON *type, const cJSON *value)
{
	const cJSON *name;

	if (cJSON_IsString(type))
		return is_type(type->valuestring, value);
	cJSON_ArrayForEach(name, type)
		if (is_type(name->valuestring, value))
			return true;
	return false;
}

static size_t
count_characters(const char *s)
{
	size_t		n = 0;

	for (; *s; s++)
		n += (*s & 0xC0) != 0x80;
	return n;
}

static bool
found_pattern(const char *pattern, const char *s)
{
	int			code,
				found;
	PCRE2_SIZE	offset;
	pcre2_code *re = pcre2_compile((PCRE2_SPTR) pattern, PCRE2_ZERO_TERMINATED,
								   PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &code, &offset, NULL);
	pcre2_match_data *data = pcre2_match_data_create(16, NULL);

	found = re ? pcre2_match(re, (PCRE2_SPTR) s, strlen(s), 0, 0, data, NULL) : -1;
	pcre2_match_data_free(data);
	pcre2_code_free(re);
	return found >= 0;
}

static bool
within(const cJSON *schema, const char *keyword, double d, int sign, bool excluded)
{
	const cJSON *bound = cJSON_GetObjectItemCaseSensitive(schema, keyword);

	return !bound || (excluded ? sign * d < sign * bound->valuedouble :
					  sign * d <= sign * bound->valuedouble);
}

static bool
valid_object(const cJSON *root, const cJSON *schema, const cJSON *value)
{
	const cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties"),
			   *more = cJSON_GetObjectItemCaseSensitive(schema, "additionalProperties"),
			   *item;

	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(schema, "required"))
		if (!cJSON_GetObjectItemCaseSensitive(value, item->valuestring))
			return false;
	cJSON_ArrayForEach(item, value)
	{
		const cJSON *property = cJSON_GetObjectItemCaseSensitive(properties, item->string);

		if (property ? !valid(root, property, item) : cJSON_IsFalse(more))
			return false;
	}
	return true;
}

static bool
valid_array(const cJSON *root, const cJSON *schema, const cJSON *value)
{
	const cJSON *items = cJSON_GetObjectItemCaseSensitive(schema, "items"),
			   *item;
	int			n = cJSON_GetArraySize(value);

	cJSON_ArrayForEach(item, value)
		if (items && !valid(root, items, item))
			return false;
	return within(schema, "minItems", n, -1, false) && within(schema, "maxItems", n, 1, false);
}

static bool
valid_string(const cJSON *schema, const char *s)
{
	const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(schema, "pattern");
	double		n = (double) count_characters(s);

	return within(schema, "minLength", n, -1, false) && within(schema, "maxLength", n, 1, false) &&
		(!pattern || found_pattern(pattern->valuestring, s));
}

static bool
valid_number(const cJSON *schema, double d)
{
	return within(schema, "minimum", d, -1, false) && within(schema, "maximum", d, 1, false) &&
		within(schema, "exclusiveMinimum", d, -1, true) &&
		within(schema, "exclusiveMaximum", d, 1, true);
}

static bool
is_among(const cJSON *values, const cJSON *value)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, values)
		if (same_value(item, value))
			return true;
	return false;
}

static bool
valid_any(const cJSON *root, const cJSON *schemas, const cJSON *value)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, schemas)
		if (valid(root, item, value))
			return true;
	return false;
}

/* "#" or "#/$defs/name". */
static const cJSON *
referred(const cJSON *root, const char *ref)
{
	return strcmp(ref, "#") == 0 ? root :
		cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "$defs"), ref + 8);
}

static bool
valid(const cJSON *root, const cJSON *schema, const cJSON *value)
{
	const cJSON *k;

	if (cJSON_IsBool(schema))
		return cJSON_IsTrue(schema);
	if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(schema, "nullable")) && cJSON_IsNull(value))
		return true;
	if ((k = cJSON_GetObjectItemCaseSensitive(schema, "$ref")) &&
		!valid(root, referred(root, k->valuestring), value))
		return false;
	if ((k = cJSON_GetObjectItemCaseSensitive(schema, "type")) && !valid_type(k, value))
		return false;
	if ((k = cJSON_GetObjectItemCaseSensitive(schema, "const")) && !same_value(k, value))
		return false;
	if ((k = cJSON_GetObjectItemCaseSensitive(schema, "enum")) && !is_among(k, value))
		return false;
	if ((k = cJSON_GetObjectItemCaseSensitive(schema, "anyOf")) && !valid_any(root, k, value))
		return false;
	return cJSON_IsObject(value) ? valid_object(root, schema, value) :
		cJSON_IsArray(value) ? valid_array(root, schema, value) :
		cJSON_IsString(value) ? valid_string(schema, value->valuestring) :
		cJSON_IsNumber(value) ? valid_number(schema, value->valuedouble) : true;
}

/* ---- random schemas ---- */

static uint32_t random_below(uint32_t n);

static cJSON *
random_value(int depth)
{
	static const char *const strings[] = {"", "a", "new\nline", "quote\"", "\xC3\xA4\xE4\xBD\xA0",
	"back\\slash", "a longer string"};
	cJSON	   *json;

	switch (random_below(depth > 0 ? 7 : 5))
	{
		case 0:
			return cJSON_CreateNull();
		case 1:
			return cJSON_CreateBool((int) random_below(2));
		case 2:
			return cJSON_CreateNumber((double) random_below(2000) - 1000);
		case 3:
			return cJSON_CreateNumber(((double) random_below(2000) - 1000) / 8);
		case 4:
			return cJSON_CreateString(strings[random_below(7)]);
		case 5:
			json = cJSON_CreateArray();
			for (uint32_t i = random_below(3); i > 0; i--)
				cJSON_AddItemToArray(json, random_value(depth - 1));
			return json;
		default:
			json = cJSON_CreateObject();
			cJSON_AddItemToObject(json, "k", random_value(depth - 1));
			if (random_below(2))
				cJSON_AddItemToObject(json, "other key", random_value(depth - 1));
			return json;
	}
}

static cJSON *random_schema(int depth);

static void
random_object(cJSON *schema, int depth)
{
	static const char *const names[] = {"a", "name", "with \"quotes\"", "\xC3\xBC", "items"};
	cJSON	   *properties,
			   *required = cJSON_CreateArray();
	uint32_t	n = random_below(5);

	if (random_below(10) > 0)
	{
		properties = cJSON_AddObjectToObject(schema, "properties");
		for (uint32_t i = 0; i < n; i++)
		{
			cJSON_AddItemToObject(properties, names[i], random_schema(depth - 1));
			if (random_below(2))
				cJSON_AddItemToArray(required, cJSON_CreateString(names[i]));
		}
	}
	if (cJSON_GetArraySize(required) > 0)
		cJSON_AddItemToObject(schema, "required", required);
	else
		cJSON_Delete(required);
	if (random_below(2))
		cJSON_AddBoolToObject(schema, "additionalProperties", (int) random_below(2));
}

static void
random_array(cJSON *schema, int depth)
{
	uint32_t	least = random_below(3);

	if (random_below(8) > 0)
		cJSON_AddItemToObject(schema, "items", random_schema(depth - 1));
	if (random_below(2))
		cJSON_AddNumberToObject(schema, "minItems", least);
	if (random_below(2))
		cJSON_AddNumberToObject(schema, "maxItems", least + random_below(3));
}

static void
random_string(cJSON *schema)
{
	static const char *const patterns[] = {"^[a-z]{2,5}$", "[0-9]+", "^x|y$", "^(ab|c)*$", "\"",
	"^\\d{3}-\\d{4}$", "^.{0,3}$", "[^a-z]"};
	uint32_t	least = random_below(4);

	if (random_below(3) == 0)
	{
		cJSON_AddStringToObject(schema, "pattern", patterns[random_below(8)]);
		return;
	}
	if (random_below(2))
		cJSON_AddNumberToObject(schema, "minLength", least);
	if (random_below(2))
		cJSON_AddNumberToObject(schema, "maxLength", least + random_below(20));
}

static void
random_number(cJSON *schema)
{
	static const double scales[] = {1, 10, 1000, 1e6, 0.5, 0.125, 0.01};
	double		lo = ((double) random_below(200) - 100) * scales[random_below(7)],
				hi = lo + (1 + random_below(200)) * scales[random_below(7)];

	if (random_below(2))
		cJSON_AddNumberToObject(schema, random_below(3) ? "minimum" : "exclusiveMinimum", lo);
	if (random_below(2))
		cJSON_AddNumberToObject(schema, random_below(3) ? "maximum" : "exclusiveMaximum", hi);
}

static cJSON *
random_schema(int depth)
{
	cJSON	   *schema = cJSON_CreateObject(),
			   *list;
	const char *scalars[] = {"null", "boolean", "integer", "number", "string"};

	switch (random_below(depth > 0 ? 12 : 6))
	{
		case 0:
			cJSON_AddStringToObject(schema, "type", scalars[random_below(2)]);
			break;
		case 1:
			cJSON_AddStringToObject(schema, "type", scalars[2 + random_below(2)]);
			random_number(schema);
			break;
		case 2:
			cJSON_AddStringToObject(schema, "type", "string");
			random_string(schema);
			break;
		case 3:
			list = cJSON_AddArrayToObject(schema, "enum");
			for (uint32_t i = 1 + random_below(4); i > 0; i--)
				cJSON_AddItemToArray(list, random_value(2));
			break;
		case 4:
			cJSON_AddItemToObject(schema, "const", random_value(2));
			break;
		case 5:
			list = cJSON_AddArrayToObject(schema, "type");
			for (int i = 0; i < 5; i++)
				if (random_below(2) || i == 4)
					cJSON_AddItemToArray(list, cJSON_CreateString(scalars[i]));
			random_number(schema);
			random_string(schema);
			break;
		case 6:
		case 7:
			cJSON_AddStringToObject(schema, "type", "object");
			random_object(schema, depth);
			break;
		case 8:
			cJSON_AddStringToObject(schema, "type", "array");
			random_array(schema, depth);
			break;
		case 9:
			list = cJSON_AddArrayToObject(schema, "anyOf");
			for (uint32_t i = 1 + random_below(3); i > 0; i--)
				cJSON_AddItemToArray(list, random_schema(depth - 1));
			break;
		case 10:
			cJSON_AddStringToObject(schema, "$ref", random_below(2) ? "#/$defs/list" : "#/$defs/pair");
			return schema;
		default:
			break;				/* anything */
	}
	if (random_below(8) == 0)
		cJSON_AddBoolToObject(schema, "nullable", 1);
	if (random_below(8) == 0)
		cJSON_AddStringToObject(schema, "description", "something");
	return schema;
}

/* A whole schema: a random one, and what its references name. */
static UNUSED_HERE cJSON *
random_document(int depth)
{
	static const char definitions[] =
		"{\"list\": {\"type\": \"object\", \"properties\": {\"value\": {\"type\": \"integer\"},"
		" \"next\": {\"$ref\": \"#/$defs/list\"}}, \"required\": [\"value\"]},"
		" \"pair\": {\"type\": \"array\", \"items\": {\"anyOf\": [{\"$ref\": \"#/$defs/pair\"},"
		" {\"type\": \"boolean\"}]}, \"maxItems\": 2}}";
	cJSON	   *schema = random_schema(depth);

	cJSON_AddItemToObject(schema, "$defs", cJSON_Parse(definitions));
	return schema;
}

#endif							/* SCHEMA_CHECK_H */
