/*
 * batch_functions.c: the functions whose calls can be sent ahead of their rows.
 *
 * A function is known by the address that its calls go to, never by its name: another schema's
 * gpt_generate is not ours, and one that PostgreSQL wraps (SECURITY DEFINER, SET) goes elsewhere.
 *
 * Which OIDs these are is learned from the planner, which shows each call to the function's
 * support function.  That is also what loads this library while the first statement of a session
 * is being planned, early enough for the hook in batch_plan.c.  What was learned is looked up
 * again after any change of a function.
 */
#include "compat.h"

#include "catalog/pg_proc.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/syscache.h"

#include "batch_functions.h"
#include "guc.h"
#include "plan_nodes.h"

PG_FUNCTION_INFO_V1(gpt2_support);

extern Datum gpt2_generate(PG_FUNCTION_ARGS);
extern Datum gpt2_generate_array(PG_FUNCTION_ARGS);
extern Datum gpt2_summarize(PG_FUNCTION_ARGS);
extern Datum gpt2_task(PG_FUNCTION_ARGS);
extern Datum gpt2_classify(PG_FUNCTION_ARGS);
extern Datum gpt2_classify_enum(PG_FUNCTION_ARGS);
extern Datum gpt2_label_prob(PG_FUNCTION_ARGS);
extern Datum gpt2_filter(PG_FUNCTION_ARGS);
extern Datum gpt2_loss(PG_FUNCTION_ARGS);
extern Datum gpt2_perplexity(PG_FUNCTION_ARGS);
extern Datum gpt2_embed(PG_FUNCTION_ARGS);

static const Gpt2BatchFunction functions[] = {
	{gpt2_generate, gpt2_generate_prepare, NULL, .model = 2, .max_len = 1, .temperature = 3,
	.seed = 6, .options = 8},
	{gpt2_generate_array, gpt2_generate_array_prepare, NULL, .model = 3, .max_len = 1,
	.temperature = 4, .seed = 7, .n = 2, .options = 9},
	{gpt2_summarize, gpt2_summarize_prepare, NULL, .model = 2, .max_len = 1, .options = 3},
	{gpt2_task, gpt2_task_call_prepare, NULL, .model = 3, .max_len = 2, .options = 4},
	{gpt2_classify, NULL, gpt2_classify_prepare, .model = 2},
	{gpt2_classify_enum, NULL, gpt2_classify_enum_prepare, .model = 2},
	{gpt2_label_prob, NULL, gpt2_label_prob_prepare, .model = 2},
	{gpt2_filter, NULL, gpt2_filter_prepare, .model = 2},
	{gpt2_loss, NULL, gpt2_loss_prepare, .model = 1},
	{gpt2_perplexity, NULL, gpt2_loss_prepare, .model = 1},
	{gpt2_embed, NULL, gpt2_embed_prepare, .model = 1},
};

typedef struct Known
{
	Oid			oid;
	uint32		hash;			/* in the cache of functions */
	bool		looked_up;		/* since the last change */
	const Gpt2BatchFunction *function;	/* NULL: none of ours */
} Known;

#define USUAL_COST 10000		/* of a call with so many tokens; the functions' COST */
#define USUAL_TOKENS 50

#define MAX_KNOWN 256			/* more only where the extension is made again and again */

static Known known[MAX_KNOWN];
static int	n_known;

static void
on_function_change(Datum arg, int cache, uint32 hash)
{
	for (int i = 0; i < n_known; i++)
		if (hash == 0 || known[i].hash == hash)
			known[i].looked_up = false;
}

static Known *
find_known(Oid function)
{
	for (int i = 0; i < n_known; i++)
		if (known[i].oid == function)
			return &known[i];
	return NULL;
}

static void
learn(Oid function)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterSyscacheCallback(PROCOID, on_function_change, (Datum) 0);
	registered = true;
	if (find_known(function))
		return;
	if (n_known == MAX_KNOWN)
		n_known = 0;			/* those in use are learned again */
	known[n_known++] = (Known) {
		.oid = function,
		.hash = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(function))
	};
}

static const Gpt2BatchFunction *
look_up(Oid function)
{
	FmgrInfo	flinfo;

	if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		return NULL;
	fmgr_info(function, &flinfo);
	for (int i = 0; i < lengthof(functions); i++)
		if (flinfo.fn_addr == functions[i].function)
			return &functions[i];
	return NULL;
}

const Gpt2BatchFunction *
gpt2_batch_function(Oid function)
{
	Known	   *k = find_known(function);

	if (!k)
		return NULL;
	if (!k->looked_up)
	{
		/* In this order: a change may be heard of during the look. */
		k->function = NULL;
		k->looked_up = true;
		k->function = look_up(function);
	}
	return k->function;
}

