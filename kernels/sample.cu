/*
 * sample.cu: from the logits of the head's rows to tokens, logprobs and best candidates, as
 * sampler.h says and with its functions (sampler_math.h): the same tokens as the CPU's from the
 * same logits.
 *
 * A block a task: an output, or those of a draft one after the other.  Where nothing changes the
 * logits their best is known from the head's candidates: a greedy token needs no more.
 */
#include "change.cuh"
#include "prefix.cuh"

#define LANES 16u				/* of the CPU's sums of e^x */

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

/* ---- sums in double, in the CPU's order ---- */

__device__ static uint32_t
block_end(uint32_t block, uint32_t n)
{
	return (block + 1) * G2_SUM_BLOCK < n ? (block + 1) * G2_SUM_BLOCK : n;
}

/* Of the partial sums that threads have left in s->block_sum. */
__device__ static double
sum_blocks(const sample_shared *s, uint32_t blocks)
{
	double		sum = 0.0;

	dev_barrier();
	for (uint32_t b = 0; b < blocks; b++)
		sum += s->block_sum[b];
	dev_barrier();
	return sum;
}

/* log of the sum of e^logits */

__device__ static double
log_sum_exp(const g2d_sample &a, sample_shared *s, uint32_t head_row)
{
	const float *logits = a.logits + (size_t) head_row * a.ld;
	const uint32_t lane = threadIdx.x % LANES,
				half = threadIdx.x / LANES % 2,
				blocks = (a.n_vocab + G2_SUM_BLOCK - 1) / G2_SUM_BLOCK;
	bool		clean;
	const float max = g2_rank_logit((uint32_t) (best_of_row(a, s, head_row, &clean) >> 32));

	if (!clean || max == -INFINITY)
		return (double) not_a_number();
	/* A half warp a block of 1,024; a warp's halves stay together. */
	for (uint32_t pair = threadIdx.x / G2_WARP; pair * 2 < blocks; pair += SAMPLE_WARPS)
	{
		const uint32_t block = pair * 2 + half,
					end = block_end(block, a.n_vocab);
		double		part = 0.0;

		for (uint32_t i = block * G2_SUM_BLOCK + lane; i < end; i += LANES)
			part += (double) g2s_exp(g2s_sub(logits[i], max));
		for (unsigned mask = LANES / 2; mask > 0; mask /= 2)
			part += dev_exchange(part, mask);
		if (lane == 0 && block < blocks)
			s->block_sum[block] = part;
	}
	return (double) max + g2_log(sum_blocks(s, blocks));
}

/* The mean of exponents by weight, of weights that add up to sum, over all ids: a thread a block of them,
 * one after the other. */
__device__ static double
mean_by_weight(sample_shared *s, const sample_row &row, const kept_weight &weight, uint64_t sum)
{
	const uint32_t blocks = (row.n + G2_SUM_BLOCK - 1) / G2_SUM_BLOCK;

	for (uint32_t block = threadIdx.x; block < blocks; block += SAMPLE_THREADS)
	{
		double		part = 0.0;

		for (uint32_t i = block * G2_SUM_BLOCK; i < block_end(block, row.n); i++)
		{
			const float x = row.logit(i);
			const uint64_t w = weight(i, x);

			if (w > 0)
				part += g2_typical_part(w, row.exponent(x));
		}
		s->block_sum[block] = part;
	}
	return sum_blocks(s, blocks) / (double) sum;
}

/* ---- tokens ---- */

/* The first id that holds the largest logit; 0 if all are NaN. */
__device__ static uint32_t
greedy(sample_shared *s, const sample_row &row)
{
	uint64_t	first = 0;		/* as ~id, so that the lowest is the largest */

	for (uint32_t i = threadIdx.x; i < row.n; i += SAMPLE_THREADS)
		if (row.logits[i] == row.max)
		{
			first = ~(uint64_t) i;
			break;
		}
	first = block_fold(s, first, fold_max());
	return first ? (uint32_t) ~first : 0;
}

/* Best and cleanness of logits that have been changed. */
__device__ static uint64_t
best_changed(sample_shared *s, const float *logits, uint32_t n, bool *clean)
{
	uint64_t	best = 0,
				bad = 0;

	for (uint32_t i = threadIdx.x; i < n; i += SAMPLE_THREADS)
	{
		const float x = logits[i];
		const uint64_t v = (uint64_t) g2_rank_key(x) << 32 | (uint32_t) ~i;

		bad |= !(x < INFINITY);
		best = v > best ? v : best;
	}
	best = block_fold(s, best, fold_max());
	*clean = block_fold(s, bad, fold_max()) == 0;
	return best;
}

__device__ static uint64_t
sum_weights(sample_shared *s, const sample_row &row, const kept_weight &weight)
{
	uint64_t	sum = 0;

	for_own_logits(row, [&](uint32_t i, float x) { sum += weight(i, x); });
	return block_fold(s, sum, fold_sum());
}

