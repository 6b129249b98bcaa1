/*
 * protocol_train.c: encoding of protocol_train.h.  Compiled into both sides.
 */
#include "protocol_train.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void
g2_train_encode(g2_writer *w, const g2_train *m)
{
	const g2_span spans[] = {m->model, m->base, m->query};
	const uint32_t numbers[] = {m->database, m->tokenizer, m->vocab_size,
		m->n_layer, m->n_head, m->n_embd, m->context, m->lora_rank, m->steps, m->batch_tokens,
	m->optimizer, m->schedule, m->warmup_steps, m->eval_every, m->patience};
	const double reals[] = {m->lora_alpha, m->epochs, m->learning_rate, m->beta1, m->beta2,
	m->weight_decay, m->grad_clip, m->dropout, m->eval_fraction};

	for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++)
		g2_put_span(w, spans[i]);
	g2_owner_put(w, &m->owner);
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		g2_put_u32(w, numbers[i]);
	for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
		g2_put_f64(w, reals[i]);
	g2_put_u64(w, m->seed);
	g2_put_u32(w, m->replace);
	g2_put_u32(w, m->threads);
	g2_put_u32(w, m->nice);
	g2_put_u64(w, m->memory);
	g2_owner_put(w, &m->replaced);
	g2_put_u32(w, m->keep_adapter);
	g2_put_u64(w, m->keep_free);
	g2_put_u32(w, m->checkpoint_seconds);
}

bool
g2_train_decode(const void *p, size_t n, g2_train *m)
{
	g2_reader	r = g2_read(p, n);
	g2_span    *const spans[] = {&m->model, &m->base, &m->query};
	uint32_t   *const numbers[] = {&m->database, &m->tokenizer, &m->vocab_size,
		&m->n_layer, &m->n_head, &m->n_embd, &m->context, &m->lora_rank, &m->steps,
		&m->batch_tokens, &m->optimizer, &m->schedule, &m->warmup_steps, &m->eval_every,
	&m->patience};
	double	   *const reals[] = {&m->lora_alpha, &m->epochs, &m->learning_rate, &m->beta1,
	&m->beta2, &m->weight_decay, &m->grad_clip, &m->dropout, &m->eval_fraction};

	memset(m, 0, sizeof *m);
	for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++)
		*spans[i] = g2_get_span(&r);
	m->owner = g2_owner_get(&r);
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		*numbers[i] = g2_get_u32(&r);
	for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
		*reals[i] = g2_get_f64(&r);
	m->seed = g2_get_u64(&r);
	m->replace = g2_get_u32(&r);
	m->threads = g2_get_u32(&r);
	m->nice = g2_get_u32(&r);
	m->memory = g2_get_u64(&r);
	m->replaced = g2_owner_get(&r);
	m->keep_adapter = g2_get_u32(&r);
	m->keep_free = g2_get_u64(&r);
	m->checkpoint_seconds = g2_get_u32(&r);
	return !r.failed;
}

void
g2_train_row_encode(g2_writer *w, const g2_train_row *row)
{
	g2_put_u32(w, row->has_prompt);
	if (row->has_prompt)
		g2_put_span(w, row->prompt);
	g2_put_span(w, row->text);
}

bool
g2_train_row_get(g2_reader *r, g2_train_row *row)
{
	if (r->at >= r->end || r->failed)
		return false;
	row->has_prompt = g2_get_u32(r);
	row->prompt = (g2_span) {0};
	if (row->has_prompt)
		row->prompt = g2_get_element(r);
	row->text = g2_get_element(r);
	return !r->failed;
}

/* FNV-1a, 32 bit, of what follows the sum. */
uint32_t
g2_train_progress_sum(const g2_train_progress *p)
{
	const unsigned char *at = (const unsigned char *) &p->phase,
			   *end = (const unsigned char *) (p + 1);
	uint32_t	h = 2166136261u;

	while (at < end)
		h = (h ^ *at++) * 16777619u;
	return h;
}

bool
g2_train_progress_is_whole(const g2_train_progress *p)
{
	return p->magic == G2_TRAIN_PROGRESS_MAGIC && p->sum == g2_train_progress_sum(p) &&
		memchr(p->model, '\0', sizeof p->model) != NULL;
}

/* A folder keeps its inode when it is moved.  What it was exchanged with has another. */
bool
g2_train_is_done(const char *directory, const g2_train_progress *p)
{
	char		path[1024];
	struct stat st;

	if (p->folder == 0 ||
		snprintf(path, sizeof path, "%s/" G2_TRAIN_FOLDER, directory) >= (int) sizeof path)
		return false;
	if (lstat(path, &st) == 0)
		return st.st_ino != p->folder;
	return errno == ENOENT;
}
