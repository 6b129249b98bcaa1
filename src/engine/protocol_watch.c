/*
 * protocol_watch.c: the messages of protocol.h that say what the engine does and has done, and the
 * file of saved counters.  Plain C, compiled into both the engine and the PostgreSQL library.
 *
 * Each row is a span of its own, so that rows can be extended at their end.
 */
#include "protocol.h"

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
