/*
 * options.c: the `options jsonb` argument.
 *
 * One table says which keys there are, of which type, in which range, and which function takes
 * them.  Everything that is not exactly so is refused with 22023, the key's name and the valid
 * keys.  A key whose value is null counts as not given, as NULL does for an argument.
 */
#include "compat.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/numeric.h"

#include "constraint_options.h"
#include "encoding.h"
#include "guc.h"
#include "logit_bias.h"
#include "options.h"

typedef enum OptionKind
{
	OPTION_INT, OPTION_FLOAT, OPTION_BOOL, OPTION_TEXT, OPTION_STOPS, OPTION_EXAMPLES, OPTION_BIASES,
	OPTION_CHOICE, OPTION_REGEX, OPTION_SCHEMA, OPTION_ON_ERROR, OPTION_TRUNCATE
} OptionKind;

typedef struct OptionKey
{
	const char *name;
	OptionKind	kind;
	bool		synonym;		/* not in the list of valid keys */
	int			accepts;		/* 0 = every function */
	size_t		has;			/* offsets into Gpt2Options */
	size_t		value;
	double		min;
	double		max;
	bool		min_excluded;
} OptionKey;

#define FIELD(f, v) offsetof(Gpt2Options, f), offsetof(Gpt2Options, v)
#define NONE 0, 0, false
#define GENERATES (1 << 30)		/* what every function takes that does not score */

#define MAX_TEMPLATE_BYTES 65536

static const OptionKey option_keys[] = {
	{"min_p", OPTION_FLOAT, false, GENERATES, FIELD(has_min_p, min_p), 0, 1, false},
	{"repetition_penalty", OPTION_FLOAT, false, GENERATES,
	FIELD(has_repetition_penalty, repetition_penalty), 0, 100, true},
	{"repeat_penalty", OPTION_FLOAT, true, GENERATES,
	FIELD(has_repetition_penalty, repetition_penalty), 0, 100, true},
	{"max_length", OPTION_INT, false, GENERATES,
	FIELD(has_max_length, max_length), 1, G2_MAX_NEW_TOKENS, false},
	{"max_new_tokens", OPTION_INT, false, GENERATES,
	FIELD(has_max_new_tokens, max_new_tokens), 1, G2_MAX_NEW_TOKENS, false},
	{"max_tokens", OPTION_INT, true, GENERATES,
	FIELD(has_max_new_tokens, max_new_tokens), 1, G2_MAX_NEW_TOKENS, false},
	{"num_return_sequences", OPTION_INT, false, GPT2_ACCEPTS_N,
	FIELD(has_n, n), 1, G2_MAX_SEQUENCES, false},
	{"stop", OPTION_STOPS, false, GENERATES, FIELD(has_stop, stops), NONE},
	{"stop_sequences", OPTION_STOPS, true, GENERATES, FIELD(has_stop, stops), NONE},
	{"stop_strings", OPTION_STOPS, true, GENERATES, FIELD(has_stop, stops), NONE},
	{"choice", OPTION_CHOICE, false, GENERATES, FIELD(has_constraint, constraint), NONE},
	{"regex", OPTION_REGEX, false, GENERATES, FIELD(has_constraint, constraint), NONE},
	{"json_schema", OPTION_SCHEMA, false, GENERATES, FIELD(has_constraint, constraint), NONE},
	{"echo", OPTION_BOOL, false, GPT2_ACCEPTS_ECHO, FIELD(has_echo, echo), NONE},
	{"cache", OPTION_BOOL, false, 0, FIELD(has_cache, cache), NONE},
	{"on_error", OPTION_ON_ERROR, false, 0, FIELD(has_on_error, on_error), NONE},
	{"truncate", OPTION_TRUNCATE, false, 0, FIELD(has_truncate, truncate), NONE},
	{"template", OPTION_TEXT, false, GPT2_ACCEPTS_TEMPLATE,
	FIELD(has_template, template_text), NONE},
	{"stride", OPTION_INT, false, GPT2_ACCEPTS_WINDOWS,
	FIELD(has_stride, stride), 1, G2_MAX_SCORED, false},
	{"add_start", OPTION_BOOL, false, GPT2_ACCEPTS_WINDOWS,
	FIELD(has_add_start, add_start), NONE},
	{"add_start", OPTION_BOOL, false, GENERATES, FIELD(has_add_start, add_start), NONE},
	{"examples", OPTION_EXAMPLES, false, GPT2_ACCEPTS_LABELS,
	FIELD(has_examples, example_texts), NONE},
	{"calibrate", OPTION_BOOL, false, GPT2_ACCEPTS_LABELS,
	FIELD(has_calibrate, calibrate), NONE},
	{"min_prob", OPTION_FLOAT, false, GPT2_ACCEPTS_MIN_PROB,
	FIELD(has_min_prob, min_prob), 0, 1, false},
	{"typical_p", OPTION_FLOAT, false, GENERATES,
	FIELD(has_typical_p, decoding.typical_p), 0, 1, true},
	{"presence_penalty", OPTION_FLOAT, false, GENERATES,
	FIELD(has_presence_penalty, decoding.presence_penalty), -G2_MAX_BIAS, G2_MAX_BIAS, false},
	{"frequency_penalty", OPTION_FLOAT, false, GENERATES,
	FIELD(has_frequency_penalty, decoding.frequency_penalty), -G2_MAX_BIAS, G2_MAX_BIAS, false},
	{"no_repeat_ngram_size", OPTION_INT, false, GENERATES,
	FIELD(has_no_repeat_ngram, decoding.no_repeat_ngram), 0, G2_MAX_NGRAM, false},
	{"min_new_tokens", OPTION_INT, false, GENERATES,
	FIELD(has_min_new, decoding.min_new), 0, G2_MAX_NEW_TOKENS, false},
	{"num_beams", OPTION_INT, false, GENERATES | GPT2_ACCEPTS_BEAMS,
	FIELD(has_num_beams, decoding.n_beams), 1, G2_MAX_BEAMS, false},
	{"length_penalty", OPTION_FLOAT, false, GENERATES | GPT2_ACCEPTS_BEAMS,
	FIELD(has_length_penalty, decoding.length_penalty), -G2_MAX_LENGTH_PENALTY,
	G2_MAX_LENGTH_PENALTY, false},
	{"logit_bias", OPTION_BIASES, false, GENERATES, FIELD(has_logit_bias, decoding), NONE},
};

