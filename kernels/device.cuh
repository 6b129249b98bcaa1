/*
 * device.cuh: all that a kernel asks of the device that it runs on.  Kernels are written once, over
 * this: nvcc compiles them for GPUs (device_cuda.cuh), g++ for an emulation on the CPU in which
 * every thread of a block is a fiber (device_emu.h), so that tests need no GPU.
 *
 * Both bring
 *   threadIdx, blockIdx, blockDim, gridDim, __global__, __device__, __launch_bounds__
 *   dev_shared<T>()			the block's shared memory, as many bytes as the launch said
 *   dev_barrier()				all threads of the block; all must come
 *   dev_warp_barrier()			all 32 threads of the warp
 *   dev_exchange(v, mask)		v of the lane whose number differs in the bits of mask
 *   dev_load16, dev_load8 (p)	16 or 8 bytes of memory that no kernel of this launch writes
 *   dev_async16, dev_async8 (to, from)	16 or 8 bytes to shared memory, some time before ...
 *   dev_async_commit(), dev_async_wait<n>()	... all groups but the newest n have come
 *   dev_shared_add(p, v)		adds to a sum in shared memory that is read behind a barrier
 *   dev_shared_take(p)		what a counter in shared memory was before it became one more
 *   dev_mma_bf16(c, a, b)		c += a b: [16][16] x [16][8], f32 sums
 *   dev_mma_s8(c, a, b)		c += a b: [16][32] x [32][8], int32 sums
 *   dev_launch(stream, kernel, grid, block, shared bytes, arguments...)
 *
 * Fragments of the products are those of PTX's mma.sync (m16n8k16, m16n8k32).  With lane = 4 g + t:
 * registers of a, 4 bytes each, are row g, then row g + 8, of bytes 4t .. 4t+3 of k, then both of
 * bytes 16+4t ..; of b, column g, bytes 4t .. and 16+4t ..; c is row g, columns 2t and 2t + 1, then
 * row g + 8.  Blocks have whole warps.
 */
#ifndef G2_DEVICE_CUH
#define G2_DEVICE_CUH

#include <stdint.h>

#define G2_WARP 32

#ifdef __CUDACC__
#include "device_cuda.cuh"
#else
#include "device_emu.h"
#endif

/* Largest of v over the lanes of a warp that differ in the bits below `lanes` (a power of two). */
template <typename T>
__device__ inline T
dev_max_of(T v, unsigned lanes)
{
	for (unsigned mask = lanes / 2; mask > 0; mask /= 2)
	{
		T			other = dev_exchange(v, mask);

		v = other > v ? other : v;
	}
	return v;
}

#endif							/* G2_DEVICE_CUH */
