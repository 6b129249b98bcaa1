/*
 * philox.h: the counter-based random numbers Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel
 * Random Numbers: As Easy as 1, 2, 3", SC 2011), the same on every device.
 *
 * Compiled by gcc, clang and nvcc; no state: the numbers are a function of key and counter.
 */
#ifndef G2_PHILOX_H
#define G2_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__
#define G2_HD __host__ __device__
#else
#define G2_HD
#endif

/* Third word of the counter: what a number is for. */
enum
{
	G2_PHILOX_SAMPLE = 0,		/* sampling: counter = (index of the new token, sequence, 0, 0) */
	G2_PHILOX_SYNTH = 1			/* synthetic weights: counter = (element low, high, 1 or 2, tensor) */
};

#define G2_PHILOX_ROUNDS 10
#define G2_PHILOX_M0 0xD2511F53u
#define G2_PHILOX_M1 0xCD9E8D57u
#define G2_PHILOX_K0 0x9E3779B9u
#define G2_PHILOX_K1 0xBB67AE85u

typedef struct g2_philox
{
	uint32_t	word[4];
} g2_philox;

G2_HD static inline g2_philox
g2_philox4x32(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3)
{
	uint32_t	k0 = (uint32_t) key,
				k1 = (uint32_t) (key >> 32);
	g2_philox	r = {{c0, c1, c2, c3}};

	for (int round = 0; round < G2_PHILOX_ROUNDS; round++)
	{
		uint64_t	p0 = (uint64_t) G2_PHILOX_M0 * r.word[0],
					p1 = (uint64_t) G2_PHILOX_M1 * r.word[2];
		g2_philox	next = {{(uint32_t) (p1 >> 32) ^ r.word[1] ^ k0, (uint32_t) p1,
							 (uint32_t) (p0 >> 32) ^ r.word[3] ^ k1, (uint32_t) p0}};

		r = next;
		k0 += G2_PHILOX_K0;
		k1 += G2_PHILOX_K1;
	}
	return r;
}

#endif							/* G2_PHILOX_H */
