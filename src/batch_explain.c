/*
 * batch_explain.c: what EXPLAIN says about a GPT Batch node.
 */
#include "compat.h"

#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif
#include "utils/lsyscache.h"

#include "batch_estimate.h"
#include "batch_scan.h"
#include "guc.h"
#include "plan_nodes.h"

/* The names of the functions whose calls are looked ahead at. */
static List *
names_of_calls(const Gpt2Batch *batch)
{
	List	   *names = NIL;

	for (int i = 0; i < batch->n_sites; i++)
	{
		char	   *name = get_func_name(batch->sites[i].call->funcid);

		names = lappend(names, name ? name : pstrdup("???"));
	}
	return names;
}

/* The names of those that nobody reads the output of. */
static List *
names_of_skipped(const List *skipped)
{
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, skipped)
		names = lappend(names, psprintf("%s (output unused)", strVal(lfirst(cell))));
	return names;
}

static void
explain_figures(const Gpt2BatchFigures *f, ExplainState *es)
{
	ExplainPropertyUInteger("Requests", NULL, f->requests, es);
	ExplainPropertyUInteger("Duplicates Saved", NULL, f->duplicates, es);
	ExplainPropertyUInteger("Batches", NULL, f->batches, es);
	ExplainPropertyFloat("Mean Rows in Flight", NULL,
						 f->rows ? (double) f->rows_ahead / f->rows : 0, 1, es);
	ExplainPropertyUInteger("Prompt Tokens", NULL, f->prompt_tokens, es);
	ExplainPropertyUInteger("Cached Tokens", NULL, f->cached_tokens, es);
	ExplainPropertyUInteger("Generated Tokens", NULL, f->new_tokens, es);
	if (f->unused > 0 || es->format != EXPLAIN_FORMAT_TEXT)
		ExplainPropertyUInteger("Requests Unused", NULL, f->unused, es);
	if (f->truncated > 0 || es->format != EXPLAIN_FORMAT_TEXT)
		ExplainPropertyUInteger("Truncated Calls", NULL, f->truncated, es);
	if (f->failed > 0 || es->format != EXPLAIN_FORMAT_TEXT)
		ExplainPropertyUInteger("Failed Calls", NULL, f->failed, es);
	if (!es->timing)
		return;
	if (f->began > 0 && f->ended > f->began)
		ExplainPropertyFloat("Tokens per Second", NULL,
							 1e6 * (double) f->new_tokens / (double) (f->ended - f->began), 1, es);
	ExplainPropertyFloat("Queue Time", "ms", f->queue_us / 1e3, 3, es);
	ExplainPropertyFloat("Engine Time", "ms", f->engine_us / 1e3, 3, es);
}

static void
explain_estimate(const CustomScan *batch, ExplainState *es)
{
	Gpt2Estimate estimate = {0};

	gpt2_estimate_add(&estimate, batch, true);
	if (es->format == EXPLAIN_FORMAT_TEXT)
	{
		ExplainPropertyText("Estimated", gpt2_estimate_text(&estimate), es);
		return;
	}
	ExplainPropertyFloat("Estimated Calls", NULL, estimate.calls, 0, es);
	ExplainPropertyFloat("Estimated Tokens", NULL, estimate.tokens, 0, es);
	if (estimate.unmeasured)
		return;
	ExplainPropertyFloat("Estimated Time", "s", estimate.seconds, 3, es);
	if (gpt2_price_per_hour > 0)
		ExplainPropertyFloat("Estimated Cost", NULL, gpt2_estimate_price(&estimate), 4, es);
}

void
gpt2_batch_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	Gpt2Batch  *batch = (Gpt2Batch *) node;
	List	   *skipped = (List *) lsecond(((CustomScan *) node->ss.ps.plan)->custom_private);

	if (skipped)
		ExplainPropertyList("Skipped Calls", names_of_skipped(skipped), es);
	if (batch->n_sites == 0)
		return;
	ExplainPropertyList("Batched Calls", names_of_calls(batch), es);
	ExplainPropertyInteger("Rows in Flight", NULL, gpt2_batch_rows, es);
	if (es->analyze)
		explain_figures(&batch->figures, es);
	else if (es->costs)
		explain_estimate((CustomScan *) node->ss.ps.plan, es);
}
