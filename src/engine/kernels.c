/*
 * kernels.c: which instruction sets this machine has, and the choice among the kernel tables.
 *
 * On x86-64 a set counts only when the processor reports it (CPUID) and the operating system saves
 * its registers (XCR0); on ARM the operating system's word is enough.
 */
#include "kernels.h"

#include <stdio.h>

#include "protocol_watch.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

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

typedef struct cpu
{
	bool		avx2;
	bool		avxvnni;
	bool		avx512;
	bool		avx512vnni;
	bool		avx512bf16;
} cpu;

static cpu
detect(void)
{
	cpu			r = {false};
	uint32_t	a,
				b,
				c,
				d,
				c1;

	if (!__get_cpuid(1, &a, &b, &c1, &d) || !(c1 & bit_OSXSAVE) || !(c1 & bit_AVX))
		return r;
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return r;
	r.avx2 = (b & bit_AVX2) && (c1 & bit_FMA) && (c1 & bit_F16C) &&
		(xcr0() & XCR0_AVX) == XCR0_AVX;
	r.avx512 = r.avx2 && (b & bit_AVX512F) && (b & bit_AVX512BW) && (b & bit_AVX512VL) &&
		(b & bit_AVX512DQ) && (xcr0() & XCR0_AVX512) == XCR0_AVX512;
	r.avx512vnni = r.avx512 && (c & bit_AVX512VNNI);
	if (!__get_cpuid_count(7, 1, &a, &b, &c, &d))
		return r;
	r.avxvnni = r.avx2 && (a & bit_AVXVNNI);
	r.avx512bf16 = r.avx512vnni && (a & bit_AVX512BF16);
	return r;
}
#endif

int
g2_kernels_all(const g2_kernels *tables[G2_KERNEL_SETS])
{
	int			n = 0;

#if defined(__x86_64__)
	cpu			has = detect();

	if (has.avx512bf16)
		tables[n++] = &g2_kernels_avx512bf16;
	if (has.avx512vnni)
		tables[n++] = &g2_kernels_avx512vnni;
	if (has.avx512)
		tables[n++] = &g2_kernels_avx512;
	if (has.avxvnni)
		tables[n++] = &g2_kernels_avxvnni;
	if (has.avx2)
		tables[n++] = &g2_kernels_avx2;
#endif
#if defined(__aarch64__)
	if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
		tables[n++] = &g2_kernels_neon;
#endif
	tables[n++] = &g2_kernels_portable;
	return n;
}

const g2_kernels *
g2_kernels_best(void)
{
	static const g2_kernels *best;	/* every thread would store the same value */
	const g2_kernels *found = __atomic_load_n(&best, __ATOMIC_RELAXED),
			   *tables[G2_KERNEL_SETS];

	if (!found)
	{
		g2_kernels_all(tables);
		found = tables[0];
		__atomic_store_n(&best, found, __ATOMIC_RELAXED);
	}
	return found;
}

bool
g2_kernels_choose(const char *isa, const g2_kernels **out, g2_error *err)
{
	static const char *const names[] = {G2_CPU_NAMES};
	const g2_kernels *tables[G2_KERNEL_SETS];
	int			n = g2_kernels_all(tables);
	bool		known = false;
	char		list[128];
	size_t		at = 0;

	if (!isa || strcmp(isa, "auto") == 0)
	{
		*out = tables[0];
		return true;
	}
	for (int i = 0; i < n; i++)
	{
		if (strcmp(isa, tables[i]->name) == 0)
		{
			*out = tables[i];
			return true;
		}
		at += (size_t) snprintf(list + at, sizeof list - at, "%s%s", i > 0 ? ", " : "",
								tables[i]->name);
	}
	for (size_t i = 0; i < G2_LENGTH(names); i++)
		known |= strcmp(isa, names[i]) == 0;
	if (!known)
	{
		g2_fail(err, G2_E_PARAM, "unknown instruction set \"%.32s\"", isa);
		return g2_fail_hint(err, "Valid values here are \"auto\" and %s.", list);
	}
	g2_fail(err, G2_E_UNSUPPORTED, "instruction set \"%s\" is not available on this machine", isa);
	g2_fail_detail(err, "This machine has %s.", list);
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
		operand->start = (int32_t *) (p + at + part);
	}
	return at + 2 * part;
}
