/*
 * training.c: the steps of a training, its evaluations and its checkpoints.
 *
 * A step: windows for batch_tokens rows; passes over some of them at a time, which add to the
 * gradient; the optimizer.  How a step is cut into passes depends on the options alone.
 *
 * A checkpoint is written when so much time has passed that writing it costs little, and before the
 * process ends for a cancel.  Weights change only when a step's gradient is whole and finite; the
 * checkpoint is written just before that, so that it has weights whose loss is a number.  What is
 * under way can be dropped: the step is done again.
 */
#include "training.h"

#include <math.h>

#define EVALUATION_STEPS 20		/* of held-out rows at most, in steps' rows */
#define CHECKPOINT_SHARE 20.0	/* writing takes a twentieth of the time at most */
#define NOTICE_SECONDS 10.0

/* ---- checkpoints ---- */

static bool
save(g2t_training *t, g2_error *err)
{
	int64_t		begin = g2_now_us();

	if (!g2t_checkpoint_write(&t->job->place, &t->state, &t->outcome->curve, t->trained, err))
		return false;
	g2t_place_touch(&t->job->place);
	t->saved_us = g2_now_us();
	t->saving_us = t->saved_us - begin;
	return true;
}

static bool
save_is_due(const g2t_training *t)
{
	double		passed = (double) (g2_now_us() - t->saved_us),
				wanted = t->job->checkpoint_seconds * 1e6;

	return t->state.step > 0 &&
		(wanted <= 0 || (passed > wanted && passed > CHECKPOINT_SHARE * (double) t->saving_us));
}

/* ---- steps ---- */

/* Adds the step's gradient; *loss is its mean. */
static bool
run_passes(g2t_training *t, double *loss, g2_error *err)
{
	double		sum = 0.0;

	for (uint32_t s = 0; s < t->batch.n_sequences;)
	{
		g2t_batch	pass;

		if (g2t_job_is_canceled(t->job, err))
			return false;
		s = g2t_step_pass(&t->batch, s, t->pass_rows, t->start, &pass);
		sum += g2t_network_backward(t->net, &pass, t->state.step,
									1.0f / (float) t->batch.learned);
	}
	*loss = sum / t->batch.learned;
	return true;
}

/* *finite = false: neither weights nor state have changed. */
static bool
run_step(g2t_training *t, bool *finite, g2_error *err)
{
	uint64_t	cursor = t->state.cursor;
	double		loss,
				norm;

	if (!g2t_windows_take(&t->windows, UINT64_MAX, &cursor, &t->batch, err) ||
		!run_passes(t, &loss, err))
		return false;
	norm = g2t_gradient_norm(&t->context, t->trained);
	*finite = isfinite(loss) && isfinite(norm);
	if (!*finite)
		return true;
	if (save_is_due(t) && !save(t, err))
		return false;
	g2t_optimize(&t->context, &t->optimizer, t->state.step, norm, t->trained);
	t->state.cursor = cursor;
	t->state.step++;
	t->state.tokens += t->batch.n;
	t->state.last_loss = loss;
	t->state.loss_sum += loss;
	t->state.since_point++;
	t->state.seconds = t->seconds_before + (double) (g2_now_us() - t->begun_us) / 1e6;
	return true;
}

/* The sum of the losses of the rows in the batch. */
static bool
batch_loss(g2t_training *t, double *sum, g2_error *err)
{
	*sum = 0.0;
	for (uint32_t s = 0; s < t->batch.n_sequences;)
	{
		g2t_batch	pass;

		if (g2t_job_is_canceled(t->job, err))
			return false;
		s = g2t_step_pass(&t->batch, s, t->pass_rows, t->start, &pass);
		*sum += g2t_network_loss(t->net, &pass);
	}
	return true;
}