/* The lowest id of the mask. */
__device__ static uint32_t
first_allowed(sample_shared *s, const uint64_t *mask, uint32_t n)
{
	uint64_t	first = 0;		/* as in greedy() */

	for (uint32_t i = threadIdx.x; i < n; i += SAMPLE_THREADS)
		if (has(mask, i))
		{
			first = ~(uint64_t) i;
			break;
		}
	first = block_fold(s, first, fold_max());
	return first ? (uint32_t) ~first : 0;
}

/* top_k, top_p, min_p and typical_p; returns the sum of what they keep. */
__device__ static uint64_t
filter(sample_shared *s, const g2_sampling *p, const sample_row &row, sample_kept *kept)
{
	const kept_weight weight = {row, *kept};
	const by_logit order = {row.max};
	sample_found found = {};
	uint64_t	sum = 0;

	if (p->top_k > 0 && p->top_k < row.n)
		kept->top_k = find_prefix(s, row, order, one_each(), {p->top_k, 0.0f}).prefix;
	if (p->top_p < 1.0f)
	{
		found = find_prefix(s, row, order, weight, {0, p->top_p});
		kept->top_p = found.prefix;
		sum = found.sum;
	}
	if (p->min_p > 0.0f)
		kept->least = g2_min_p_least(p->min_p, g2_sample_weight(row.max, row.max, p->temperature));
	if (p->min_p > 0.0f || !(p->top_p < 1.0f))
		sum = sum_weights(s, row, weight);
	if (p->typical_p > 0.0f && sum > 0)	/* 0: min_p is above 1 */
	{
		kept->mean = mean_by_weight(s, row, weight, sum);
		found = find_prefix(s, row, by_typicality{row, kept->mean}, weight, {0, p->typical_p});
		kept->typical = found.prefix;
		kept->only_typical = true;
		sum = found.sum;
	}
	return sum;
}

/* The block's own row, to be changed. */
__device__ static float *
own_row(const g2d_sample &a)
{
	return a.changed + (size_t) blockIdx.x * a.n_vocab;
}

__device__ static uint32_t
sample(const g2d_sample &a, sample_shared *s, const g2d_slot &slot, const g2d_output &o)
{
	const g2_sampling *p = &slot.sampling;
	const row_change change(a, slot, o);
	sample_row	row(a.logits + (size_t) o.head_row * a.ld, a.n_vocab, 0.0f, p->temperature);
	sample_kept kept;
	bool		clean;
	uint64_t	best,
				sum,
				before;
	uint32_t	at;

	if (change.any())
	{
		float	   *x = own_row(a);

		for (uint32_t i = threadIdx.x; i < row.n; i += SAMPLE_THREADS)
			x[i] = row.logits[i];
		change.apply(x, row.n);
		row.logits = x;
		best = best_changed(s, x, row.n, &clean);
	}
	else
		best = best_of_row(a, s, o.head_row, &clean);
	row.max = g2_rank_logit((uint32_t) (best >> 32));
	if (change.mask && row.max == -INFINITY)
		return first_allowed(s, change.mask, row.n);
	if (!(p->temperature > 0.0f) || !clean || row.max == -INFINITY)
		return row.max == -INFINITY ? greedy(s, row) : (uint32_t) ~best;
	/* The mean over all ids is one of blocks of them. */
	if (!change.any() && p->top_k > 0 && !(p->typical_p > 0.0f))
		keep_strips(s, a, o.head_row, p->top_k, &row);
	sum = filter(s, p, row, &kept);
	at = find_weight(s, row, kept_weight{row, kept},
					 g2_sample_draw(p->seed, slot.next_index, p->sequence, sum) + 1, &before);
	return at == NOBODY ? (uint32_t) ~best : row.id(at);
}

