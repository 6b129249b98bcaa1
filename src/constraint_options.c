/*
 * constraint_options.c: the options choice, regex and json_schema, as the text that the engine
 * compiles.
 */
#include "compat.h"

#include "lib/stringinfo.h"

#include "constraint_options.h"
#include "encoding.h"

/* The constraint's text, in UTF-8. */
static void
set_constraint(g2_constraint_kind kind, const char *name, const char *data, size_t len,
			   Gpt2Options *options)
{
	options->constraint_kind = kind;
	options->constraint = gpt2_to_utf8(data, len, psprintf("option \"%s\"", name));
	if (options->constraint.len > G2_MAX_CONSTRAINT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("option \"%s\" is too long", name),
				 errdetail("It has %u bytes of UTF-8; the limit is %d.",
						   options->constraint.len, G2_MAX_CONSTRAINT),
				 errhint("Say it shorter, or in several calls.")));
}

/* An array or object as JSON text. */
static void
set_json(g2_constraint_kind kind, const char *name, const JsonbValue *v, Gpt2Options *options)
{
	StringInfoData s;

	initStringInfo(&s);
	JsonbToCString(&s, v->val.binary.data, v->val.binary.len);
	set_constraint(kind, name, s.data, s.len, options);
}

static void
set_string(g2_constraint_kind kind, const char *name, const JsonbValue *v, Gpt2Options *options)
{
	set_constraint(kind, name, pnstrdup(v->val.string.val, v->val.string.len), v->val.string.len,
				   options);
}

bool
gpt2_read_choice(const JsonbValue *v, Gpt2Options *options)
{
	JsonbContainer *array = v->val.binary.data;

	if (v->type != jbvBinary || !JsonContainerIsArray(array) || JsonContainerSize(array) == 0)
		return false;
	for (uint32 i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, i);

		if (element->type != jbvString || element->val.string.len == 0)
			return false;
	}
	set_json(G2_CONSTRAINT_CHOICE, "choice", v, options);
	return true;
}

bool
gpt2_read_regex(const JsonbValue *v, Gpt2Options *options)
{
	if (v->type != jbvString)
		return false;
	set_string(G2_CONSTRAINT_REGEX, "regex", v, options);
	return true;
}

/* In a string the order of the keys is kept. */
bool
gpt2_read_json_schema(const JsonbValue *v, Gpt2Options *options)
{
	if (v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data))
		set_json(G2_CONSTRAINT_SCHEMA, "json_schema", v, options);
	else if (v->type == jbvString)
		set_string(G2_CONSTRAINT_SCHEMA, "json_schema", v, options);
	else
		return false;
	return true;
}