/* The mean loss of held-out rows; the same rows each time. */
static bool
evaluate(g2t_training *t, double *loss, g2_error *err)
{
	uint64_t	cursor = 0,
				learned = 0;
	double		sum = 0.0,
				part;

	for (int i = 0; i < EVALUATION_STEPS && cursor < t->held_out.n; i++)
	{
		if (!g2t_windows_take(&t->held_out, t->held_out.n, &cursor, &t->batch, err) ||
			!batch_loss(t, &part, err))
			return false;
		sum += part;
		learned += t->batch.learned;
	}
	*loss = sum / (double) learned;
	return true;
}

static bool
note_evaluation(g2t_training *t, double loss, g2_error *err)
{
	g2t_state  *s = &t->state;

	/* A loss that is no number is no better than any. */
	if (isfinite(loss) && (s->best_step == 0 || loss < s->best_loss))
	{
		s->best_step = s->step;
		s->best_loss = loss;
		s->worse = 0;
		return g2t_best_write(&t->job->place, s->step, loss, t->trained, err);
	}
	s->worse++;
	return true;
}

/* A point of the curve, where one is due. */
static bool
add_point(g2t_training *t, g2_error *err)
{
	g2t_state  *s = &t->state;
	bool		last = s->step == t->steps,
				evaluates = t->held_out.n > 0 && (last || s->step % t->eval_every == 0);
	g2t_point	point = {.step = s->step, .evaluated = evaluates, .tokens = s->tokens,
	.rate = g2t_rate(&t->optimizer, s->step - 1), .seconds = s->seconds};

	if (!evaluates && !last && s->step % t->point_every != 0)
		return true;
	if (evaluates && (!evaluate(t, &point.held_out_loss, err) ||
					  !note_evaluation(t, point.held_out_loss, err)))
		return false;
	point.loss = s->loss_sum / s->since_point;
	s->loss_sum = 0.0;
	s->since_point = 0;
	return g2t_curve_add(&t->outcome->curve, &point, err);
}

/* ---- what others see, what outlives the process ---- */

static void
show_progress(g2t_training *t)
{
	g2_train_progress *p = &t->job->progress;
	double		seconds = t->state.seconds - t->seconds_before;

	p->rows = t->job->counts.rows;
	p->step = t->state.step;
	p->steps = t->steps;
	p->loss = t->state.step ? t->state.last_loss : NAN;
	p->held_out_loss = t->state.best_step ? t->state.best_loss : NAN;
	p->tokens = t->state.tokens;
	p->tokens_per_second = seconds > 0 ? (double) (t->state.tokens - t->tokens_before) / seconds
		: 0;
	g2t_progress(t->job, G2_TRAIN_STEPS);
}

static void
show(g2t_training *t)
{
	const g2_train_progress *p = &t->job->progress;
	int64_t		now = g2_now_us();
	double		left;

	show_progress(t);
	if ((double) (now - t->told_us) < NOTICE_SECONDS * 1e6 || p->tokens_per_second <= 0)
		return;
	t->told_us = now;
	left = (t->steps - t->state.step) * (double) t->state.tokens / t->state.step /
		p->tokens_per_second;
	if (t->state.best_step)
		g2t_notice(t->job, G2_LEVEL_NOTICE, NULL, "step %u of %u: loss %.4f, held-out loss %.4f, "
				   "%.0f tokens/s, %.0f s left", t->state.step, t->steps, p->loss,
				   p->held_out_loss, p->tokens_per_second, left);
	else
		g2t_notice(t->job, G2_LEVEL_NOTICE, NULL, "step %u of %u: loss %.4f, %.0f tokens/s, "
				   "%.0f s left", t->state.step, t->steps, p->loss, p->tokens_per_second, left);
}

/* ---- the end ---- */

/* Nobody has seen a loss of the last step's weights where no rows are held out: it is that of the
 * step that would come next. */
static bool
look_at_end(g2t_training *t, g2_error *err)
{
	uint64_t	cursor = t->state.cursor;
	double		sum = NAN;

	if (t->outcome->not_finite || t->state.best_step > 0)
		return true;
	if (t->held_out.n == 0 &&
		(!g2t_windows_take(&t->windows, UINT64_MAX, &cursor, &t->batch, err) ||
		 !batch_loss(t, &sum, err)))
		return false;
	t->outcome->not_finite = !isfinite(sum);
	return true;
}