/* The answer of a slot, whose state is `was`, holds one more of this token (g2_count_token). */
__device__ static void
count_token(const g2d_sample &a, sample_shared *s, uint32_t slot, const g2d_slot &was, uint32_t token)
{
	g2_count   *counts = a.slots.counts + (size_t) slot * G2D_MOST_CTX;
	uint64_t	found = 0;

	for (uint32_t i = threadIdx.x; i < was.n_counts; i += SAMPLE_THREADS)
		if (counts[i].token == token)
		{
			counts[i].n++;
			found = 1;
		}
	found = block_fold(s, found, fold_max());
	if (threadIdx.x == 0 && !found && was.n_counts < was.most_counts)
	{
		counts[was.n_counts] = {token, 1};
		a.slots.slots[slot].n_counts = was.n_counts + 1;
	}
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
	token = sample(a, s, slot, o);
	*ended = token == slot.end_token;
	dev_barrier();				/* all have read the slot, its bits and counts */
	if (slot.most_counts > 0)
		count_token(a, s, o.slot, slot, token);
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

/* The n best by score, of which `row` has at least so many: the members of the prefix as they come, then
 * each to its rank.  norm: log_sum_exp of the logits. */
__device__ static void
best_by(const g2d_sample &a, sample_shared *s, const sample_row &row, const float *logits,
		uint32_t output, uint32_t n, double norm)
{
	const by_logit order = {row.max};
	const sample_prefix prefix = find_prefix(s, row, order, one_each(), {n, 0.0f}).prefix;
	g2d_top	   *member = a.unsorted + (size_t) output * n;

	for_members(s, row, order, prefix, [&](uint32_t m, uint32_t i, float x) {
		member[m] = {(double) logits[row.id(i)] - norm, row.id(i), x};
	});
	for (uint32_t i = threadIdx.x; i < n; i += SAMPLE_THREADS)
	{
		const g2d_top own = member[i];
		const uint32_t key = g2_rank_key(own.score);
		uint32_t	rank = 0;

		for (uint32_t j = 0; j < n; j++)
		{
			const uint32_t other = g2_rank_key(member[j].score);

			rank += other > key || (other == key && member[j].token < own.token);
		}
		a.top[(size_t) output * n + rank] = own;
	}
}

/* The best logits. */
__device__ static void
best_logits(const g2d_sample &a, sample_shared *s, uint32_t head_row, const float *logits,
			uint32_t output, uint32_t n, double norm)
{
	bool		clean;
	sample_row	row(logits, a.n_vocab,
					g2_rank_logit((uint32_t) (best_of_row(a, s, head_row, &clean) >> 32)), 1.0f);

	keep_strips(s, a, head_row, n, &row);
	best_by(a, s, row, logits, output, n, norm);
}

/* The best by score: log-probabilities, changed as the slot wants it. */
__device__ static void
candidates_of_slot(const g2d_sample &a, sample_shared *s, const g2d_output &o, const float *logits,
				   uint32_t output, uint32_t n, double norm)
{
	const g2d_slot slot = a.slots.slots[o.slot];
	float	   *x = own_row(a);
	bool		clean;

	for (uint32_t i = threadIdx.x; i < a.n_vocab; i += SAMPLE_THREADS)
		x[i] = (float) ((double) logits[i] - norm);
	row_change(a, slot, o).apply(x, a.n_vocab);
	best_by(a, s, sample_row(x, a.n_vocab, g2_rank_logit(
		(uint32_t) (best_changed(s, x, a.n_vocab, &clean) >> 32)), 1.0f), logits, output, n, norm);
}

/* ---- outputs ---- */

/* As many as the plan wants; none where the row rests. */
__device__ static void
best_of_output(const g2d_sample &a, sample_shared *s, const g2d_output &o, uint32_t output, bool rests,
			   double norm)
{
	const float *logits = a.logits + (size_t) o.head_row * a.ld;
	const uint32_t n = a.chunk->n_top;

	if (rests)
		for (uint32_t t = threadIdx.x; t < n; t += SAMPLE_THREADS)
			a.top[(size_t) output * n + t] = {norm, G2_TOKEN_NONE, (float) norm};
	else if (n > 0 && (o.want & G2_WANT_CANDIDATES))
		candidates_of_slot(a, s, o, logits, output, n, norm);
	else if (n > 0)
		best_logits(a, s, o.head_row, logits, output, n, norm);
}

__device__ static void
run_output(const g2d_sample &a, sample_shared *s, uint32_t i)
{
	const g2d_output o = a.chunk->outputs[i];
	const bool	rests = a.position_of[a.chunk->head_row[o.head_row]] == G2D_RESTS;
	g2d_result *to = &a.results[a.chunk->base + a.pass->step * a.chunk->stride + i];
	double		norm = (double) not_a_number();
	uint32_t	token = o.target;
	bool		ended = false;

	if (!rests && (o.want & (G2_WANT_LOGPROB | G2_WANT_TOP | G2_WANT_CANDIDATES)))
		norm = log_sum_exp(a, s, o.head_row);
	if (o.want & (G2_WANT_TOP | G2_WANT_CANDIDATES))
		best_of_output(a, s, o, i, rests, norm);
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

/* Grid: up to G2D_SAMPLE_BLOCKS; a block takes a task after the other. */
__global__ void __launch_bounds__(SAMPLE_THREADS, 1)
sample_kernel(g2d_sample a)
{
	sample_shared *s = dev_shared<sample_shared>();

	for (uint32_t task = blockIdx.x; task < a.chunk->n_tasks; task += gridDim.x)
		for (uint32_t i = a.chunk->task_start[task]; i < a.chunk->task_start[task + 1]; i++)
			run_output(a, s, i);
}

void
g2d_launch_sample(rt_stream stream, const g2d_sample *a, uint32_t tasks)
{
	dev_launch(stream, sample_kernel, dim3(G2_MIN(tasks, G2D_SAMPLE_BLOCKS)), dim3(SAMPLE_THREADS),
			   sizeof(sample_shared), *a);
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
