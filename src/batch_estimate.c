/*
 * batch_estimate.c: what the calls of a GPT Batch node will take.
 *
 * Calls: the planner's estimate of the rows.  Tokens: four bytes of the rows' width each, which
 * is too many where rows have more than the prompt, and max_len.  Time: by what the engine needed
 * for a token since it loaded the model, where one runs that has; nothing is started or loaded
 * for that.  Cost: that time by gpt2.price_per_hour, where it is set.
 */
#include "compat.h"

#include <math.h>

#include "batch_estimate.h"
#include "batch_expr.h"
#include "batch_functions.h"
#include "client.h"
#include "engine/protocol_watch.h"
#include "guc.h"

#define BYTES_PER_TOKEN 4
#define SECONDS_PER_HOUR 3600
#define MEASURED_TOKENS 100		/* fewer say nothing about speed */

/* Seconds that the engine needs for a token; 0 = not known. */
static double
seconds_per_token(const char *model)
{
	size_t		len;
	char	   *payload = gpt2_ask_running(G2_MSG_ENGINE, G2_MSG_ENGINE_LIST, &len, NULL);
	g2_reader	r;
	double		seconds = 0;

	if (!payload)
		return 0;
	r = g2_read(payload, len);
	for (uint32 left = g2_get_u32(&r); left > 0 && !r.failed; left--)
	{
		g2_engine_row row;
		uint64		tokens;

		g2_engine_row_get(&r, &row);
		tokens = row.prompt_tokens + row.completion_tokens;
		if (!r.failed && row.model.len == strlen(model) && tokens >= MEASURED_TOKENS &&
			memcmp(row.model.data, model, row.model.len) == 0)
			seconds = row.busy_us / 1e6 / tokens;
	}
	pfree(payload);
	return seconds;
}

/* Adds what the planner takes the calls of an expression to cost for a row, also of those that are
 * not looked ahead at. */
static bool
add_cost(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (gpt2_is_call(node))
		*(double *) context += gpt2_call_cost((FuncExpr *) node);
	return expression_tree_walker(node, add_cost, context);
}

void
gpt2_estimate_add(Gpt2Estimate *estimate, const CustomScan *batch, bool time)
{
	const Plan *plan = &batch->scan.plan;
	List	   *evaluated = plan->qual ? plan->qual : plan->targetlist;
	List	   *found = gpt2_find_calls(evaluated);
	double		rows = plan->lefttree->plan_rows,
				cost = 0;
	ListCell   *cell;

	(void) add_cost((Node *) evaluated, &cost);
	estimate->cost += rows * cost;
	foreach(cell, found)
	{
		const FuncExpr *call = ((Gpt2FoundCall *) lfirst(cell))->call;
		Gpt2CallShape shape;
		double		tokens,
					seconds;

		gpt2_call_shape(call, &shape);
		tokens = plan->lefttree->plan_width / BYTES_PER_TOKEN + (double) shape.max_len * shape.n;
		estimate->calls += rows;
		estimate->tokens += rows * tokens;
		if (!time)
			continue;
		seconds = shape.model ? seconds_per_token(shape.model) : 0;
		estimate->seconds += rows * tokens * seconds;
		estimate->unmeasured |= seconds == 0;
	}
}

/* ---- texts ---- */

/* 999, 12k, 26M, 3G */
static char *
count_text(double n)
{
	static const char units[] = {'\0', 'k', 'M', 'G', 'T'};
	int			unit = 0;

	while (n >= 10000 && unit < lengthof(units) - 1)
	{
		n /= 1000;
		unit++;
	}
	return psprintf("%.0f%c", n, units[unit]);
}

char *
gpt2_duration_text(double seconds)
{
	double		minutes = floor(seconds / 60),
				hours = floor(seconds / 3600);

	if (seconds < 60)
		return psprintf("%.0f s", ceil(seconds));
	if (hours < 1)
		return psprintf("%.0f min", minutes);
	return psprintf("%.0f h %.0f min", hours, minutes - 60 * hours);
}

double
gpt2_estimate_price(const Gpt2Estimate *estimate)
{
	return gpt2_price_per_hour * estimate->seconds / SECONDS_PER_HOUR;
}

char *
gpt2_estimate_text(const Gpt2Estimate *estimate)
{
	char	   *counts = psprintf("%.0f calls, %s tokens", estimate->calls,
								  count_text(estimate->tokens));
	double		cost;

	if (estimate->unmeasured)
		return counts;
	if (gpt2_price_per_hour <= 0)
		return psprintf("%s, %s", counts, gpt2_duration_text(estimate->seconds));
	cost = gpt2_estimate_price(estimate);
	return psprintf(cost < 0.1 ? "%s, %s, cost %.2g" : "%s, %s, cost %.2f", counts,
					gpt2_duration_text(estimate->seconds), cost);
}