/* The value of a constant that is not NULL. */
static bool
constant(const FuncExpr *call, int number, Datum *value)
{
	const Const *arg = (const Const *) list_nth(call->args, number);

	if (!IsA(arg, Const) || arg->constisnull)
		return false;
	*value = arg->constvalue;
	return true;
}

/* num_beams of options that are constant; 1 where nothing is known of any. */
static int
constant_beams(const FuncExpr *call, const Gpt2BatchFunction *f)
{
	Datum		value;
	Jsonb	   *json;
	JsonbValue *beams = NULL;

	if (f->options == 0 || !constant(call, f->options, &value))
		return 1;
	json = DatumGetJsonbP(value);
	if (JB_ROOT_IS_OBJECT(json))
		beams = getKeyJsonValueFromContainer(&json->root, "num_beams", strlen("num_beams"), NULL);
	if (!beams || beams->type != jbvNumeric)
		return 1;
	/* What is out of range is an error when the call is made. */
	return (int) Max(1, Min(DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
															   NumericGetDatum(beams->val.numeric))),
							G2_MAX_BEAMS));
}

bool
gpt2_may_draw(const FuncExpr *call)
{
	const Gpt2BatchFunction *f = gpt2_batch_function(call->funcid);
	const Node *temperature,
			   *seed;

	if (!f || f->temperature == 0 || constant_beams(call, f) > 1)
		return false;
	temperature = (const Node *) list_nth(call->args, f->temperature);
	seed = (const Node *) list_nth(call->args, f->seed);
	if (IsA(seed, Const) && !((const Const *) seed)->constisnull)
		return false;
	if (!IsA(temperature, Const))
		return true;
	if (((const Const *) temperature)->constisnull)
		return f->n > 0 || gpt2_temperature > 0;
	return DatumGetFloat8(((const Const *) temperature)->constvalue) > 0;
}

void
gpt2_call_shape(const FuncExpr *call, Gpt2CallShape *shape)
{
	const Gpt2BatchFunction *f = gpt2_batch_function(call->funcid);
	Datum		value;

	shape->max_len = f && f->call ? gpt2_max_len : 0;
	shape->n = 1;
	shape->model = gpt2_model && *gpt2_model ? gpt2_model : "demo";
	if (!f)
		return;
	if (f->call && constant(call, f->max_len, &value))
		shape->max_len = Max(1, Min(DatumGetInt32(value), (int32) G2_MAX_NEW_TOKENS));
	if (f->n && constant(call, f->n, &value))
		shape->n = Max(1, Min(DatumGetInt32(value), G2_MAX_SEQUENCES));
	shape->n = Max(shape->n, constant_beams(call, f));
	if (constant(call, f->model, &value))
		shape->model = TextDatumGetCString(value);
	else if (!IsA(list_nth(call->args, f->model), Const))
		shape->model = NULL;
}

/* In the range that keeps the planner from repeating a call, and from anything drastic. */
double
gpt2_call_cost(const FuncExpr *call)
{
	Gpt2CallShape shape;
	double		tokens;

	gpt2_call_shape(call, &shape);
	tokens = shape.max_len > 0 ? (double) shape.max_len * shape.n : USUAL_TOKENS;
	return cpu_operator_cost * USUAL_COST * Max(0.2, Min(tokens / USUAL_TOKENS, 4));
}

bool
gpt2_batch_functions_in(const List *plan_inval_items)
{
	ListCell   *cell;

	if (gpt2_batch_everything)
		return true;
	foreach(cell, plan_inval_items)
	{
		const PlanInvalItem *item = lfirst_node(PlanInvalItem, cell);

		if (item->cacheId != PROCOID)
			continue;
		for (int i = 0; i < n_known; i++)
			if (known[i].hash == item->hashValue)
				return true;
	}
	return false;
}

/* The planner asks this about each call of a function that names it as SUPPORT. */
Datum
gpt2_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);
	SupportRequestCost *cost = (SupportRequestCost *) request;

	if (IsA(request, SupportRequestSimplify))
		learn(((SupportRequestSimplify *) request)->fcall->funcid);
	if (!IsA(request, SupportRequestCost) || !cost->node || !IsA(cost->node, FuncExpr) ||
		!gpt2_batch_function(cost->funcid))
		PG_RETURN_POINTER(NULL);
	cost->startup = 0;
	cost->per_tuple = gpt2_call_cost((FuncExpr *) cost->node);
	PG_RETURN_POINTER(cost);
}
