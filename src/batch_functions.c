/*
 * batch_functions.c: the functions whose calls can be sent ahead of their rows.
 *
 * A function is known by the address that its calls go to, never by its name: another schema's
 * gpt_generate is not ours, and one that PostgreSQL wraps (SECURITY DEFINER, SET) goes elsewhere.
 *
 * Which OIDs these are is learned from the planner, which shows each call to the function's support
 * function.  That is also what loads this library while the first statement of a session is being
 * planned, early enough for the hook in batch_plan.c.  What was learned is looked up again after
 * any change of a function.
 */
#include "compat.h"

#include "catalog/pg_proc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "batch_functions.h"
#include "plan_nodes.h"

PG_FUNCTION_INFO_V1(gpt2_support);

extern Datum gpt2_generate(PG_FUNCTION_ARGS);
extern Datum gpt2_generate_array(PG_FUNCTION_ARGS);
extern Datum gpt2_summarize(PG_FUNCTION_ARGS);

static const struct
{
	PGFunction	function;
	Gpt2Prepare prepare;
}			functions[] = {
	{gpt2_generate, gpt2_generate_prepare},
	{gpt2_generate_array, gpt2_generate_array_prepare},
	{gpt2_summarize, gpt2_summarize_prepare},
};

typedef struct Known
{
	Oid			oid;
	uint32		hash;			/* in the cache of functions */
	bool		looked_up;		/* since the last change */
	Gpt2Prepare prepare;		/* NULL: none of ours */
} Known;

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

static Gpt2Prepare
look_up(Oid function)
{
	FmgrInfo	flinfo;

	if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		return NULL;
	fmgr_info(function, &flinfo);
	for (int i = 0; i < lengthof(functions); i++)
		if (flinfo.fn_addr == functions[i].function)
			return functions[i].prepare;
	return NULL;
}

Gpt2Prepare
gpt2_batch_function(Oid function)
{
	Known	   *k = find_known(function);

	if (!k)
		return NULL;
	if (!k->looked_up)
	{
		/* In this order: a change may be heard of during the look. */
		k->prepare = NULL;
		k->looked_up = true;
		k->prepare = look_up(function);
	}
	return k->prepare;
}

bool
gpt2_batch_functions_in(const List *plan_inval_items)
{
	ListCell   *cell;

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

	if (IsA(request, SupportRequestSimplify))
		learn(((SupportRequestSimplify *) request)->fcall->funcid);
	PG_RETURN_POINTER(NULL);
}
