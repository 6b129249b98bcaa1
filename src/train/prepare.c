/*
 * prepare.c: from the spooled rows to windows of tokens: the tokenizer, learned or the base's, and
 * the graph; and whether there is memory for what follows.
 */
#include "job.h"

#include <math.h>

#include "adapter.h"
#include "file.h"
#include "learn.h"
#include "machine.h"
#include "model.h"
#include "network.h"
#include "optimizer.h"
#include "parameters.h"
#include "tokenizer_folder.h"

#define PASS_ROWS 1024
#define FEWEST_TOKENS 3			/* of a vocabulary that is not learned yet */

uint32_t
g2t_window_length(const g2t_job *job)
{
	return G2_MIN(job->arch.n_ctx, job->options->batch_tokens);
}

uint32_t
g2t_pass_rows(const g2t_job *job)
{
	return G2_MAX(g2t_window_length(job), G2_MIN(job->options->batch_tokens, PASS_ROWS));
}

/* ---- a model from nothing ---- */

static void
new_arch(g2t_job *job, uint32_t n_vocab)
{
	const g2_train *o = job->options;
	uint32_t	head_dim = o->n_embd / o->n_head;

	job->arch = (g2_arch) {
		.n_layer = o->n_layer, .n_embd = o->n_embd, .n_head = o->n_head, .n_kv_head = o->n_head,
		.head_dim = head_dim, .n_ff = 4 * o->n_embd, .n_ctx = o->context, .n_vocab = n_vocab,
		.norm = G2_NORM_LAYER, .norm_bias = 1, .norm_epsilon = 1e-5f,
		.position = G2_POSITION_LEARNED, .activation = G2_ACT_GELU_NEW, .fused_qkv = 1,
		.attn_bias = 1, .mlp_bias = 1, .attn_scale = 1.0f / sqrtf((float) head_dim),
		.tied_head = 1,
	};
}

static bool
learn(g2t_job *job, const char *folder, g2_error *err)
{
	uint32_t	n_vocab;

	if (!g2t_learn(&job->place, (g2t_tokenizer_kind) job->options->tokenizer,
				   job->options->vocab_size, folder, job->cancel, &n_vocab, err))
		return false;
	if (job->options->tokenizer == G2T_BPE && n_vocab < job->options->vocab_size)
		g2t_notice(job, G2_LEVEL_NOTICE, NULL, "the tokenizer has %u tokens: the rows have no "
				   "more pieces that occur twice", n_vocab);
	return true;
}

static bool
open_learned(g2t_job *job, g2_error *err)
{
	char		folder[G2T_MAX_PATH];
	uint32_t	ignored;

	g2t_place_path(&job->place, G2_TRAIN_FOLDER, folder);
	if (!g2t_windows_made(&job->place) &&
		(!g2t_folder_empty(job, err) || !learn(job, folder, err)))
		return false;
	if (!g2_tokenizer_of_folder(folder, NULL, G2_MAX_VOCAB, &job->tokenizer_blob,
								&job->tokenizer, &ignored, err))
		return false;
	if (!job->tokenizer)
		return g2_fail(err, G2_E_IO, "the tokenizer in \"%s\" is gone", folder);
	new_arch(job, g2_tokenizer_size(job->tokenizer));
	job->end_token = g2_tokenizer_find(job->tokenizer, G2T_END_OF_TEXT,
									   strlen(G2T_END_OF_TEXT));
	return g2_arch_check_sizes(&job->arch, "the new model", err);
}

/* ---- a model that is there ---- */

static bool
open_base(g2t_job *job, g2_error *err)
{
	const char *folder = g2t_text(job->options->base);
	g2_description d;

	if (!g2_model_describe(folder, &d, &job->tokenizer_blob, err))
		return false;
	job->arch = d.arch;
	job->end_token = d.end_token;
	g2_description_free(&d);
	if (!g2t_arch_check(&job->arch, err))
		return false;
	if (job->tokenizer_blob.len == 0)
	{
		g2_fail(err, G2_E_UNSUPPORTED, "a model without a tokenizer cannot be trained");
		return g2_fail_hint(err, "Put the tokenizer's files into its folder.");
	}
	return g2_tokenizer_open(job->tokenizer_blob.data, job->tokenizer_blob.len, &job->tokenizer,
							 err) && g2t_folder_empty(job, err);
}

