/*
 * backend.h: the table of functions that a device implements (CPU: cpu_backend.c; CUDA: a shared
 * object of its own).  The scheduler speaks to devices through nothing else.
 *
 * Threads: all functions but model_fill are called by one thread, the scheduler's, and none of them
 * waits.  Work runs elsewhere (CPU pool, GPU); its end is announced by writing 1 to the eventfd given
 * to open.
 *
 * Order: kv_copy, kv_zero, kv_map, kv_unmap and slot_set take effect after every plan submitted
 * before them and before the next one submitted after them.
 *
 * Memory: the arrays of a plan and of its result belong to the caller and stay untouched until
 * the result is taken.  At most G2_MAX_PLANS plans are in flight; they run and end in order.
 *
 * KV cache: per model, blocks of G2_BLOCK positions, block i of a sequence holding positions
 * 32i .. 32i+31.  Which blocks belong to whom is the caller's business (kv.c), and on a device whose
 * models share one memory also which of them have any.
 *
 * Exactness: what a row yields does not depend on the other rows of its plan, on how a prompt is
 * cut into plans, on the number of steps per plan or on the number of threads.
 */
#ifndef G2_BACKEND_H
#define G2_BACKEND_H

#include "util.h"
#include "weights.h"

#define G2_BACKEND_VERSION 4
#define G2_BLOCK 32				/* positions of a KV block, aligned to position 0 */
#define G2_MAX_PLANS 2
#define G2_MAX_DEVICES 2		/* of one back end */
#define G2_MAX_STEPS 64			/* steps of one plan */

#define G2_TOKEN_PREVIOUS (UINT32_MAX - 1)	/* plan.token: what the row's slot sampled last */
#define G2_TOKEN_NONE UINT32_MAX	/* result: the slot had ended, or had refused the draft */

/* What an output shall give (g2_output.want, bits). */
enum
{
	G2_WANT_TOKEN = 1,			/* sample with the slot's parameters and advance the slot */
	G2_WANT_LOGPROB = 2,		/* natural log of the model's own probability (no temperature, no
								 * penalty) of the sampled token, or of target without TOKEN */
	G2_WANT_TOP = 4,			/* the n_top best (logit descending, id ascending) with logprobs */
	G2_WANT_LOGITS = 8,			/* all n_vocab logits */
	G2_WANT_NORM = 16,			/* the final norm's output, n_embd values */
	G2_WANT_CANDIDATES = 32		/* as TOP, but the best by score: the log-probability, changed by the
								 * slot's bias, penalties and bans (beam search); the slot stays as it
								 * is.  Not together with TOP or TOKEN */
};

#define G2_MOST_BIASES 1024u	/* of a slot */

/* What is added to a token's logit. */
typedef struct g2_bias
{
	uint32_t	token;
	float		bias;
} g2_bias;

/* Sampler parameters of a slot; ranges are checked by request.c. */
typedef struct g2_sampling
{
	float		temperature;	/* 0 = greedy */
	uint32_t	top_k;			/* 0 = off */
	float		top_p;			/* 1 = off */
	float		min_p;			/* 0 = off */
	float		repetition_penalty;	/* 1 = off; over prompt and answer */
	uint64_t	seed;
	uint32_t	sequence;		/* index in its group: second word of the Philox counter */
	const uint32_t *banned;		/* [n_banned] ids that are never chosen, but for `spared`; they live
								 * as long as the model */
	uint32_t	n_banned;
	uint32_t	spared;
	/* decoding options; zero is off */
	float		typical_p;
	float		presence_penalty;	/* off the logit of what the answer holds */
	float		frequency_penalty;	/* the same, as often as it holds it */
	uint32_t	min_new;		/* the end token is not chosen before so many */
	const g2_bias *biases;		/* [n_biases] ids ascending, none twice; what is named here is not
								 * banned.  They live as long as the slot's sequence */
	uint32_t	n_biases;
} g2_sampling;

typedef struct g2_slot_state
{
	g2_sampling sampling;
	uint32_t	next_index;		/* index of the next new token, from 0: so many of history are new */
	uint32_t	most_new;		/* tokens that the answer will have at most */
	uint32_t	end_token;		/* sampling it ends the slot; G2_TOKEN_NONE = none */
	const uint32_t *history;	/* prompt and answer so far; copied */
	uint32_t	n_history;
	const struct g2_backend_model *model;	/* whose plans will sample with it; NULL where there is
											 * one device */
} g2_slot_state;

