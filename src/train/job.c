/*
 * job.c: one training: its options, its name, its phases.
 */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "learn.h"
#include "model.h"
#include "optimizer.h"
#include "pack.h"
#include "parameters.h"
#include "unicode.h"

/* Another number for other files in a training's directory, or other results of the same options:
 * what an older version has left there is begun again. */
#define RULES 3

/* ---- options ---- */

const char *
g2t_text(g2_span s)
{
	static char text[2][G2T_MAX_PATH];
	static int	next;
	char	   *t = text[next ^= 1];
	size_t		n = G2_MIN(s.len, (size_t) G2T_MAX_PATH - 1);

	memcpy(t, s.data, n);
	t[n] = '\0';
	return t;
}

static bool
check_number(const char *name, double value, double least, double most, g2_error *err)
{
	if (value >= least && value <= most)
		return true;
	return g2_fail(err, G2_E_PARAM, "%s must be between %.10g and %.10g", name, least, most);
}

static bool
check_shape(const g2_train *o, g2_error *err)
{
	const bool	bpe = o->tokenizer == G2T_BPE;

	if (o->tokenizer > G2T_BPE)
		return g2_fail(err, G2_E_PARAM, "tokenizer must be char, byte or bpe");
	if (!check_number("n_layer", o->n_layer, 1, G2_TRAIN_MAX_LAYERS, err) ||
		!check_number("n_embd", o->n_embd, 1, G2_TRAIN_MAX_EMBD, err) ||
		!check_number("n_head", o->n_head, 1, o->n_embd, err) ||
		!check_number("context", o->context, 2, G2_TRAIN_MAX_CONTEXT, err))
		return false;
	if (o->n_embd % o->n_head != 0)
		return g2_fail(err, G2_E_PARAM, "n_embd must be a multiple of n_head");
	if (bpe || (o->tokenizer == G2T_CHAR && o->vocab_size != 0))
		return check_number("vocab_size", o->vocab_size, bpe ? G2T_BYTES_VOCAB : 3, G2_MAX_VOCAB,
							err);
	return true;
}

static bool
check_steps(const g2_train *o, g2_error *err)
{
	if (o->steps == 0 && !check_number("epochs", o->epochs, 0.001, 1e6, err))
		return false;
	return check_number("steps", o->steps, 0, G2_TRAIN_MAX_STEPS, err) &&
		check_number("batch_tokens", o->batch_tokens, 2, G2_TRAIN_MAX_BATCH, err) &&
		check_number("threads", o->threads, 1, 1024, err);
}

static bool
check_rates(const g2_train *o, g2_error *err)
{
	if (o->optimizer > G2T_SGD || o->schedule > G2T_LINEAR)
		return g2_fail(err, G2_E_PARAM, "unknown optimizer or schedule");
	return check_number("learning_rate", o->learning_rate, 1e-10, 100, err) &&
		check_number("beta1", o->beta1, 0, 0.9999, err) &&
		check_number("beta2", o->beta2, 0, 0.999999, err) &&
		check_number("weight_decay", o->weight_decay, 0, 100, err) &&
		check_number("grad_clip", o->grad_clip, 0, 1e6, err) &&
		check_number("dropout", o->dropout, 0, 0.9, err) &&
		check_number("eval_fraction", o->eval_fraction, 0, 0.5, err) &&
		(o->patience == 0 || o->eval_fraction > 0 ||
		 g2_fail(err, G2_E_PARAM, "patience needs rows that are held out")) &&
		check_number("lora_rank", o->lora_rank, 0, G2_TRAIN_MAX_RANK, err) &&
		check_number("lora_alpha", o->lora_alpha, 0, 1e4, err) &&
		(!o->keep_adapter || o->lora_rank > 0 ||
		 g2_fail(err, G2_E_PARAM, "only an adapter can be kept beside its base"));
}

bool
g2t_job_check(const g2_train *o, g2_error *err)
{
	/* gpt2.json will have it */
	if (g2_utf8_valid_prefix(o->owner.name.data, o->owner.name.len) != o->owner.name.len)
		return g2_fail(err, G2_E_PARAM, "the name of the role is not valid UTF-8");
	return g2_model_name_check(o->model.data, o->model.len, err) &&
		check_number("the length of the model's name", o->model.len, 1, G2_TRAIN_MAX_NAME, err) &&
		(o->base.len > 0 ? check_number("the length of the base's path", o->base.len, 1,
										G2T_MAX_PATH - 1, err)
		 : check_shape(o, err)) &&
		check_steps(o, err) && check_rates(o, err);
}

/* ---- its name ---- */

static void *
writer_grow(void *data, size_t bytes)
{
	return g2_realloc(data, bytes);
}

bool
g2t_job_hash(const g2_train *options, char hex[65], char base[65], g2_error *err)
{
	g2_writer	w = {.grow = writer_grow};
	g2_train	same = *options;
	g2_hash    *hash = g2_hash_new(err);
	uint8_t		digest[G2_HASH];
	bool		ok = hash != NULL;

	base[0] = '\0';
	same.replace = same.threads = same.nice = 0;
	same.replaced = (g2_owner) {0};
	same.owner.name = (g2_span) {0};	/* the OID says who: the role may be renamed */
	same.memory = same.keep_free = 0;
	same.checkpoint_seconds = 0;
	g2_put_u32(&w, RULES);
	g2_train_encode(&w, &same);
	if (ok && w.failed)
		ok = g2_fail_memory(err, w.len);
	if (ok)
	{
		ok = options->base.len == 0 || g2_model_content_hash(g2t_text(options->base), base, err);
		g2_hash_add(hash, w.data, w.len);
		g2_hash_add(hash, base, strlen(base));
		ok = ok && g2_hash_end(hash, digest, err);
	}
	if (ok)
		g2_hash_hex(digest, G2_HASH, hex);
	g2_hash_free(hash);
	g2_free(w.data);
	return ok;
}

