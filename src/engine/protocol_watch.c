/*
 * protocol_watch.c: the messages that say what the engine does and has done, its settings, and the
 * file of saved counters.  Plain C, compiled into both the engine and the PostgreSQL library.
 *
 * Each row is a span of its own, so that rows can be extended at their end.
 */
#include "protocol_watch.h"

#include <string.h>

static size_t
row_begin(g2_writer *w)
{
	size_t		begin = w->len;

	g2_put_u32(w, 0);
	return begin;
}

static void
row_end(g2_writer *w, size_t begin)
{
	uint32_t	len;

	if (w->failed)
		return;
	len = (uint32_t) (w->len - begin - sizeof len);
	memcpy(w->data + begin, &len, sizeof len);
}

static g2_reader
row_read(g2_reader *r)
{
	g2_span		row = g2_get_element(r);

	return g2_read(row.data, row.len);
}

/* ---- models, the engine as a whole ---- */

void
g2_model_row_encode(g2_writer *w, const g2_model_row *m)
{
	size_t		begin = row_begin(w);

	g2_put_span(w, m->name);
	g2_put_u32(w, m->state);
	g2_put_u32(w, m->percent);
	g2_put_span(w, m->architecture);
	g2_put_u64(w, m->parameters);
	g2_put_u32(w, m->context_length);
	g2_put_u32(w, m->vocab_size);
	g2_put_span(w, m->tokenizer);
	g2_put_span(w, m->format);
	g2_put_span(w, m->device);
	g2_put_u64(w, m->bytes);
	g2_put_span(w, m->content_hash);
	g2_put_span(w, m->error);
	g2_put_u64(w, (uint64_t) m->loaded_at);
	g2_put_u64(w, (uint64_t) m->last_used_at);
	g2_put_names(w, m->roles, m->n_roles);
	g2_put_u32(w, m->restricted);
	g2_put_span(w, m->base);
	g2_owner_put(w, &m->owner);
	row_end(w, begin);
}

void
g2_model_row_get(g2_reader *r, g2_model_row *m)
{
	g2_reader	in = row_read(r);

	m->name = g2_get_span(&in);
	m->state = g2_get_u32(&in);
	m->percent = g2_get_u32(&in);
	m->architecture = g2_get_span(&in);
	m->parameters = g2_get_u64(&in);
	m->context_length = g2_get_u32(&in);
	m->vocab_size = g2_get_u32(&in);
	m->tokenizer = g2_get_span(&in);
	m->format = g2_get_span(&in);
	m->device = g2_get_span(&in);
	m->bytes = g2_get_u64(&in);
	m->content_hash = g2_get_span(&in);
	m->error = g2_get_span(&in);
	m->loaded_at = (int64_t) g2_get_u64(&in);
	m->last_used_at = (int64_t) g2_get_u64(&in);
	m->n_roles = g2_get_names(&in, m->roles, G2_MAX_ROLES);
	m->restricted = g2_get_u32(&in);
	m->base = g2_get_span(&in);
	m->owner = g2_owner_get(&in);
	r->failed |= in.failed;
}

void
g2_info_encode(g2_writer *w, const g2_info *m)
{
	g2_put_span(w, m->version);
	g2_put_span(w, m->arithmetic);
	g2_put_span(w, m->isa);
	g2_put_span(w, m->blas);
	g2_put_span(w, m->cuda_device);
	g2_put_span(w, m->cuda_driver);
	g2_put_u32(w, m->threads);
	g2_put_u32(w, m->supervisor_pid);
	g2_put_u32(w, m->engine_pid);
	g2_put_u64(w, (uint64_t) m->started_at);
	g2_put_u32(w, m->live_requests);
	g2_put_u32(w, m->live_sequences);
	g2_put_u64(w, m->kv_blocks_used);
	g2_put_u64(w, m->kv_blocks_total);
	g2_put_u32(w, m->restart_pending);
}

