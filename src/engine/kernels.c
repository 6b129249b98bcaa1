/*
 * kernels.c: which instruction sets this machine has, and the choice among the kernel tables.
 *
 * A set counts only when the processor reports it (CPUID) and the operating system saves its
 * registers (XCR0).
 */
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t
xcr0(void)
{
	uint32_t	lo,
				hi;

	__asm__ __volatile__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t) hi << 32 | lo;
}

#define XCR0_AVX 0x06u			/* SSE and AVX state */
#define XCR0_AVX512 0xe6u		/* and opmask, upper halves, registers 16 .. 31 */

static void
detect(bool *avx2, bool *avx512)
{
	uint32_t	a,
				b,
				c,
				d,
				c1;

	*avx2 = *avx512 = false;
	if (!__get_cpuid(1, &a, &b, &c1, &d) || !(c1 & bit_OSXSAVE) || !(c1 & bit_AVX))
		return;
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return;
	*avx2 = (b & bit_AVX2) && (c1 & bit_FMA) && (c1 & bit_F16C) &&
		(xcr0() & XCR0_AVX) == XCR0_AVX;
	*avx512 = *avx2 && (b & bit_AVX512F) && (b & bit_AVX512BW) && (b & bit_AVX512VL) &&
		(b & bit_AVX512DQ) && (xcr0() & XCR0_AVX512) == XCR0_AVX512;
}
#endif

/* The tables that run here, fastest first; returns their number. */
static int
available(const g2_kernels *tables[3])
{
	int			n = 0;

#if defined(__x86_64__)
	bool		avx2,
				avx512;

	detect(&avx2, &avx512);
	if (avx512)
		tables[n++] = &g2_kernels_avx512;
	if (avx2)
		tables[n++] = &g2_kernels_avx2;
#endif
	tables[n++] = &g2_kernels_portable;
	return n;
}

const g2_kernels *
g2_kernels_best(void)
{
	static const g2_kernels *best;	/* every thread would store the same value */
	const g2_kernels *found = __atomic_load_n(&best, __ATOMIC_RELAXED),
			   *tables[3];

	if (!found)
	{
		available(tables);
		found = tables[0];
		__atomic_store_n(&best, found, __ATOMIC_RELAXED);
	}
	return found;
}

bool
g2_kernels_choose(const char *isa, const g2_kernels **out, g2_error *err)
{
	static const char *const names[] = {"auto", "portable", "avx2", "avx512"};
	const g2_kernels *tables[3];
	int			n = available(tables);
	bool		known = false;

	if (!isa || strcmp(isa, "auto") == 0)
	{
		*out = tables[0];
		return true;
	}
	for (int i = 0; i < n; i++)
		if (strcmp(isa, tables[i]->name) == 0)
		{
			*out = tables[i];
			return true;
		}
	for (size_t i = 0; i < G2_LENGTH(names); i++)
		known |= strcmp(isa, names[i]) == 0;
	if (!known)
	{
		g2_fail(err, G2_E_PARAM, "unknown instruction set \"%.32s\"", isa);
		return g2_fail_hint(err, "Valid values are \"auto\", \"portable\", \"avx2\", \"avx512\".");
	}
	g2_fail(err, G2_E_UNSUPPORTED, "instruction set \"%s\" is not available on this machine", isa);
	g2_fail_detail(err, "This machine has %s%s%s%s%s.", tables[0]->name,
				   n > 1 ? ", " : "", n > 1 ? tables[1]->name : "", n > 2 ? ", " : "",
				   n > 2 ? tables[2]->name : "");
	return g2_fail_hint(err, "\"auto\" takes the best that it has.");
}

size_t
g2_operand_layout(g2_format format, uint32_t rows, uint32_t k, void *base, g2_operand *operand)
{
	size_t		tiles = ((size_t) rows + G2_OPERAND_ROWS - 1) / G2_OPERAND_ROWS,
				groups = ((size_t) k + G2_GROUP - 1) / G2_GROUP,
				part = tiles * groups * G2_OPERAND_ROWS * sizeof(float),
				at;
	char	   *p = base;

	if (format == G2_FORMAT_BF16)
	{
		*operand = (g2_operand) {.x = p};
		return G2_ROUND_UP(tiles * G2_OPERAND_ROWS * G2_ROUND_UP((size_t) k, 2) * sizeof(uint16_t),
						   (size_t) G2_ALIGN);
	}
	at = tiles * G2_OPERAND_ROWS * groups * G2_GROUP;
	part = G2_ROUND_UP(part, (size_t) G2_ALIGN);
	*operand = (g2_operand) {.x = p};
	if (p)
	{
		operand->scale = (float *) (p + at);
		operand->sum = (int32_t *) (p + at + part);
	}
	return at + 2 * part;
}
