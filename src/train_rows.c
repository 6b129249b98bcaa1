/*
 * train_rows.c: the query of a training, read row by row.
 *
 * Memory does not grow with the table: some rows are fetched at a time, fewer where they are large,
 * their texts are put into one message, and what the process has not taken yet is bounded.
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"

#include "encoding.h"
#include "train_connection.h"
#include "train_rows.h"

#define MOST_ROWS 64			/* fetched at a time */
#define MESSAGE_BYTES (256 * 1024)

/* ---- columns ---- */

static bool
is_text(Oid type)
{
	char		category;
	bool		preferred;

	get_type_category_preferred(getBaseType(type), &category, &preferred);
	return category == TYPCATEGORY_STRING;
}

static void
check_columns(TupleDesc columns)
{
	if (columns->natts != 1 && columns->natts != 2)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the query of a training returns one or two columns, not %d",
						columns->natts),
				 errhint("One column is a text; two are a prompt and its completion.")));
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (!is_text(column->atttypid))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of the query has type %s, not text",
							NameStr(column->attname), format_type_be(column->atttypid)),
					 errhint("Cast it to text.")));
	}
}

/* ---- rows ---- */

/* False where it is NULL. */
static bool
get_text(HeapTuple row, TupleDesc columns, int column, g2_span *to)
{
	char	   *value = SPI_getvalue(row, columns, column);

	if (!value)
		return false;
	*to = gpt2_to_utf8(value, strlen(value), "a row's text");
	return true;
}

static void
send_batch(g2_writer *w)
{
	if (w->len > 0)
		gpt2_train_send(G2_MSG_TRAIN_ROWS, w);
	w->len = 0;
}

/* Its texts are in the current memory context.  False where one of them is NULL. */
static bool
read_row(HeapTuple tuple, TupleDesc columns, g2_train_row *row)
{
	*row = (g2_train_row) {.has_prompt = columns->natts == 2};
	return get_text(tuple, columns, columns->natts, &row->text) &&
		(!row->has_prompt || get_text(tuple, columns, 1, &row->prompt));
}

/* Sends the rows that were fetched; *nulls counts those that are left out.  Returns the bytes of
 * the others. */
static uint64
send_fetched(MemoryContext row_context, g2_writer *w, uint64 *nulls)
{
	uint64		bytes = 0;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext outer = MemoryContextSwitchTo(row_context);
		g2_train_row row;
		bool		whole = read_row(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, &row);

		MemoryContextSwitchTo(outer);
		if (!whole)
			++*nulls;
		else
		{
			if (w->len + row.prompt.len + row.text.len > MESSAGE_BYTES)
				send_batch(w);
			g2_train_row_encode(w, &row);
			bytes += row.prompt.len + row.text.len;
		}
		MemoryContextReset(row_context);
	}
	send_batch(w);
	return bytes;
}

/* Starts with one row, and fetches more at a time while all of them fit into one message. */
static uint64
send_all(Portal portal)
{
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "gpt2 training row",
													  ALLOCSET_DEFAULT_SIZES);
	g2_writer	w = gpt2_writer();
	uint64		nulls = 0;
	long		rows = 1;

	check_columns(portal->tupDesc);
	for (;;)
	{
		uint64		bytes;

		SPI_cursor_fetch(portal, true, rows);
		if (SPI_processed == 0)
			break;
		bytes = send_fetched(row_context, &w, &nulls);
		SPI_freetuptable(SPI_tuptable);
		rows = bytes > MESSAGE_BYTES ? 1 : Min(rows * 2, MOST_ROWS);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextDelete(row_context);
	return nulls;
}

/* Rows that are read again after a failure must not be gone, or written twice. */
static bool
only_reads(SPIPlanPtr plan)
{
	ListCell   *source,
			   *lc;

	foreach(source, SPI_plan_get_plan_sources(plan))
		foreach(lc, ((CachedPlanSource *) lfirst(source))->query_list)
	{
		Query	   *query = lfirst_node(Query, lc);

		if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
			return false;
	}
	return true;
}

static SPIPlanPtr
prepare(const char *query)
{
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);

	if (!plan)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (!SPI_is_cursor_plan(plan))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query of a training must be one that returns rows"),
				 errhint("Give one SELECT.")));
	if (!only_reads(plan))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query of a training must be a SELECT that changes nothing"),
				 errhint("Put the rows into a table first.")));
	return plan;
}

void
gpt2_train_send_rows(const char *query)
{
	SPIPlanPtr	plan;
	Portal		portal;
	g2_writer	w = gpt2_writer();

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = prepare(query);
	/* Not "read only": that would be the snapshot of the outermost CALL or DO, which does not see
	 * what the procedure has written before. */
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, false);
	g2_put_u64(&w, send_all(portal));
	SPI_cursor_close(portal);
	gpt2_train_send(G2_MSG_TRAIN_ROWS_END, &w);
	SPI_finish();
}