bool
g2_info_decode(const void *p, size_t n, g2_info *m)
{
	g2_reader	r = g2_read(p, n);

	m->version = g2_get_span(&r);
	m->arithmetic = g2_get_span(&r);
	m->isa = g2_get_span(&r);
	m->blas = g2_get_span(&r);
	m->cuda_device = g2_get_span(&r);
	m->cuda_driver = g2_get_span(&r);
	m->threads = g2_get_u32(&r);
	m->supervisor_pid = g2_get_u32(&r);
	m->engine_pid = g2_get_u32(&r);
	m->started_at = (int64_t) g2_get_u64(&r);
	m->live_requests = g2_get_u32(&r);
	m->live_sequences = g2_get_u32(&r);
	m->kv_blocks_used = g2_get_u64(&r);
	m->kv_blocks_total = g2_get_u64(&r);
	m->restart_pending = g2_get_u32(&r);
	return !r.failed;
}

void
g2_request_row_encode(g2_writer *w, const g2_request_row *m)
{
	size_t		begin = row_begin(w);

	g2_put_u32(w, m->pid);
	g2_put_u32(w, m->session_user);
	g2_put_u32(w, m->database);
	g2_put_span(w, m->model);
	g2_put_u32(w, m->state);
	g2_put_u32(w, m->sequence);
	g2_put_u32(w, m->prompt_tokens);
	g2_put_u32(w, m->generated_tokens);
	g2_put_u32(w, m->max_len);
	g2_put_u64(w, (uint64_t) m->queued_at);
	g2_put_u64(w, (uint64_t) m->started_at);
	row_end(w, begin);
}

void
g2_request_row_get(g2_reader *r, g2_request_row *m)
{
	g2_reader	in = row_read(r);

	m->pid = g2_get_u32(&in);
	m->session_user = g2_get_u32(&in);
	m->database = g2_get_u32(&in);
	m->model = g2_get_span(&in);
	m->state = g2_get_u32(&in);
	m->sequence = g2_get_u32(&in);
	m->prompt_tokens = g2_get_u32(&in);
	m->generated_tokens = g2_get_u32(&in);
	m->max_len = g2_get_u32(&in);
	m->queued_at = (int64_t) g2_get_u64(&in);
	m->started_at = (int64_t) g2_get_u64(&in);
	r->failed |= in.failed;
}

void
g2_usage_row_encode(g2_writer *w, const g2_usage_row *m)
{
	size_t		begin = row_begin(w);

	g2_put_u32(w, m->month);
	g2_put_u32(w, m->role);
	g2_put_u32(w, m->database);
	g2_put_span(w, m->model);
	g2_put_u64(w, m->calls);
	g2_put_u64(w, m->sequences);
	g2_put_u64(w, m->prompt_tokens);
	g2_put_u64(w, m->cached_tokens);
	g2_put_u64(w, m->completion_tokens);
	g2_put_u64(w, m->result_hits);
	g2_put_u64(w, m->truncated);
	g2_put_u64(w, m->errors);
	g2_put_u64(w, m->cancelled);
	g2_put_u64(w, m->queue_us);
	g2_put_u64(w, m->compute_us);
	g2_put_f64(w, m->cost);
	row_end(w, begin);
}

void
g2_usage_row_get(g2_reader *r, g2_usage_row *m)
{
	g2_reader	in = row_read(r);

	m->month = g2_get_u32(&in);
	m->role = g2_get_u32(&in);
	m->database = g2_get_u32(&in);
	m->model = g2_get_span(&in);
	m->calls = g2_get_u64(&in);
	m->sequences = g2_get_u64(&in);
	m->prompt_tokens = g2_get_u64(&in);
	m->cached_tokens = g2_get_u64(&in);
	m->completion_tokens = g2_get_u64(&in);
	m->result_hits = g2_get_u64(&in);
	m->truncated = g2_get_u64(&in);
	m->errors = g2_get_u64(&in);
	m->cancelled = g2_get_u64(&in);
	m->queue_us = g2_get_u64(&in);
	m->compute_us = g2_get_u64(&in);
	m->cost = g2_get_f64(&in);
	r->failed |= in.failed;
}