/* Rows of one sequence in a plan: contiguous, positions ascending without a gap. */
typedef struct g2_plan_sequence
{
	uint32_t	slot;			/* for G2_TOKEN_PREVIOUS; G2_TOKEN_NONE where not needed */
	uint32_t	first_row;
	uint32_t	n_rows;
	const uint32_t *blocks;		/* block table from position 0, for every position that this plan
								 * may read or write, all its steps included */
} g2_plan_sequence;

/*
 * Outputs of one slot on consecutive rows are a draft: the first samples as ever; each further one
 * holds only where the one before it has sampled the token that its own row feeds.  From the first
 * that does not, the slot samples no more in this plan: G2_TOKEN_NONE.
 */
typedef struct g2_output
{
	uint32_t	row;			/* several outputs may share a row (n sequences, one prompt) */
	uint32_t	slot;			/* with G2_WANT_TOKEN or CANDIDATES */
	uint32_t	want;			/* G2_WANT_... */
	uint32_t	target;			/* with LOGPROB and without TOKEN: the id whose logprob it is */
	const uint32_t *banned;		/* [n_banned] ids that are not chosen here, beside the slot's own;
								 * one step only */
	uint32_t	n_banned;
	const uint64_t *mask;		/* with TOKEN: [n_vocab bits] ids that may be sampled, id i is bit
								 * i % 64 of word i / 64; NULL = all.  One step only. */
} g2_output;

typedef struct g2_backend_model g2_backend_model;
typedef struct g2_backend g2_backend;

/*
 * One visit of the device.  n_steps > 1 is allowed only where every sequence has one row and one
 * output (output i on the row of sequence i, with TOKEN): step s + 1 feeds each slot's sampled
 * token at the next position; a slot that sampled its end token rests for the remaining steps.
 */
typedef struct g2_plan
{
	g2_backend_model *model;
	uint32_t	n_steps;
	uint32_t	n_rows;
	const uint32_t *token;		/* [n_rows] id < n_vocab, or G2_TOKEN_PREVIOUS */
	const uint32_t *position;	/* [n_rows] */
	uint32_t	n_sequences;
	const g2_plan_sequence *sequences;
	uint32_t	n_outputs;
	const g2_output *outputs;
	uint32_t	n_top;			/* tokens per output that wants TOP or CANDIDATES */
} g2_plan;

/* Arrays are the caller's; one that no output wants may be NULL.  Index [step][output]. */
typedef struct g2_result
{
	uint32_t   *token;			/* [n_steps][n_outputs]; G2_TOKEN_NONE: rested, or refused */
	double	   *logprob;		/* [n_steps][n_outputs] */
	uint8_t    *ended;			/* [n_steps][n_outputs] 1 = this token is the slot's end token */
	uint32_t   *top_token;		/* [n_outputs][n_top], one step only */
	double	   *top_logprob;	/* [n_outputs][n_top] the model's own */
	double	   *top_score;		/* [n_outputs][n_top] CANDIDATES only */
	float	   *logits;			/* [n_outputs][n_vocab], one step only */
	float	   *norm;			/* [n_outputs][n_embd], one step only */
	int64_t		busy_us;		/* time that the device worked on the plan */
	void	   *user;			/* the caller's own */
} g2_result;

typedef struct g2_backend_options
{
	uint32_t	threads;		/* compute threads, >= 1 */
	uint32_t	slots;			/* sampler slots; 0 = as many as suit the device */
	const char *isa;			/* CPU: one of G2_CPU_NAMES */
	uint32_t	nice;			/* of the threads that compute, 0 .. 19; 0 = as they are */
	const char *devices;		/* devices.h: gpt2.device; NULL = "auto" */
	void		(*log) (void *arg, const char *line);	/* devices.h: what an administrator should
														 * know; or NULL */
	void	   *log_arg;
	const char *failures;		/* devices.h: file that counts those of the device; NULL = none does */
	uint32_t	device;			/* CUDA: which one, from 0 */
	uint64_t	device_memory;	/* CUDA: bytes that are taken of it; 0 = most of what is free */
	bool		(*shrink) (void *arg);	/* CUDA: a model that is loaded wants memory: unmaps a slab of
										 * KV caches; false: none can be had; or NULL */
	void	   *shrink_arg;
} g2_backend_options;

