/*
 * result.h: SQL values out of the engine's answers.
 */
#ifndef GPT2_RESULT_H
#define GPT2_RESULT_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "engine/protocol.h"

/* fcinfo's result is a tuplestore from here on (SFRM_Materialize); the row's type comes in
 * *tupdesc, of one column for a function that returns SETOF a scalar type. */
extern Tuplestorestate *gpt2_begin_rows(FunctionCallInfo fcinfo, TupleDesc *tupdesc);

/* Ids as they stand in a payload (u32, unaligned) as int4[]. */
extern ArrayType *gpt2_ids_to_array(const char *ids, uint32 count);

/* Fill one column; an empty span and a zero are NULL. */
extern void gpt2_set_text(g2_span s, Datum *value, bool *isnull);
extern void gpt2_set_int4(uint32 v, Datum *value, bool *isnull);
extern void gpt2_set_int8(uint64 v, Datum *value, bool *isnull);
extern void gpt2_set_time(int64 unix_microseconds, Datum *value, bool *isnull);

#endif							/* GPT2_RESULT_H */
