/*
 * kernels.c: which of the tables this machine can run.
 */
#include "kernels.h"

#include <stdbool.h>

#include "util.h"

typedef struct candidate
{
	const g2t_kernels *table;
	bool		(*runs) (void);
} candidate;

static bool
always(void)
{
	return true;
}

#if defined(__x86_64__)
static bool
has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool
has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

static const candidate candidates[] = {
#if defined(__x86_64__)
	{&g2t_kernels_avx512, has_avx512},
	{&g2t_kernels_avx2, has_avx2},
#endif
	{&g2t_kernels_portable, always},
};

const g2t_kernels *
g2t_kernels_at(uint32_t i)
{
	for (size_t c = 0; c < G2_LENGTH(candidates); c++)
		if (candidates[c].runs() && i-- == 0)
			return candidates[c].table;
	return NULL;
}

const g2t_kernels *
g2t_kernels_best(void)
{
	return g2t_kernels_at(0);
}