bool
g2t_job_check_base(const g2t_job *job, g2_error *err)
{
	char		now[65];

	if (job->options->base.len == 0)
		return true;
	if (!g2_model_content_hash(g2t_text(job->options->base), now, err))
		return false;
	if (strcmp(now, job->base_hash) == 0)
		return true;
	g2_fail(err, G2_E_VERSION, "the base model was replaced while it was read");
	return g2_fail_hint(err, "Try again.");
}

/* ---- what others see ---- */

void
g2t_notice(const g2t_job *job, g2_level level, const char *hint, const char *fmt, ...)
{
	char		message[512];
	va_list		ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	if (job->notice)
		job->notice(job->arg, level, message, hint);
}

bool
g2t_job_is_canceled(const g2t_job *job, g2_error *err)
{
	if (!atomic_load(job->cancel))
		return false;
	g2_fail(err, G2_E_CANCELED, "canceling training due to user request");
	return true;
}

static int64_t
unix_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void
g2t_progress(g2t_job *job, g2_train_phase phase)
{
	g2_train_progress *p = &job->progress;
	char		path[G2T_MAX_PATH];

	if (job->progress_fd < 0)
	{
		g2t_place_path(&job->place, G2_TRAIN_PROGRESS_FILE, path);
		job->progress_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
								G2_FILE_MODE);
	}
	if (p->started_us == 0)
		p->started_us = unix_us();
	p->magic = G2_TRAIN_PROGRESS_MAGIC;
	p->phase = phase;
	p->updated_us = unix_us();
	p->sum = g2_train_progress_sum(p);
	/* Nothing depends on it: a full disk shows elsewhere. */
	if (job->progress_fd >= 0 && pwrite(job->progress_fd, p, sizeof *p, 0) < 0)
		errno = 0;
}

/* A file that cannot be synced only makes a crash of the machine cost more. */
bool
g2t_progress_last(g2t_job *job, const char *folder, g2_error *err)
{
	struct stat st;

	if (lstat(folder, &st) != 0)
		return g2_fail_errno(err, errno, "stat", folder);
	job->progress.folder = st.st_ino;
	g2t_progress(job, G2_TRAIN_WRITING);
	if (job->progress_fd >= 0)
		(void) fsync(job->progress_fd);
	return true;
}

/* ---- its phases ---- */

/* A finite loss may be a bad one: a model that says all tokens to be as likely has log(tokens). */
static void
tell_failure(const g2t_job *job, const g2t_outcome *o)
{
	double		loss = isnan(o->held_out_loss) ? o->loss : o->held_out_loss,
				guess = log(job->arch.n_vocab);

	if (loss >= guess)
		g2t_notice(job, G2_LEVEL_WARNING, "Try another learning_rate, or more steps.",
				   "the model is no better on these rows than a guess: its loss is %.4g, and %.4g "
				   "where all tokens are as likely", loss, guess);
}

/* Only an adapter that is kept needs its base after the training. */
static void
tell_base(const g2t_job *job)
{
	if (job->options->keep_adapter && !g2t_job_check_base(job, NULL))
		g2t_notice(job, G2_LEVEL_WARNING, "Put the base's old files back, or train the adapter "
				   "again.", "the base of adapter \"%s\" was replaced or removed while it was "
				   "trained: it will not load", g2t_text(job->options->model));
}

static void
tell_made(const g2t_job *job, const g2t_outcome *o)
{
	char		held_out[64] = "";

	tell_failure(job, o);
	tell_base(job);
	if (isfinite(o->held_out_loss))
		snprintf(held_out, sizeof held_out, ", held-out loss %.4g", o->held_out_loss);
	g2t_notice(job, G2_LEVEL_NOTICE, NULL, "model \"%s\" has the weights of step %u of %u: loss "
			   "%.4g at the end%s", g2t_text(job->options->model), o->step, o->steps, o->loss,
			   held_out);
}

static void
close_job(g2t_job *job)
{
	g2_tokenizer_close(job->tokenizer);
	g2_buf_free(&job->tokenizer_blob);
	job->tokenizer = NULL;
	if (job->progress_fd >= 0)
		close(job->progress_fd);
	job->progress_fd = -1;
}

bool
g2t_job_run(g2t_job *job, const char *models, g2_error *err)
{
	g2t_parameters p = {0};
	g2t_outcome outcome = {0};
	bool		ok;

	ok = g2t_prepare(job, err) && g2t_train(job, &p, &outcome, err);
	if (ok)
	{
		g2t_progress(job, G2_TRAIN_WRITING);
		ok = g2t_write_model(job, &p, &outcome, models, err);
		if (ok)
			tell_made(job, &outcome);
	}
	g2t_parameters_close(&p);
	g2_free(outcome.curve.point);
	close_job(job);
	if (ok)
		g2t_place_remove(&job->place);
	return ok;
}