/* What other programs call options and is an argument here. */
static const struct
{
	const char *name;
	const char *example;
}			argument_names[] = {
	{"temperature", "0.8"}, {"top_k", "50"}, {"top_p", "0.9"}, {"seed", "1"}, {"max_len", "50"},
	{"model", "'demo'"},
};

static bool
key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == strlen(name) &&
		memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/* "Valid keys are a, b and c." (or "The valid key is a.") for a function that accepts these. */
static char *
valid_keys(int accepts)
{
	StringInfoData s;
	const char *last = NULL;

	initStringInfo(&s);
	for (int i = 0; i < lengthof(option_keys); i++)
	{
		const OptionKey *key = &option_keys[i];

		if (key->synonym || (key->accepts & ~accepts))
			continue;
		if (last)
			appendStringInfo(&s, "%s%s", s.len ? ", " : "", last);
		last = key->name;
	}
	if (s.len == 0)
		return psprintf("The only valid key is %s.", last);
	return psprintf("Valid keys are %s and %s.", s.data, last);
}

/* The name for a message: it may be anything, so not more than 64 bytes of it. */
static char *
shown(const JsonbValue *key)
{
	int			len = pg_mbcliplen(key->val.string.val, key->val.string.len, 64);

	return psprintf("%s%s", pnstrdup(key->val.string.val, len),
					len < key->val.string.len ? "..." : "");
}

static void
unknown_key(const JsonbValue *key, int accepts)
{
	char	   *hint = valid_keys(accepts);

	for (int i = 0; i < lengthof(argument_names); i++)
		if ((accepts & GPT2_ACCEPTS_SAMPLING) && key_is(key, argument_names[i].name))
			hint = psprintf("%s is an argument of the function, as in %s => %s. %s",
							argument_names[i].name, argument_names[i].name,
							argument_names[i].example, hint);
	if ((accepts & GPT2_ACCEPTS_SAMPLING) && key_is(key, "num_return_sequences"))
		hint = psprintf("For several texts write n behind max_len, as in "
						"gpt_generate(prompt, 50, n => 5). %s", hint);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown option \"%s\"", shown(key)),
			 errhint("%s", hint)));
}

static void
wrong_type(const OptionKey *key, const char *wanted, int accepts)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" must be %s", key->name, wanted),
			 errhint("%s", valid_keys(accepts))));
}