/* The weights that the model gets: the best on held-out rows; after a loss that is no number and
 * without such, those of the last checkpoint before it. */
static bool
choose_weights(g2t_training *t, g2_error *err)
{
	g2t_outcome *o = t->outcome;
	bool		found = false;

	o->steps = t->steps;
	o->step = t->state.step;
	o->held_out_loss = NAN;
	if (t->state.best_step > 0 &&
		!g2t_best_read(&t->job->place, &o->step, &o->held_out_loss, t->trained, &found, err))
		return false;
	if (o->not_finite && !found)
	{
		g2t_state	state;

		if (!g2t_checkpoint_read(&t->job->place, &state, &o->curve, t->trained, &found, err))
			return false;
		if (!found || state.step == t->state.step)
		{
			g2_fail(err, G2_E_PARAM, "the loss of step %u is not a finite number",
					t->state.step + 1);
			return g2_fail_hint(err, "Try a lower learning_rate, more warmup_steps, or "
								"grad_clip => 1.");
		}
		o->step = state.step;
	}
	o->loss = o->curve.n > 0 ? o->curve.point[o->curve.n - 1].loss : NAN;
	if (t->adapters.n > 0 && !t->options->keep_adapter)
		g2t_adapters_merge(&t->context, &t->adapters,
						   (float) (t->options->lora_alpha / t->options->lora_rank), t->p);
	return true;
}

static void
tell_end(const g2t_training *t)
{
	const g2t_outcome *o = t->outcome;

	if (o->not_finite)
		g2t_notice(t->job, G2_LEVEL_WARNING, "Try a lower learning_rate, or grad_clip => 1.",
				   "training stopped: the loss of step %u is not a finite number; the model has "
				   "the weights of step %u", t->state.step + 1, o->step);
	else if (o->stopped_early)
		g2t_notice(t->job, G2_LEVEL_NOTICE, NULL, "training stopped after step %u: the held-out "
				   "loss has not fallen for %u evaluations", t->state.step, t->state.worse);
}

static bool
run(g2t_training *t, g2_error *err)
{
	bool		finite = true;

	show(t);
	if (t->state.since_point > 0 && !add_point(t, err))
		return false;			/* a cancel came while it was made */
	while (t->state.step < t->steps)
	{
		if (t->options->patience > 0 && t->state.worse >= t->options->patience)
		{
			t->outcome->stopped_early = true;
			break;
		}
		if (!run_step(t, &finite, err))
			return false;
		t->outcome->not_finite = !finite;
		if (!finite)
			break;
		if (!add_point(t, err))
			return false;
		show(t);
	}
	if (!look_at_end(t, err) || !choose_weights(t, err))
		return false;
	tell_end(t);
	return true;
}

/* A step that was under way is dropped; the point of the curve that was, too. */
static void
save_for_later(g2t_training *t)
{
	if (t->state.step == 0 || !t->net)
		return;
	(void) save(t, NULL);
	show_progress(t);
}

bool
g2t_train(g2t_job *job, g2t_parameters *p, g2t_outcome *outcome, g2_error *err)
{
	g2t_training t = {.job = job, .options = job->options, .p = p, .outcome = outcome,
	.windows = {.tokens_fd = -1, .index_fd = -1}, .held_out = {.tokens_fd = -1, .index_fd = -1}};
	bool		ok;

	ok = g2t_training_open(&t, err) && run(&t, err);
	if (!ok && err->code == G2_E_CANCELED)
		save_for_later(&t);
	if (ok && job->options->keep_adapter)
	{
		g2t_parameters_close(p);
		*p = t.adapters;
		t.adapters = (g2t_parameters) {0};
	}
	g2t_training_close(&t);
	return ok;
}