void
g2_engine_row_encode(g2_writer *w, const g2_engine_row *m)
{
	size_t		begin = row_begin(w);

	g2_put_span(w, m->model);
	g2_put_span(w, m->format);
	g2_put_u64(w, m->steps);
	g2_put_u64(w, m->step_sequences);
	g2_put_u64(w, m->prompt_tokens);
	g2_put_u64(w, m->completion_tokens);
	g2_put_u64(w, m->busy_us);
	g2_put_f64(w, m->tokens_per_second);
	g2_put_u64(w, m->kv_blocks_used);
	g2_put_u64(w, m->kv_blocks_cached);
	g2_put_u64(w, m->kv_blocks_total);
	g2_put_u64(w, m->prefix_asked);
	g2_put_u64(w, m->prefix_hits);
	g2_put_u64(w, m->preemptions);
	g2_put_u32(w, m->running);
	g2_put_u32(w, m->queued);
	g2_put_u64(w, m->bytes);
	g2_put_u64(w, m->drafted_tokens);
	g2_put_u64(w, m->drafts_kept);
	row_end(w, begin);
}

void
g2_engine_row_get(g2_reader *r, g2_engine_row *m)
{
	g2_reader	in = row_read(r);

	m->model = g2_get_span(&in);
	m->format = g2_get_span(&in);
	m->steps = g2_get_u64(&in);
	m->step_sequences = g2_get_u64(&in);
	m->prompt_tokens = g2_get_u64(&in);
	m->completion_tokens = g2_get_u64(&in);
	m->busy_us = g2_get_u64(&in);
	m->tokens_per_second = g2_get_f64(&in);
	m->kv_blocks_used = g2_get_u64(&in);
	m->kv_blocks_cached = g2_get_u64(&in);
	m->kv_blocks_total = g2_get_u64(&in);
	m->prefix_asked = g2_get_u64(&in);
	m->prefix_hits = g2_get_u64(&in);
	m->preemptions = g2_get_u64(&in);
	m->running = g2_get_u32(&in);
	m->queued = g2_get_u32(&in);
	m->bytes = g2_get_u64(&in);
	m->drafted_tokens = g2_get_u64(&in);
	m->drafts_kept = g2_get_u64(&in);
	r->failed |= in.failed;
}

void
g2_progress_row_encode(g2_writer *w, const g2_progress_row *m)
{
	size_t		begin = row_begin(w);

	g2_put_u64(w, m->number);
	g2_put_u32(w, m->ended);
	g2_put_u32(w, m->pid);
	g2_put_u32(w, m->session_user);
	g2_put_u32(w, m->database);
	g2_put_span(w, m->command);
	g2_put_u32(w, m->relation);
	g2_put_u64(w, (uint64_t) m->total);
	g2_put_u64(w, m->done);
	g2_put_u64(w, m->failed);
	g2_put_u64(w, m->tokens);
	g2_put_u64(w, (uint64_t) m->started_at);
	row_end(w, begin);
}

void
g2_progress_row_get(g2_reader *r, g2_progress_row *m)
{
	g2_reader	in = row_read(r);

	m->number = g2_get_u64(&in);
	m->ended = g2_get_u32(&in);
	m->pid = g2_get_u32(&in);
	m->session_user = g2_get_u32(&in);
	m->database = g2_get_u32(&in);
	m->command = g2_get_span(&in);
	m->relation = g2_get_u32(&in);
	m->total = (int64_t) g2_get_u64(&in);
	m->done = g2_get_u64(&in);
	m->failed = g2_get_u64(&in);
	m->tokens = g2_get_u64(&in);
	m->started_at = (int64_t) g2_get_u64(&in);
	r->failed |= in.failed;
}

/* ---- saved counters ---- */

/* FNV-1a, 64 bit (Fowler, Noll, Vo): against torn and damaged files, not against forgers. */
static uint64_t
checksum(const void *data, size_t n)
{
	const unsigned char *p = data;
	uint64_t	h = 0xCBF29CE484222325u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001B3u;
	return h;
}

g2_usage_header
g2_usage_file_header(uint64_t system_identifier, uint32_t timeline, const void *payload, size_t n)
{
	return (g2_usage_header) {
		.magic = G2_USAGE_MAGIC,
		.version = G2_USAGE_VERSION,
		.system_identifier = system_identifier,
		.timeline = timeline,
		.length = (uint32_t) n,
		.checksum = checksum(payload, n),
	};
}