bool
gpt2_in_range(double value, double min, double max, bool min_excluded)
{
	return min_excluded ? value > min && value <= max : value >= min && value <= max;
}

/* A number within the key's range; an integer where the key wants one. */
static double
number(const OptionKey *key, const JsonbValue *v, int accepts)
{
	const char *wanted = key->kind == OPTION_INT ? "an integer" : "a number";
	double		d;

	if (v->type != jbvNumeric)
		wrong_type(key, wanted, accepts);
	d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
										   NumericGetDatum(v->val.numeric)));
	if (key->kind == OPTION_INT && isfinite(d) && d != floor(d))
		wrong_type(key, wanted, accepts);
	if (!gpt2_in_range(d, key->min, key->max, key->min_excluded))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" is out of range", key->name),
				 key->min_excluded ?
				 errdetail("It must be greater than %.15g and at most %.15g.",
						   key->min, key->max) :
				 errdetail("It must be between %.15g and %.15g.", key->min, key->max),
				 errhint("%s", valid_keys(accepts))));
	return d;
}

void
gpt2_add_stop(g2_span *stops, uint32 *n_stops, const char *what, const char *data, size_t len)
{
	g2_span		s;

	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s contains an empty string", what)));
	if (*n_stops >= G2_MAX_STOPS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s has too many strings", what),
				 errdetail("At most %d are allowed.", G2_MAX_STOPS)));
	s = gpt2_to_utf8(data, len, what);
	if (s.len > G2_MAX_STOP_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s contains a string that is too long", what),
				 errdetail("It has %u bytes of UTF-8; the limit is %d.",
						   s.len, G2_MAX_STOP_BYTES)));
	stops[(*n_stops)++] = s;
}

/* One string, or an array of strings. */
static void
read_stops(const OptionKey *key, const JsonbValue *v, int accepts, Gpt2Options *options)
{
	char	   *what = psprintf("option \"%s\"", key->name);
	const char *wanted = "a string or an array of strings";
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;

	if (v->type == jbvString)
	{
		gpt2_add_stop(options->stops, &options->n_stops, what,
					  v->val.string.val, v->val.string.len);
		return;
	}
	if (v->type != jbvBinary || !JsonContainerIsArray(v->val.binary.data))
		wrong_type(key, wanted, accepts);
	it = JsonbIteratorInit(v->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (element.type != jbvString)
			wrong_type(key, wanted, accepts);
		gpt2_add_stop(options->stops, &options->n_stops, what,
					  element.val.string.val, element.val.string.len);
	}
}

/* A string of an example. */
static g2_span
example_part(const OptionKey *key, const JsonbValue *v, const char *wanted, int accepts)
{
	char	   *copy;

	if (v->type != jbvString)
		wrong_type(key, wanted, accepts);
	copy = pnstrdup(v->val.string.val, v->val.string.len);
	return gpt2_to_utf8(copy, v->val.string.len, "option \"examples\"");
}

/* An array of pairs of a text and its label. */
static void
read_examples(const OptionKey *key, const JsonbValue *v, int accepts, Gpt2Options *options)
{
	const char *wanted = "an array of pairs [text, label]";
	JsonbContainer *array = v->val.binary.data;
	uint32		n;

	if (v->type != jbvBinary || !JsonContainerIsArray(array))
		wrong_type(key, wanted, accepts);
	n = JsonContainerSize(array);
	if (n > G2_MAX_EXAMPLES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("option \"%s\" has too many elements", key->name),
				 errdetail("At most %d are allowed.", G2_MAX_EXAMPLES),
				 errhint("A few that differ from each other will do.")));
	for (uint32 i = 0; i < n; i++)
	{
		JsonbValue *pair = getIthJsonbValueFromContainer(array, i);
		JsonbContainer *parts = pair->val.binary.data;

		if (pair->type != jbvBinary || !JsonContainerIsArray(parts) ||
			JsonContainerSize(parts) != 2)
			wrong_type(key, wanted, accepts);
		options->example_texts[i] =
			example_part(key, getIthJsonbValueFromContainer(parts, 0), wanted, accepts);
		options->example_labels[i] =
			example_part(key, getIthJsonbValueFromContainer(parts, 1), wanted, accepts);
	}
	options->n_examples = n;
}

