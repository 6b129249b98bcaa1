/*
 * logit_bias.c: the option logit_bias, an object of token ids and what is added to their logits.
 */
#include "compat.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "logit_bias.h"
#include "options.h"

#define HOW "Write {\"id\": bias, ...} with ids from 0 to %d; gpt_tokenize gives those of a text."

/* The id that a key writes: decimal digits without zeros before them, so that none comes twice. */
static uint32
token_id(const JsonbValue *key)
{
	const char *digits = key->val.string.val;
	int			len = key->val.string.len;
	uint32		id = 0;
	bool		ok = len >= 1 && len <= 6 && (len == 1 || digits[0] != '0');

	for (int i = 0; ok && i < len; i++)
	{
		ok = digits[i] >= '0' && digits[i] <= '9';
		id = 10 * id + (uint32) (digits[i] - '0');
	}
	if (!ok || id > G2_MAX_TOKEN_ID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"logit_bias\" has a key that is no token id: \"%s\"",
						pnstrdup(digits, pg_mbcliplen(digits, len, 64))),
				 errhint(HOW, (int) G2_MAX_TOKEN_ID)));
	return id;
}

static void
wrong_type(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"logit_bias\" must be an object of token ids and numbers"),
			 errhint(HOW, (int) G2_MAX_TOKEN_ID)));
}

static float4
bias_of(uint32 id, const JsonbValue *value)
{
	double		bias;

	if (value->type != jbvNumeric)
		wrong_type();
	bias = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
											  NumericGetDatum(value->val.numeric)));
	if (!gpt2_in_range(bias, -G2_MAX_BIAS, G2_MAX_BIAS, false))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"logit_bias\" is out of range for token %u", id),
				 errdetail("It must be between %d and %d.", -G2_MAX_BIAS, G2_MAX_BIAS),
				 errhint("%d makes a token as good as impossible.", -G2_MAX_BIAS)));
	return (float4) bias;
}

static int
compare_pairs(const void *a, const void *b)
{
	uint32		x,
				y;

	memcpy(&x, a, sizeof x);
	memcpy(&y, b, sizeof y);
	return (x > y) - (x < y);
}

void
gpt2_read_logit_bias(const JsonbValue *value, g2_decoding *decoding)
{
	JsonbContainer *object = value->val.binary.data;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key,
				element;
	char	   *pairs;

	if (value->type != jbvBinary || !JsonContainerIsObject(object))
		wrong_type();
	if (JsonContainerSize(object) > G2_MAX_BIASES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("option \"logit_bias\" has too many tokens"),
				 errdetail("At most %d are allowed.", G2_MAX_BIASES),
				 errhint("Name those that matter most.")));
	pairs = palloc((JsonContainerSize(object) + 1) * G2_BIAS_BYTES);
	it = JsonbIteratorInit(object);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		char	   *pair = pairs + decoding->n_biases * G2_BIAS_BYTES;
		uint32		id;
		float4		bias;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &element, true);
		id = token_id(&key);
		bias = bias_of(id, &element);
		memcpy(pair, &id, sizeof id);
		memcpy(pair + sizeof id, &bias, sizeof bias);
		decoding->n_biases++;
	}
	qsort(pairs, decoding->n_biases, G2_BIAS_BYTES, compare_pairs);
	decoding->biases = pairs;
}
