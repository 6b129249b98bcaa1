/*
 * memory.c: arrays of a training.
 *
 * What was allocated starts up to a line earlier; its address stands right before the array.
 */
#include "memory.h"

#include <sys/mman.h>

#define PAGE ((uintptr_t) 4096)

float *
g2t_floats(size_t n)
{
	size_t		bytes;
	void	   *base;
	uintptr_t	at,
				first,
				end;

	if (!g2_mul_size(n, sizeof(float), &bytes) ||
		!g2_add_size(bytes, sizeof base + G2T_ALIGN, &bytes) || !(base = g2_alloc(bytes)))
		return NULL;
	at = G2_ROUND_UP((uintptr_t) base + sizeof base, (uintptr_t) G2T_ALIGN);
	memcpy((char *) at - sizeof base, &base, sizeof base);
	first = G2_ROUND_UP((uintptr_t) base, PAGE);
	end = ((uintptr_t) base + bytes) / PAGE * PAGE;
	if (first < end)
		(void) madvise((void *) first, end - first, MADV_HUGEPAGE);
	return (float *) at;
}

void
g2t_floats_free(float *floats)
{
	void	   *base;

	if (!floats)
		return;
	memcpy(&base, (char *) floats - sizeof base, sizeof base);
	g2_free(base);
}
