/*
 * tokens.c: gpt_tokenize, gpt_detokenize, gpt_count_tokens.
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"

#include "call.h"
#include "encoding.h"
#include "result.h"

PG_FUNCTION_INFO_V1(gpt2_tokenize);
PG_FUNCTION_INFO_V1(gpt2_detokenize);
PG_FUNCTION_INFO_V1(gpt2_count_tokens);

/* Ids of one call, so that request and answer fit into a frame with all that is around them. */
#define MAX_IDS ((G2_MAX_PAYLOAD - 65536) / sizeof(uint32_t))

/* Asks for the tokens of argument 0 and waits for them; the ids stand in the request. */
static Gpt2Request *
tokenize(FunctionCallInfo fcinfo, bool count_only, g2_tokens *tokens)
{
	g2_tokenize message;
	g2_writer	w = gpt2_writer();
	Gpt2Request *request;
	const char *payload;
	size_t		len;

	message.text = gpt2_text_to_utf8(PG_GETARG_TEXT_PP(0), "text");
	message.model = gpt2_model_name(fcinfo->args[1]);
	message.count_only = count_only;
	message.current_user = (uint32) GetUserId();
	g2_tokenize_encode(&w, &message);
	request = gpt2_request(G2_MSG_TOKENIZE, &w);
	pfree(w.data);
	gpt2_request_wait(request);
	payload = gpt2_request_result(request, G2_MSG_TOKENS, &len);
	if (!g2_tokens_decode(payload, len, tokens) || tokens->count > PG_INT32_MAX ||
		(!count_only && tokens->count > 0 && !tokens->ids))
		gpt2_malformed_answer();
	return request;
}

Datum
gpt2_tokenize(PG_FUNCTION_ARGS)
{
	Gpt2Request *request;
	g2_tokens	tokens;
	ArrayType  *array;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	request = tokenize(fcinfo, false, &tokens);
	array = gpt2_ids_to_array(tokens.ids, tokens.count);
	gpt2_request_release(request);
	PG_RETURN_ARRAYTYPE_P(array);
}

Datum
gpt2_count_tokens(PG_FUNCTION_ARGS)
{
	Gpt2Request *request;
	g2_tokens	tokens;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	request = tokenize(fcinfo, true, &tokens);
	gpt2_request_release(request);
	PG_RETURN_INT32((int32) tokens.count);
}

/* Argument 0 as ids without NULLs and negative numbers. */
static const uint32_t *
token_ids(FunctionCallInfo fcinfo, uint32 *count)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	const int32 *ids = (const int32 *) ARR_DATA_PTR(array);

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("token_ids must be a one-dimensional array")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("token_ids contains a null element")));
	*count = (uint32) ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (*count > MAX_IDS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("token_ids is too long"),
				 errdetail("It has %u elements; the limit is %zu.", *count, MAX_IDS),
				 errhint("Split the array.")));
	for (uint32 i = 0; i < *count; i++)
		if (ids[i] < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("token id %d at position %u is negative", ids[i], i + 1)));
	return (const uint32_t *) ids;
}

Datum
gpt2_detokenize(PG_FUNCTION_ARGS)
{
	g2_writer	w = gpt2_writer();
	Gpt2Request *request;
	const uint32_t *ids;
	uint32		count;
	const char *payload;
	size_t		len;
	g2_reader	reader;
	g2_span		answer;
	text	   *result;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	ids = token_ids(fcinfo, &count);
	g2_detokenize_encode(&w, gpt2_model_name(fcinfo->args[1]), count, ids,
						  (uint32) GetUserId());
	request = gpt2_request(G2_MSG_DETOKENIZE, &w);
	pfree(w.data);
	gpt2_request_wait(request);
	payload = gpt2_request_result(request, G2_MSG_TEXT, &len);
	reader = g2_read(payload, len);
	answer = g2_get_span(&reader);
	if (reader.failed)
		gpt2_malformed_answer();
	result = gpt2_utf8_to_text(answer);
	gpt2_request_release(request);
	PG_RETURN_TEXT_P(result);
}