static void
read_template(const OptionKey *key, const JsonbValue *v, int accepts, Gpt2Options *options)
{
	char	   *copy;

	if (v->type != jbvString)
		wrong_type(key, "a string", accepts);
	if (v->val.string.len > MAX_TEMPLATE_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("option \"%s\" is too long", key->name),
				 errdetail("It has %d bytes; the limit is %d.",
						   v->val.string.len, MAX_TEMPLATE_BYTES)));
	copy = pnstrdup(v->val.string.val, v->val.string.len);
	if (!strstr(copy, "{input}"))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must contain {input}", key->name),
				 errhint("The text stands in its place, as in \"{input}\\nTL;DR:\".")));
	options->template_text = gpt2_to_utf8(copy, strlen(copy), "option \"template\"");
}

/* Two keys set the same field. */
static void
given_twice(const char *first, const OptionKey *key)
{
	bool		constrains = key->kind == OPTION_CHOICE || key->kind == OPTION_REGEX ||
		key->kind == OPTION_SCHEMA;

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 constrains ?
			 errmsg("options \"%s\" and \"%s\" cannot both be given", first, key->name) :
			 errmsg("options \"%s\" and \"%s\" mean the same", first, key->name),
			 errhint("Give only one of them.")));
}

/* One of a setting's words: its value. */
static int
read_word(const OptionKey *key, const JsonbValue *v, const struct config_enum_entry *words,
		  int accepts)
{
	char	   *wanted = psprintf("\"%s\"", words[0].name);

	for (int i = 0; words[i].name; i++)
	{
		if (v->type == jbvString && key_is(v, words[i].name))
			return words[i].val;
		if (i > 0)
			wanted = psprintf("%s%s \"%s\"", wanted, words[i + 1].name ? "," : " or",
							  words[i].name);
	}
	wrong_type(key, wanted, accepts);
	return 0;					/* not reached */
}

static void
read_value(const OptionKey *key, const JsonbValue *v, int accepts, Gpt2Options *options)
{
	char	   *field = (char *) options + key->value;
	const char **has = (const char **) ((char *) options + key->has);

	if (*has)
		given_twice(*has, key);
	*has = key->name;
	switch (key->kind)
	{
		case OPTION_INT:
			*(int32 *) field = (int32) number(key, v, accepts);
			break;
		case OPTION_FLOAT:
			*(double *) field = number(key, v, accepts);
			break;
		case OPTION_BOOL:
			if (v->type != jbvBool)
				wrong_type(key, "true or false", accepts);
			*(bool *) field = v->val.boolean;
			break;
		case OPTION_TEXT:
			read_template(key, v, accepts, options);
			break;
		case OPTION_STOPS:
			read_stops(key, v, accepts, options);
			break;
		case OPTION_EXAMPLES:
			read_examples(key, v, accepts, options);
			break;
		case OPTION_BIASES:
			gpt2_read_logit_bias(v, &options->decoding);
			break;
		case OPTION_CHOICE:
			if (!gpt2_read_choice(v, options))
				wrong_type(key, "an array of strings that are not empty", accepts);
			break;
		case OPTION_REGEX:
			if (!gpt2_read_regex(v, options))
				wrong_type(key, "a string", accepts);
			break;
		case OPTION_SCHEMA:
			if (!gpt2_read_json_schema(v, options))
				wrong_type(key, "a JSON schema: an object, or a string with its text", accepts);
			break;
		case OPTION_ON_ERROR:
			*(int *) field = read_word(key, v, gpt2_on_error_names, accepts);
			break;
		case OPTION_TRUNCATE:
			*(int *) field = read_word(key, v, gpt2_truncate_names, accepts);
			break;
	}
}

void
gpt2_options_parse(Jsonb *json, int accepts, Gpt2Options *options)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key,
				value;

	memset(options, 0, sizeof *options);
	options->repetition_penalty = 1.0;
	options->n = 1;
	options->cache = true;
	options->calibrate = true;
	options->decoding.typical_p = 1.0;
	options->decoding.n_beams = 1;
	options->decoding.length_penalty = 1.0;
	if (!(accepts & GPT2_SCORES))
		accepts |= GENERATES;
	if (!json)
		return;
	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object"),
				 errhint("%s", valid_keys(accepts))));
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		const OptionKey *found = NULL;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		for (int i = 0; i < lengthof(option_keys) && !found; i++)
			if (key_is(&key, option_keys[i].name) && !(option_keys[i].accepts & ~accepts))
				found = &option_keys[i];
		if (!found)
			unknown_key(&key, accepts);
		if (value.type != jbvNull)
			read_value(found, &value, accepts, options);
	}
}
