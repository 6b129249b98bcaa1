/*
 * result.c: SQL values out of the engine's answers.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"

#include "encoding.h"
#include "result.h"

Tuplestorestate *
gpt2_begin_rows(FunctionCallInfo fcinfo, TupleDesc *tupdesc)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Tuplestorestate *rows;
	MemoryContext old;
	Oid			type;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	if (!(rsinfo->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("materialize mode required, but it is not allowed in this context")));

	old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	switch (get_call_result_type(fcinfo, &type, tupdesc))
	{
		case TYPEFUNC_COMPOSITE:
			*tupdesc = CreateTupleDescCopy(*tupdesc);
			break;
		case TYPEFUNC_SCALAR:
			*tupdesc = CreateTemplateTupleDesc(1);
			TupleDescInitEntry(*tupdesc, 1, "result", type, -1, 0);
			break;
		default:
			elog(ERROR, "return type must be a row type or a scalar type");
	}
	rows = tuplestore_begin_heap((rsinfo->allowedModes & SFRM_Materialize_Random) != 0, false,
								 work_mem);
	MemoryContextSwitchTo(old);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = rows;
	rsinfo->setDesc = *tupdesc;
	return rows;
}

ArrayType *
gpt2_ids_to_array(const char *ids, uint32 count)
{
	size_t		bytes = (size_t) count * sizeof(int32);
	ArrayType  *array;

	if (count == 0)
		return construct_empty_array(INT4OID);
	array = (ArrayType *) palloc(ARR_OVERHEAD_NONULLS(1) + bytes);
	SET_VARSIZE(array, ARR_OVERHEAD_NONULLS(1) + bytes);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = INT4OID;
	ARR_DIMS(array)[0] = (int) count;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), ids, bytes);
	return array;
}

void
gpt2_set_text(g2_span s, Datum *value, bool *isnull)
{
	*isnull = s.len == 0;
	*value = *isnull ? (Datum) 0 : PointerGetDatum(gpt2_utf8_to_text(s));
}

void
gpt2_set_int4(uint32 v, Datum *value, bool *isnull)
{
	*isnull = v == 0;
	*value = Int32GetDatum((int32) Min(v, (uint32) PG_INT32_MAX));
}

void
gpt2_set_int8(uint64 v, Datum *value, bool *isnull)
{
	*isnull = v == 0;
	*value = Int64GetDatum((int64) Min(v, (uint64) PG_INT64_MAX));
}

void
gpt2_set_time(int64 unix_microseconds, Datum *value, bool *isnull)
{
	const int64 epochs = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	*isnull = unix_microseconds <= 0;
	*value = *isnull ? (Datum) 0 : TimestampTzGetDatum(unix_microseconds - epochs);
}
