/*
 * sample.cu: from the logits of the head's rows to tokens, logprobs and best candidates, as
 * sampler.h says and with its functions (sampler_math.h): the same tokens as the CPU's from the
 * same logits.
 *
 * A block a task: an output, or those of a draft one after the other.  Where nothing changes the
 * logits their best is known from the head's candidates: a greedy token needs no more.
 */
#include "sample.cuh"

#define LANES 16u				/* of the CPU's sums of e^x */
#define SUM_BLOCK 1024u

__device__ static float
not_a_number()
{
	return g2_bits_float(0x7fc00000u);
}

/* Best of the row's unchanged logits; *clean: neither NaN nor +inf. */
__device__ static uint64_t
best_of_row(const g2d_sample &a, sample_shared *s, uint32_t head_row, bool *clean)
{
	uint64_t	best = 0;

	for (uint32_t i = threadIdx.x; i < a.best_ld; i += SAMPLE_THREADS)
	{
		uint64_t	v = a.best[(size_t) head_row * a.best_ld + i];

		best = v > best ? v : best;
	}
	best = block_fold(s, best, fold_max());
	*clean = !a.bad[head_row] && g2_rank_logit((uint32_t) (best >> 32)) != INFINITY;
	return best;
}

/* ---- log of the sum of e^logits, in the CPU's order ---- */

__device__ static double
log_sum_exp(const g2d_sample &a, sample_shared *s, uint32_t head_row)
{
	const float *logits = a.logits + (size_t) head_row * a.ld;
	const uint32_t lane = threadIdx.x % LANES,
				half = threadIdx.x / LANES % 2,
				blocks = (a.n_vocab + SUM_BLOCK - 1) / SUM_BLOCK;
	bool		clean;
	const float max = g2_rank_logit((uint32_t) (best_of_row(a, s, head_row, &clean) >> 32));
	double		sum = 0.0;

	if (!clean || max == -INFINITY)
		return (double) not_a_number();
	/* A half warp a block of 1,024; a warp's halves stay together. */
	for (uint32_t pair = threadIdx.x / G2_WARP; pair * 2 < blocks; pair += SAMPLE_WARPS)
	{
		const uint32_t block = pair * 2 + half,
					end = (block + 1) * SUM_BLOCK < a.n_vocab ? (block + 1) * SUM_BLOCK : a.n_vocab;
		double		part = 0.0;

		for (uint32_t i = block * SUM_BLOCK + lane; i < end; i += LANES)
			part += (double) g2s_exp(g2s_sub(logits[i], max));
		for (unsigned mask = LANES / 2; mask > 0; mask /= 2)
			part += dev_exchange(part, mask);
		if (lane == 0 && block < blocks)
			s->block_sum[block] = part;
	}
	dev_barrier();
	for (uint32_t b = 0; b < blocks; b++)
		sum += s->block_sum[b];
	dev_barrier();
	return (double) max + g2_log(sum);
}

/* ---- tokens ---- */

/* The first id that holds the largest logit; 0 if all are NaN. */
__device__ static uint32_t
greedy(sample_shared *s, const sample_row &row)
{
	uint64_t	first = 0;		/* as ~id, so that the lowest is the largest */

	for (uint32_t i = threadIdx.x; i < row.n; i += SAMPLE_THREADS)
		if (row.at(i) == row.max)
		{
			first = ~(uint64_t) i;
			break;
		}
	first = block_fold(s, first, fold_max());
	return first ? (uint32_t) ~first : 0;
}

/* Best and cleanness of logits that the sampler has changed. */
__device__ static uint64_t
best_changed(sample_shared *s, const sample_row &row, bool *clean)
{
	uint64_t	best = 0,
				bad = 0;

	for (uint32_t i = threadIdx.x; i < row.n; i += SAMPLE_THREADS)
	{
		const float x = row.at(i);
		const uint64_t v = (uint64_t) g2_rank_key(x) << 32 | (uint32_t) ~i;

		bad |= !(x < INFINITY);
		best = v > best ? v : best;
	}
	best = block_fold(s, best, fold_max());
	*clean = block_fold(s, bad, fold_max()) == 0;
	return best;
}