/* What a device of its own says of itself; strings live as long as the back end. */
typedef struct g2_backend_device
{
	const char *name;			/* "NVIDIA H200" */
	const char *driver;
	uint64_t	free_bytes;		/* of the memory taken: for models and caches */
} g2_backend_device;

typedef struct g2_backend_api
{
	uint32_t	version;		/* G2_BACKEND_VERSION */
	const char *name;			/* "cpu", "cuda" */

	/* event_fd is an eventfd of the caller's, which stays open until after close. */
	bool		(*open) (const g2_backend_options *options, int event_fd, g2_backend **out,
						 g2_error *err);
	/* Waits for plans in flight, then frees everything. */
	void		(*close) (g2_backend *backend);
	/* Short name of what it runs on ("avx2", "sm90"), and the arithmetic identity of a format. */
	const char *(*isa) (const g2_backend *backend);
	const char *(*arithmetic) (const g2_backend *backend, g2_format format);
	/* NULL: the machine itself; likewise where it leaves the name NULL. */
	void		(*describe) (const g2_backend *backend, g2_backend_device *device);
	/* Sampler slots 0 .. n-1 of a device, from 0: so many sequences run there at once.  0: there is no
	 * such device; most back ends have one. */
	uint32_t	(*slots) (const g2_backend *backend, uint32_t device);

	/* weights must stay valid until model_unload.  0A000: a graph this device cannot run. */
	bool		(*model_load) (g2_backend *backend, const g2_weights *weights,
							   g2_backend_model **out, g2_error *err);
	/* Copies the weights to where the device wants them: once, before anything else is done with the
	 * model.  Waits, and may be called by another thread, while plans of other models run.  NULL: they
	 * are used where they are. */
	bool		(*model_fill) (g2_backend_model *model, const g2_weights *weights, g2_error *err);
	/* Only with none of the model's plans in flight. */
	void		(*model_unload) (g2_backend *backend, g2_backend_model *model);

	/* Bytes of one KV block of the model; then n_blocks of them (once per model; address space only,
	 * touched as blocks are used, or as slabs are mapped). */
	size_t		(*kv_block_bytes) (const g2_backend_model *model);
	bool		(*kv_reserve) (g2_backend_model *model, uint32_t n_blocks, g2_error *err);

	/* Of a device whose models share one memory; NULL in others, where a block has what it needs.
	 * There, a block can be used while its slab is mapped: slab i is blocks n i .. n i + n - 1.
	 * kv_slab: n, and the bytes that a slab takes.  kv_spare: slabs that can be mapped now.  kv_map:
	 * all zeros; false: none is spare. */
	uint32_t	(*kv_slab) (const g2_backend_model *model, size_t *bytes);
	uint32_t	(*kv_spare) (const g2_backend_model *model);
	bool		(*kv_map) (g2_backend_model *model, uint32_t slab);
	void		(*kv_unmap) (g2_backend_model *model, uint32_t slab);

	bool		(*kv_copy) (g2_backend_model *model, uint32_t to, uint32_t from, g2_error *err);
	bool		(*kv_zero) (g2_backend_model *model, const uint32_t *blocks, uint32_t n,
							g2_error *err);

	bool		(*slot_set) (g2_backend *backend, uint32_t slot, const g2_slot_state *state,
							 g2_error *err);

	/* Refuses (XX000) a plan that breaks a rule above; returns at once. */
	bool		(*step_submit) (g2_backend *backend, const g2_plan *plan, g2_result *result,
								g2_error *err);
	/* The oldest plan's result when it has ended, NULL when none has yet.  *failed is set (with
	 * *err) when that plan failed: its outputs mean nothing. */
	g2_result  *(*step_result) (g2_backend *backend, bool *failed, g2_error *err);

	/* Of a back end that has several devices; NULL in others.  place: where the next model shall be
	 * ("auto", "cpu", "cuda"); then where a model is, by number and name, and the arithmetic identity
	 * that it has there. */
	void		(*place) (g2_backend *backend, const char *device);
	uint32_t	(*device_number) (const g2_backend_model *model);
	const char *(*device) (const g2_backend_model *model);
	const char *(*model_arithmetic) (const g2_backend_model *model);
} g2_backend_api;

extern const g2_backend_api g2_cpu_backend;

#endif							/* G2_BACKEND_H */