bool
g2_usage_file_check(const void *data, size_t n, uint64_t system_identifier, uint32_t timeline,
					g2_span *payload)
{
	g2_usage_header header;

	if (n < sizeof header || n > G2_MAX_USAGE_FILE)
		return false;
	memcpy(&header, data, sizeof header);
	if (header.magic != G2_USAGE_MAGIC || header.version != G2_USAGE_VERSION ||
		header.system_identifier != system_identifier || header.timeline != timeline ||
		header.length != n - sizeof header)
		return false;
	*payload = (g2_span) {(const char *) data + sizeof header, header.length};
	return checksum(payload->data, payload->len) == header.checksum;
}

/* ---- settings ---- */

void
g2_check_row_encode(g2_writer *w, const g2_check_row *m)
{
	g2_put_span(w, m->item);
	g2_put_u32(w, m->result);
	g2_put_span(w, m->detail);
	g2_put_span(w, m->hint);
}

void
g2_check_row_get(g2_reader *r, g2_check_row *m)
{
	m->item = g2_get_element(r);
	m->result = g2_get_u32(r);
	m->detail = g2_get_span(r);
	m->hint = g2_get_span(r);
}

void
g2_settings_encode(g2_writer *w, const g2_settings *m)
{
	g2_put_u32(w, m->n_directories);
	for (uint32_t i = 0; i < m->n_directories; i++)
		g2_put_span(w, m->directories[i]);
	g2_put_span(w, m->pack_directory);
	g2_put_span(w, m->weight_format);
	g2_put_span(w, m->device);
	g2_put_span(w, m->cpu);
	g2_put_u32(w, m->threads);
	g2_put_u64(w, m->kv_cache_size);
	g2_put_u64(w, m->keep_free);
	g2_put_u32(w, m->disabled);
	g2_put_u32(w, m->nice);
	g2_put_u32(w, m->step_tokens);
	g2_put_u64(w, m->model_memory);
	g2_put_u64(w, m->result_cache_size);
	g2_put_u32(w, m->idle_timeout_s);
	g2_put_f64(w, m->price_per_hour);
	g2_put_names(w, m->preload, m->n_preload);
	for (int i = 0; i < G2_N_LIMITS; i++)
		g2_put_u64(w, (uint64_t) m->limits[i]);
	g2_put_u64(w, m->system_identifier);
	g2_put_u32(w, m->timeline);
	g2_put_u32(w, m->max_queued);
	g2_put_u32(w, m->has_limits);
	g2_put_u64(w, m->pack_cache_size);
	g2_put_u32(w, m->no_speculation);
	g2_put_u64(w, m->device_memory);
}

bool
g2_settings_decode(const void *p, size_t n, g2_settings *m)
{
	g2_reader	r = g2_read(p, n);

	m->n_directories = g2_get_u32(&r);
	if (m->n_directories > G2_MAX_DIRECTORIES)
		return false;
	for (uint32_t i = 0; i < m->n_directories; i++)
		m->directories[i] = g2_get_element(&r);
	m->pack_directory = g2_get_span(&r);
	m->weight_format = g2_get_span(&r);
	m->device = g2_get_span(&r);
	m->cpu = g2_get_span(&r);
	m->threads = g2_get_u32(&r);
	m->kv_cache_size = g2_get_u64(&r);
	m->keep_free = g2_get_u64(&r);
	m->disabled = g2_get_u32(&r);
	m->nice = g2_get_u32(&r);
	m->step_tokens = g2_get_u32(&r);
	m->model_memory = g2_get_u64(&r);
	m->result_cache_size = g2_get_u64(&r);
	m->idle_timeout_s = g2_get_u32(&r);
	m->price_per_hour = g2_get_f64(&r);
	m->n_preload = g2_get_names(&r, m->preload, G2_MAX_PRELOAD);
	for (int i = 0; i < G2_N_LIMITS; i++)
		m->limits[i] = (int64_t) g2_get_u64(&r);
	m->system_identifier = g2_get_u64(&r);
	m->timeline = g2_get_u32(&r);
	m->max_queued = g2_get_u32(&r);
	m->has_limits = g2_get_u32(&r);
	m->pack_cache_size = g2_get_u64(&r);
	m->no_speculation = g2_get_u32(&r);
	m->device_memory = g2_get_u64(&r);
	return !r.failed;
}
