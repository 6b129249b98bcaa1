/*
 * call_site.c: a place of a query that calls a generating function: its rows and their seeds.
 *
 * A call that samples and was given no seed takes it from its call site: at its first such row of a
 * query the site draws one number from random(), and the row's seed is
 *     mix(base + (row + 1) * 0x9E3779B97F4A7C15)     (mod 2^64)
 * where row counts the site's evaluations from 0 and mix is the finalizer of SplitMix64.  So
 * setseed() fixes the texts whatever the order in which the engine works, and greedy calls leave
 * random() alone.  The site's state is flinfo->fn_extra: it lives as long as the executor's state
 * of the query (in PL/pgSQL's simple expressions: as long as the transaction).
 */
#include "compat.h"

#include <math.h>

#include "utils/fmgrprotos.h"

#include "batch.h"
#include "call.h"

Gpt2CallSite *
gpt2_call_site(FunctionCallInfo fcinfo)
{
	Gpt2CallSite *site = (Gpt2CallSite *) fcinfo->flinfo->fn_extra;

	if (!site)
	{
		site = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Gpt2CallSite));
		site->batch = gpt2_batch_join(fcinfo->flinfo->fn_expr, site);
		fcinfo->flinfo->fn_extra = site;
	}
	return site;
}

uint64
gpt2_call_row(FunctionCallInfo fcinfo)
{
	return gpt2_call_site(fcinfo)->rows++;
}

bool
gpt2_call_seed(FunctionCallInfo fcinfo, uint64 row, uint64 *seed)
{
	Gpt2CallSite *site = gpt2_call_site(fcinfo);
	uint64		z;

	*seed = 0;
	if (!site->drawn && site->ahead)
		return false;
	if (!site->drawn)
	{
		/* random() has 48 or 52 good bits, depending on the version. */
		double		r = DatumGetFloat8(DirectFunctionCall1(drandom, (Datum) 0));

		site->base = (uint64) ldexp(r, 52);
		site->drawn = true;
	}
	z = site->base + (row + 1) * UINT64CONST(0x9E3779B97F4A7C15);
	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	*seed = z ^ (z >> 31);
	return true;
}
