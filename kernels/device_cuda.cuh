/*
 * device_cuda.cuh: device.cuh on NVIDIA GPUs of compute capability 8.0 and above.
 */
#ifndef G2_DEVICE_CUDA_CUH
#define G2_DEVICE_CUDA_CUH

#include <cuda_runtime.h>

template <typename T>
__device__ inline T *
dev_shared()
{
	extern __shared__ __align__(16) unsigned char dev_shared_bytes[];

	return reinterpret_cast<T *>(dev_shared_bytes);
}

__device__ inline void
dev_barrier()
{
	__syncthreads();
}

__device__ inline void
dev_warp_barrier()
{
	__syncwarp();
}

template <typename T>
__device__ inline T
dev_exchange(T v, unsigned mask)
{
	return __shfl_xor_sync(0xffffffffu, v, mask);
}

__device__ inline uint4
dev_load16(const void *p)
{
	return __ldg(static_cast<const uint4 *>(p));
}

__device__ inline uint2
dev_load8(const void *p)
{
	return __ldg(static_cast<const uint2 *>(p));
}

__device__ inline void
dev_async16(void *to, const void *from)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
				 : : "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from)
				 : "memory");
}

__device__ inline void
dev_async8(void *to, const void *from)
{
	asm volatile("cp.async.ca.shared.global [%0], [%1], 8;"
				 : : "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from)
				 : "memory");
}

__device__ inline void
dev_async_commit()
{
	asm volatile("cp.async.commit_group;" : : : "memory");
}

template <int n>
__device__ inline void
dev_async_wait()
{
	asm volatile("cp.async.wait_group %0;" : : "n"(n) : "memory");
}

/* By halves: no instruction adds 64 bits there, and the loop that stands in for one fails as often as
 * others add to the same place.  Each time that the lower half wraps, one thread sees it and carries. */
__device__ inline void
dev_shared_add(uint64_t *p, uint64_t v)
{
	unsigned   *half = reinterpret_cast<unsigned *>(p);
	const unsigned low = static_cast<unsigned>(v);
	unsigned	high = static_cast<unsigned>(v >> 32);

	if (low != 0)
		high += atomicAdd(half, low) > ~low;
	if (high != 0)
		atomicAdd(half + 1, high);
}

__device__ inline uint32_t
dev_shared_take(uint32_t *p)
{
	return atomicAdd(p, 1u);
}

__device__ inline void
dev_mma_bf16(float (&c)[4], const uint4 &a, const uint2 &b)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		"{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		: "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}

__device__ inline void
dev_mma_s8(int32_t (&c)[4], const uint4 &a, const uint2 &b)
{
	asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
		"{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		: "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
		: "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}

/* More than 48 KB of shared memory must be asked for; 99 KB is what every device has.  Errors of a
 * launch are seen by whoever looks at the stream next (runtime.h). */
template <typename... P, typename... A>
inline void
dev_launch(void *stream, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... args)
{
	if (shared > 48 << 10)
		cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
							 cudaFuncAttributeMaxDynamicSharedMemorySize,
							 static_cast<int>(shared));
	kernel<<<grid, block, shared, static_cast<cudaStream_t>(stream)>>>(static_cast<P>(args)...);
}

#endif							/* G2_DEVICE_CUDA_CUH */
