/*
 * training_open.c: what a training needs: weights, windows, a network, and where it stood.
 */
#include "training.h"

#define EVALUATIONS 20			/* without eval_every */
#define POINTS 500				/* of the curve */
#define MOST_WARMUP 100			/* steps, without warmup_steps */

static bool
open_weights(g2t_training *t, g2_error *err)
{
	const g2_train *o = t->options;
	const g2_arch *arch = &t->job->arch;
	const g2t_arrays arrays = g2t_method_arrays((g2t_method) o->optimizer);
	bool		all = o->base.len == 0 || o->lora_rank == 0;

	if (!g2t_parameters_open(arch, all ? arrays : G2T_WEIGHTS, t->p, err))
		return false;
	if (o->base.len > 0)
	{
		if (!g2t_parameters_read(g2t_text(o->base), arch, t->p, err) ||
			!g2t_job_check_base(t->job, err))
			return false;
	}
	else
		g2t_parameters_start(t->p, arch->n_layer, o->seed, t->job->cancel);
	if (g2t_job_is_canceled(t->job, err))
		return false;
	t->trained = t->p;
	if (all)
		return true;
	if (!g2t_adapters_open(arch, o->lora_rank, arrays, &t->adapters, err))
		return false;
	g2t_parameters_start(&t->adapters, arch->n_layer, o->seed, NULL);
	t->trained = &t->adapters;
	return true;
}

static bool
open_data(g2t_training *t, g2_error *err)
{
	const g2_train *o = t->options;
	const g2t_place *place = &t->job->place;
	uint32_t	length = g2t_window_length(t->job),
				n_vocab = t->job->arch.n_vocab;

	t->pass_rows = g2t_pass_rows(t->job);
	t->start = g2_alloc_array((size_t) t->pass_rows + 1, sizeof *t->start);
	if (!t->start)
		return g2_fail_memory(err, t->pass_rows * sizeof *t->start);
	return g2t_windows_open(place, false, o->seed, length, n_vocab, &t->windows, err) &&
		g2t_windows_open(place, true, 0, length, n_vocab, &t->held_out, err) &&
		g2t_step_open(o->batch_tokens, &t->batch, err);
}

static bool
choose_steps(g2t_training *t, g2_error *err)
{
	const g2_train *o = t->options;
	double		steps = o->steps;

	if (o->steps == 0)
	{
		if (!g2t_windows_steps(&t->windows, o->batch_tokens, o->epochs, &steps, err))
			return false;
		if (steps > G2_TRAIN_MAX_STEPS)
			return g2_fail(err, G2_E_PARAM, "%g epochs are %.0f steps, more than %d", o->epochs,
						   steps, G2_TRAIN_MAX_STEPS);
	}
	t->steps = (uint32_t) steps;
	t->eval_every = o->eval_every ? o->eval_every : G2_MAX(1, t->steps / EVALUATIONS);
	if (t->held_out.n > 0 && t->steps / t->eval_every > G2_TRAIN_MAX_EVALUATIONS)
		return g2_fail(err, G2_E_PARAM, "eval_every must be at least %u for %u steps",
					   t->steps / G2_TRAIN_MAX_EVALUATIONS, t->steps);
	t->point_every = G2_MAX(1, t->steps / POINTS);
	t->optimizer = (g2t_optimizer) {
		.method = (g2t_method) o->optimizer, .schedule = (g2t_schedule) o->schedule,
		.steps = t->steps,
		.warmup = o->warmup_steps == G2_TRAIN_AUTO ? G2_MIN(t->steps / 10, MOST_WARMUP)
			: o->warmup_steps,
		.rate = o->learning_rate,
		.decay = o->weight_decay, .clip = o->grad_clip, .beta1 = o->beta1, .beta2 = o->beta2,
		.epsilon = 1e-8,
	};
	return true;
}

static bool
open_network(g2t_training *t, g2_error *err)
{
	const g2_train *o = t->options;
	const g2_arch *arch = &t->job->arch;
	g2t_network_options n = {
		.rows = t->pass_rows, .dropout = (float) o->dropout, .seed = o->seed,
		.adapter_scale = o->lora_rank ? (float) (o->lora_alpha / o->lora_rank) : 0.0f,
		.recompute = g2t_network_bytes(arch, t->pass_rows, false) > o->memory,
	};

	return g2t_network_open(arch, &t->context, t->p, &t->adapters, &n, &t->net, err);
}

bool
g2t_training_open(g2t_training *t, g2_error *err)
{
	const g2_train *o = t->options;
	bool		found;

	if (!g2t_context_open(o->threads, o->nice, g2t_attention_scratch(t->job->arch.n_ctx),
						  &t->context, err) ||
		!open_weights(t, err) || !open_data(t, err) || !choose_steps(t, err) ||
		!open_network(t, err) ||
		!g2t_checkpoint_read(&t->job->place, &t->state, &t->outcome->curve, t->trained, &found,
							 err))
		return false;
	if (t->options->patience > 0 && t->held_out.n == 0)
		g2t_notice(t->job, G2_LEVEL_NOTICE, NULL, "no rows are held out, so that patience has no "
				   "effect");
	if (found)
		g2t_notice(t->job, G2_LEVEL_NOTICE, NULL, "going on after step %u", t->state.step);
	t->seconds_before = t->state.seconds;
	t->tokens_before = t->state.tokens;
	t->begun_us = t->saved_us = t->told_us = g2_now_us();
	return true;
}

void
g2t_training_close(g2t_training *t)
{
	g2t_network_close(t->net);
	g2t_parameters_close(&t->adapters);
	g2t_windows_close(&t->windows);
	g2t_windows_close(&t->held_out);
	g2t_step_close(&t->batch);
	g2_free(t->start);
	g2t_context_close(&t->context);
}
