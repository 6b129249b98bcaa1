/*
 * failed_calls.h: calls that fail for their row alone, where on_error says so.
 */
#ifndef GPT2_FAILED_CALLS_H
#define GPT2_FAILED_CALLS_H

#include "postgres.h"

#include "fmgr.h"

/* An error with this SQLSTATE is of the row: of its arguments, and not of the model's files, of a
 * limit, or of the engine. */
extern bool gpt2_is_row_error(int sqlstate);

/* The call's options have been read, and what is wrong from here on is its row's, unless it is said
 * of an error that it is of the options. */
extern void gpt2_row_begins(FunctionCallInfo fcinfo);

/* For ereport: the error is of the call as it is written, of options that exclude each other or an
 * argument.  (The engine says the same of its errors: link.h.) */
extern int	gpt2_err_of_options(void);

/*
 * Gives what body gives for the call.  Where the options (NULL = none), else gpt2.on_error, say
 * null, an error of the row is not raised but counted: then false, and its message, palloc'd, is in
 * *error.  Where the call is of an aggregate, the group is what is counted: `whole` says that this
 * is its last call, and not one more row.
 */
extern bool gpt2_call_or_fail(FunctionCallInfo fcinfo, NullableDatum options, bool whole,
							  PGFunction body, Datum *result, char **error);

/* The same for a function whose last argument is `options`: NULL, or no rows, for a row that
 * fails. */
extern Datum gpt2_call_or_null(FunctionCallInfo fcinfo, PGFunction body);

/* When the library is loaded: hooks for the end of statements. */
extern void gpt2_failed_calls_initialize(void);

#endif							/* GPT2_FAILED_CALLS_H */