__device__ static uint64_t
sum_weights(sample_shared *s, const sample_row &row, const sample_kept &kept)
{
	uint64_t	sum = 0;

	for (uint32_t i = threadIdx.x; i < row.n; i += SAMPLE_THREADS)
		sum += kept.weight(row, i);
	return block_fold(s, sum, fold_sum());
}

/* The first kept id whose cumulative weight exceeds r; NOBODY: the sum does not. */
__device__ static uint32_t
draw(sample_shared *s, const sample_row &row, const sample_kept &kept, uint64_t r)
{
	uint32_t	first,
				end,
				owner,
				id = NOBODY;
	uint64_t	part = 0,
				before;

	own_range(row.n, &first, &end);
	for (uint32_t i = first; i < end; i++)
		part += kept.weight(row, i);
	owner = block_find(s, part, r + 1, &before);
	if (owner == NOBODY)
		return NOBODY;
	if (threadIdx.x == owner)
		for (id = first; id < end; id++)
		{
			before += kept.weight(row, id);
			if (before > r)
				break;
		}
	return block_tell(s, threadIdx.x == owner, id);
}

__device__ static uint32_t
sample(const g2d_sample &a, sample_shared *s, const g2d_slot &slot, uint32_t slot_number,
	   uint32_t head_row)
{
	const g2_sampling *p = &slot.sampling;
	const sample_filter everything = {0, UINT32_MAX, 0};
	sample_row	row = {a.logits + (size_t) head_row * a.ld, a.n_vocab,
		slot.has_banned ? a.slots.banned + (size_t) slot_number * G2D_SEEN_WORDS : NULL,
		slot.has_seen ? a.slots.seen + (size_t) slot_number * G2D_SEEN_WORDS : NULL,
		p->repetition_penalty, 0.0f, p->temperature};
	sample_kept kept = {everything, everything, 0};
	const bool	changed = row.banned || row.seen;
	bool		clean;
	const uint64_t best = changed ? best_changed(s, row, &clean) :
		best_of_row(a, s, head_row, &clean);
	uint32_t	token;
	uint64_t	sum;

	row.max = g2_rank_logit((uint32_t) (best >> 32));
	if (!(p->temperature > 0.0f) || !clean || row.max == -INFINITY)
		return row.max == -INFINITY ? greedy(s, row) : (uint32_t) ~best;
	sum = sum_weights(s, row, kept);
	if (p->top_k > 0 && p->top_k < row.n)
	{
		kept.top_k = find_prefix(s, row, kept, true, p->top_k);
		sum = sum_weights(s, row, kept);
	}
	if (p->top_p < 1.0f)
	{
		kept.top_p = find_prefix(s, row, kept, false, g2_mass_target(p->top_p, sum));
		sum = sum_weights(s, row, kept);
	}
	if (p->min_p > 0.0f)
	{
		kept.least = g2_min_p_least(p->min_p, g2_sample_weight(row.max, row.max, p->temperature));
		sum = sum_weights(s, row, kept);
	}
	token = draw(s, row, kept, g2_sample_draw(p->seed, slot.next_index, p->sequence, sum));
	return token == NOBODY ? (uint32_t) ~best : token;
}

/* Samples for an output unless its slot has ended or refused what the output is based on. */
__device__ static uint32_t
sample_output(const g2d_sample &a, sample_shared *s, const g2d_output &o, bool *ended)
{
	g2d_slot   *at = &a.slots.slots[o.slot];
	g2d_slot	slot = *at;		/* only this block works with it */
	uint32_t	token;

	*ended = slot.ended;
	slot.refused = o.follows ? slot.refused : 0;
	if (slot.ended || slot.refused)
		return G2_TOKEN_NONE;
	token = sample(a, s, slot, o.slot, o.head_row);
	*ended = token == slot.end_token;
	dev_barrier();				/* all have read the slot and its bits */
	if (threadIdx.x == 0)
	{
		at->next_index++;
		at->last_token = token;
		at->ended = *ended;
		at->refused = o.fed != G2_TOKEN_NONE && token != o.fed;
		if (slot.has_seen)
			a.slots.seen[(size_t) o.slot * G2D_SEEN_WORDS + token / 64] |=
				(uint64_t) 1 << token % 64;
	}
	dev_barrier();
	return token;
}

