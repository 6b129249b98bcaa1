/*
 * check_model.c: gpt_check_model: what is right and wrong with a model's folder.
 *
 * The engine looks, as it looks when it loads; who may ask is decided here, by the roles in the
 * folder's gpt2.json, as for the view gpt_models.
 */
#include "compat.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "admin.h"
#include "client.h"
#include "encoding.h"
#include "folder.h"
#include "result.h"
#include "wire.h"

PG_FUNCTION_INFO_V1(gpt2_check_model);

#define CHECK_COLUMNS 4

/* A folder that is not there, or holds no model, has no roles: the engine says so. */
static void
check_permission(const char *model)
{
	const char *name = gpt2_to_utf8(model, strlen(model), "model name").data;
	char	   *folder = gpt2_is_model_name(name) ? gpt2_folder_find(name) : NULL;

	if (folder && !gpt2_folder_is_link(folder))
		gpt2_folder_check_use(model, folder);
}

static void
put_row(Tuplestorestate *rows, TupleDesc tupdesc, const g2_check_row *m)
{
	Datum		values[CHECK_COLUMNS];
	bool		nulls[CHECK_COLUMNS];

	gpt2_set_text(m->item, &values[0], &nulls[0]);
	values[1] = BoolGetDatum(m->result == 1);
	nulls[1] = m->result > 1;
	gpt2_set_text(m->detail, &values[2], &nulls[2]);
	gpt2_set_text(m->hint, &values[3], &nulls[3]);
	tuplestore_putvalues(rows, tupdesc, values, nulls);
}

Datum
gpt2_check_model(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Tuplestorestate *rows = gpt2_begin_rows(fcinfo, &tupdesc);
	g2_writer	w = gpt2_writer();
	Gpt2Request *request;
	const char *payload;
	g2_reader	reader;
	size_t		len;
	uint32		n;

	gpt2_require_name(fcinfo);
	check_permission(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	g2_put_span(&w, gpt2_text_to_utf8(PG_GETARG_TEXT_PP(0), "model name"));
	request = gpt2_request(G2_MSG_CHECK_MODEL, &w);
	pfree(w.data);
	gpt2_request_wait(request);
	payload = gpt2_request_result(request, G2_MSG_MODEL_CHECK, &len);
	reader = g2_read(payload, len);
	n = g2_get_u32(&reader);
	for (uint32 i = 0; i < n; i++)
	{
		g2_check_row row;

		g2_check_row_get(&reader, &row);
		if (reader.failed)
			gpt2_malformed_answer();
		put_row(rows, tupdesc, &row);
	}
	gpt2_request_release(request);
	return (Datum) 0;
}