/* ---- before rows are read ---- */

/* What it will take, before anything is allocated: a clear error instead of the kernel's help. */
static bool
check_memory(const g2t_job *job, g2_error *err)
{
	const g2_train *o = job->options;
	bool		all = o->base.len == 0 || o->lora_rank == 0;
	double		parameters = (double) g2_arch_parameters(&job->arch),
				adapters = all ? 0.0 : (double) g2t_adapters_size(&job->arch, o->lora_rank),
				trained = (double) g2t_method_arrays(o->optimizer) * sizeof(float),
				bytes = parameters * (all ? trained : sizeof(float)) + adapters * trained +
		(double) g2t_network_bytes(&job->arch, g2t_pass_rows(job), true),
				there = (double) g2_machine_memory();

	if (bytes <= there)
		return true;
	g2_fail(err, G2_E_MEMORY, "training a model of %.0f million parameters takes %.1f GB of "
			"memory, and the machine has %.1f GB", parameters / 1e6, bytes / 1e9, there / 1e9);
	return g2_fail_hint(err, o->base.len == 0 ? "Take a smaller model." :
						all ? "Take a smaller model, or lora_rank => 8." :
						"Take a smaller model, or a smaller lora_rank.");
}

bool
g2t_prepare_check(g2t_job *job, g2_error *err)
{
	bool		ok = true;

	if (job->options->base.len > 0)
		ok = open_base(job, err);
	else
		new_arch(job, FEWEST_TOKENS);
	ok = ok && check_memory(job, err);
	g2_tokenizer_close(job->tokenizer);
	g2_buf_free(&job->tokenizer_blob);
	job->tokenizer = NULL;
	return ok;
}

/* ---- windows ---- */

static void
tell_counts(const g2t_job *job)
{
	const g2t_data_counts *c = &job->counts;

	g2t_notice(job, G2_LEVEL_NOTICE, NULL, "%llu rows, %llu held out; %llu tokens to learn",
			   (unsigned long long) c->rows, (unsigned long long) c->held_out_rows,
			   (unsigned long long) c->tokens);
	if (c->short_rows > 0)
		g2t_notice(job, G2_LEVEL_NOTICE, NULL, "%llu rows are too short to learn from",
				   (unsigned long long) c->short_rows);
	if (c->unknown_tokens > 0)
		g2t_notice(job, G2_LEVEL_NOTICE, NULL, "%llu tokens stand for what the vocabulary lacks",
				   (unsigned long long) c->unknown_tokens);
	if (c->cut_rows > 0)
		g2t_notice(job, G2_LEVEL_NOTICE, NULL, "%llu rows are longer than %u tokens and are cut "
				   "into windows", (unsigned long long) c->cut_rows, g2t_window_length(job));
}

/* ---- all of it ---- */

bool
g2t_prepare(g2t_job *job, g2_error *err)
{
	const g2_train *o = job->options;
	bool		made,
				ok;

	g2t_progress(job, G2_TRAIN_TOKENIZING);
	if (!(o->base.len > 0 ? open_base(job, err) : open_learned(job, err)) ||
		!check_memory(job, err) || !g2t_folder_begin(job, err))
		return false;
	made = g2t_windows_made(&job->place);
	ok = made ? g2t_windows_counts(&job->place, &job->counts, err) :
		g2t_windows_make(&job->place, job->tokenizer, job->end_token, g2t_window_length(job),
						 o->eval_fraction, job->cancel, &job->counts, err);
	/* also where the process was killed before it could say so */
	if (ok && job->counts.tokens == 0)
	{
		g2_fail(err, G2_E_PARAM, "the query has no rows to learn from");
		return g2_fail_hint(err, "A row is a text, or a prompt and a completion, that is neither "
							"NULL nor empty.");
	}
	if (ok && !made)
		tell_counts(job);
	return ok;
}