/* ---- the best candidates ---- */

/* In two steps: the members of the prefix in ascending id, then each to its rank. */
__device__ static void
top_candidates(const g2d_sample &a, sample_shared *s, uint32_t head_row, uint32_t output, uint32_t n,
			   double norm)
{
	const sample_filter everything = {0, UINT32_MAX, 0};
	const sample_kept kept = {everything, everything, 0};
	const sample_row row = {a.logits + (size_t) head_row * a.ld, a.n_vocab, NULL, NULL, 1.0f, 0.0f,
		1.0f};
	const sample_filter prefix = find_prefix(s, row, kept, true, n);
	g2d_top	   *member = a.unsorted + (size_t) output * n;
	uint32_t	first,
				end,
				members = 0,
				at;

	own_range(row.n, &first, &end);
	for (uint32_t i = first; i < end; i++)
		members += prefix.above(g2_rank_key(row.at(i)), i);
	at = (uint32_t) block_before(s, members);
	for (uint32_t i = first; i < end; i++)
		if (prefix.above(g2_rank_key(row.at(i)), i))
			member[at++] = {(double) row.logits[i] - norm, i, g2_rank_key(row.at(i))};
	dev_barrier();
	for (uint32_t i = threadIdx.x; i < n; i += SAMPLE_THREADS)
	{
		const g2d_top own = member[i];
		uint32_t	rank = 0;

		for (uint32_t j = 0; j < n; j++)
			rank += member[j].key > own.key || (member[j].key == own.key && j < i);
		a.top[(size_t) output * n + rank] = own;
	}
}

/* ---- outputs ---- */

__device__ static void
run_output(const g2d_sample &a, sample_shared *s, uint32_t i)
{
	const g2d_output o = a.chunk->outputs[i];
	const bool	rests = a.position_of[a.chunk->head_row[o.head_row]] == G2D_RESTS;
	g2d_result *to = &a.results[a.chunk->base + a.pass->step * a.chunk->stride + i];
	g2d_top	   *top = a.top + (size_t) i * a.chunk->n_top;
	double		norm = (double) not_a_number();
	uint32_t	token = o.target;
	bool		ended = false;

	if (!rests && (o.want & (G2_WANT_LOGPROB | G2_WANT_TOP)))
		norm = log_sum_exp(a, s, o.head_row);
	if ((o.want & G2_WANT_TOP) && a.chunk->n_top > 0)
	{
		if (!rests)
			top_candidates(a, s, o.head_row, i, a.chunk->n_top, norm);
		else
			for (uint32_t t = threadIdx.x; t < a.chunk->n_top; t += SAMPLE_THREADS)
				top[t] = {norm, G2_TOKEN_NONE, 0};
	}
	if (rests)
		token = G2_TOKEN_NONE;
	else if (o.want & G2_WANT_TOKEN)
		token = sample_output(a, s, o, &ended);
	if (threadIdx.x == 0)
	{
		to->token = token;
		to->ended = token != G2_TOKEN_NONE && ended;
		to->logprob = token == G2_TOKEN_NONE ? (double) not_a_number() :
			(double) a.logits[(size_t) o.head_row * a.ld + token] - norm;
	}
}

/* Grid: tasks. */
__global__ void __launch_bounds__(SAMPLE_THREADS, 1)
sample_kernel(g2d_sample a)
{
	sample_shared *s = dev_shared<sample_shared>();

	if (blockIdx.x >= a.chunk->n_tasks)
		return;
	for (uint32_t i = a.chunk->task_start[blockIdx.x]; i < a.chunk->task_start[blockIdx.x + 1]; i++)
		run_output(a, s, i);
}

void
g2d_launch_sample(rt_stream stream, const g2d_sample *a, uint32_t tasks)
{
	dev_launch(stream, sample_kernel, dim3(tasks), dim3(SAMPLE_THREADS), sizeof(sample_shared), *a);
}

__global__ void __launch_bounds__(G2_WARP)
advance_kernel(g2d_pass *pass)
{
	if (threadIdx.x == 0)
		pass->step++;
}

void
g2d_launch_advance(rt_stream stream, g2d_pass *pass)
{
	dev_launch(stream, advance_kernel, dim3(1), dim3(G2_WARP), 0, pass);
}
