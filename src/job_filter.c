/*
 * job_filter.c: the filter of gpt_batch must be one expression and nothing more.
 *
 * It is pasted into the job's statements, in parentheses.  So it is parsed on its own first, as the
 * WHERE clause of a SELECT that has nothing else: what closes a parenthesis that it has not opened,
 * goes on behind the clause or begins another statement is found out here.
 */
#include "compat.h"

#include "parser/parser.h"

#include "job.h"
#include "plan_nodes.h"

/* Before 14 the parser knew one way only. */
#if PG_VERSION_NUM >= 140000
#define parse_statements(sql) raw_parser((sql), RAW_PARSE_DEFAULT)
#else
#define parse_statements(sql) raw_parser(sql)
#endif

/* An error has its position in the text that was parsed, not in the user's statement. */
static void
on_parse_error(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) arg);
	}
	errcontext("argument filter of gpt_batch");
}

static List *
parse(const char *sql)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = on_parse_error,
		.arg = unconstify(char *, sql)
	};
	List	   *statements;

	error_context_stack = &callback;
	statements = parse_statements(sql);
	error_context_stack = callback.previous;
	return statements;
}

/* The statement, where it is nothing but SELECT WHERE ... without a semicolon. */
static const SelectStmt *
only_where(const List *statements)
{
	const RawStmt *raw = list_length(statements) == 1 ? linitial_node(RawStmt, statements) : NULL;
	const SelectStmt *select = raw ? (const SelectStmt *) raw->stmt : NULL;

	if (!raw || raw->stmt_len != 0 || !IsA(select, SelectStmt) || !select->whereClause)
		return NULL;
	if (select->op != SETOP_NONE || select->distinctClause || select->intoClause ||
		select->targetList || select->fromClause || select->groupClause ||
		select->havingClause || select->windowClause || select->valuesLists ||
		select->sortClause || select->limitOffset || select->limitCount ||
		select->lockingClause || select->withClause)
		return NULL;
	return select;
}

/* $1 would be a parameter of the statement that the filter is pasted into. */
static bool
has_parameter(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (IsA(node, ParamRef))
		return true;
	return raw_expression_tree_walker(node, has_parameter, unused);
}

void
gpt2_job_check_filter(const char *filter)
{
	const SelectStmt *select = only_where(parse(psprintf("SELECT WHERE %s", filter)));

	if (!select)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filter must be one expression and nothing more"),
				 errhint("Write what would stand behind WHERE, as in filter => 'id > 100'.")));
	if (has_parameter(select->whereClause, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filter cannot contain parameters"),
				 errhint("Put values into the text, with format('... %%L', value).")));
}
