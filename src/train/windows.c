/*
 * windows.c: the rows' tokens on disk, and the batches made of them.
 *
 * File "tokens": u32 ids, the highest bit set where the token is not learned as a target.  Files
 * "windows" and "held_out": g2t_data_counts, then the g2t_windows.  "windows" gets its name last,
 * so that it stands for all three.
 */
#include "windows.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#include "file.h"
#include "philox.h"
#include "spool.h"

#define TOKENS_FILE "tokens"
#define WINDOWS_FILE "windows"
#define HELD_OUT_FILE "held_out"
#define NOT_LEARNED 0x80000000u
#define MOST_COUNTED (1u << 20)	/* windows of several epochs that are looked at for their steps */
#define ORDER_PURPOSE 5			/* third word of the random numbers' counter */

/* ---- from rows to windows ---- */

typedef struct maker
{
	const g2_tokenizer *tokenizer;
	uint32_t	end_token;
	uint32_t	length;
	double		held_out;
	const atomic_bool *cancel;
	g2t_data_counts *counts;
	g2t_writer	tokens;
	g2t_writer	index[2];		/* windows, held_out */
	uint64_t	written;		/* tokens */
	g2_ids		ids;
} maker;

static bool
encode(maker *m, const g2_buf *text, g2_error *err)
{
	return g2_tokenizer_encode(m->tokenizer, text->data, text->len, 0, m->cancel, &m->ids, err);
}

static uint64_t
count_unknown(const maker *m)
{
	uint32_t	unknown = g2_tokenizer_unknown(m->tokenizer);
	uint64_t	n = 0;

	for (size_t i = 0; unknown != G2_NO_TOKEN && i < m->ids.len; i++)
		n += (m->ids.data[i] & ~NOT_LEARNED) == unknown;
	return n;
}

static bool
add_window(maker *m, size_t from, uint32_t n, bool held_out, g2_error *err)
{
	g2t_window	window = {.at = m->written + from, .n = n};

	for (size_t i = from + 1; i <= from + n; i++)
		window.learned += (m->ids.data[i] & NOT_LEARNED) == 0;
	if (window.learned == 0)
		return true;
	if (held_out)
		m->counts->held_out_tokens += window.learned;
	else
		m->counts->tokens += window.learned;
	return g2t_write(&m->index[held_out], &window, sizeof window, err);
}

static bool
cut_row(maker *m, bool held_out, g2_error *err)
{
	size_t		n = m->ids.len - 1;	/* inputs */

	for (size_t i = 0; i < n; i += m->length)
		if (!add_window(m, i, (uint32_t) G2_MIN(n - i, m->length), held_out, err))
			return false;
	m->counts->cut_rows += n > m->length;
	m->counts->held_out_rows += held_out;
	m->written += m->ids.len;
	return g2t_write(&m->tokens, m->ids.data, m->ids.len * sizeof *m->ids.data, err);
}

static bool
make_row(void *arg, const g2t_row *row, g2_error *err)
{
	maker	   *m = arg;
	uint64_t	number = m->counts->rows++;
	bool		held_out = (uint64_t) ((double) (number + 1) * m->held_out) >
	(uint64_t) ((double) number * m->held_out);

	if (m->cancel && atomic_load(m->cancel))
		return g2_fail(err, G2_E_CANCELED, "canceling training due to user request");
	m->ids.len = 0;
	if (row->has_prompt)
	{
		if (!encode(m, &row->prompt, err))
			return false;
		for (size_t i = 0; i < m->ids.len; i++)
			m->ids.data[i] |= NOT_LEARNED;
	}
	if (!encode(m, &row->text, err))
		return false;
	m->counts->unknown_tokens += count_unknown(m);
	if (m->end_token != G2_NO_TOKEN && !g2_ids_push(&m->ids, m->end_token))
		return g2_fail_memory(err, m->ids.len);
	if (m->ids.len >= 2)
		return cut_row(m, held_out, err);
	m->counts->short_rows++;
	return true;
}

static bool
finish_index(maker *m, int i, g2_error *err)
{
	/* The counts stand at the beginning, and are known at the end. */
	return g2_file_pwrite(m->index[i].fd, m->index[i].path, m->counts, sizeof *m->counts, 0, err) &&
		g2t_writer_finish(&m->index[i], err);
}

static bool
write_all(maker *m, const g2t_place *place, g2_error *err)
{
	static const char *const names[] = {WINDOWS_FILE, HELD_OUT_FILE};

	if (!g2t_writer_open(place, TOKENS_FILE, &m->tokens, err))
		return false;
	for (int i = 0; i < 2; i++)
		if (!g2t_writer_open(place, names[i], &m->index[i], err) ||
			!g2_file_write(m->index[i].fd, m->index[i].path, m->counts, sizeof *m->counts, err))
			return false;
	return g2t_spool_each(place, make_row, m, err) && g2t_writer_finish(&m->tokens, err) &&
		finish_index(m, 1, err) && finish_index(m, 0, err);
}

bool
g2t_windows_make(const g2t_place *place, const g2_tokenizer *tokenizer, uint32_t end_token,
				 uint32_t length, double held_out, const atomic_bool *cancel,
				 g2t_data_counts *counts, g2_error *err)
{
	maker		m = {.tokenizer = tokenizer, .end_token = end_token, .length = length,
	.held_out = held_out, .cancel = cancel, .counts = counts, .tokens.fd = -1,
	.index = {{.fd = -1}, {.fd = -1}}};
	bool		ok;

	memset(counts, 0, sizeof *counts);
	ok = write_all(&m, place, err);
	g2t_writer_close(&m.tokens);
	g2t_writer_close(&m.index[0]);
	g2t_writer_close(&m.index[1]);
	g2_free(m.ids.data);
	return ok;
}

bool
g2t_windows_made(const g2t_place *place)
{
	return g2t_place_has(place, WINDOWS_FILE);
}

bool
g2t_windows_forget(const g2t_place *place, g2_error *err)
{
	char		path[G2T_MAX_PATH];

	g2t_place_path(place, WINDOWS_FILE, path);
	if (unlink(path) != 0)
		return g2_fail_errno(err, errno, "remove", path);
	return g2_file_sync_directory(path, err);
}

bool
g2t_windows_counts(const g2t_place *place, g2t_data_counts *counts, g2_error *err)
{
	g2t_reader	r;
	bool		ok;

	if (!g2t_reader_open(place, WINDOWS_FILE, &r, err))
		return false;
	ok = g2t_read(&r, counts, sizeof *counts, err);
	g2t_reader_close(&r);
	return ok;
}

/* ---- reading ---- */

bool
g2t_windows_open(const g2t_place *place, bool held_out, uint64_t seed, uint32_t length,
				 uint32_t n_vocab, g2t_windows *w, g2_error *err)
{
	uint64_t	bytes;

	w->seed = seed;
	w->length = length;
	w->n_vocab = n_vocab;
	w->index_fd = -1;
	w->tokens_fd = g2_file_open(place->path, TOKENS_FILE, &bytes, err);
	if (w->tokens_fd < 0)
		return false;
	w->index_fd = g2_file_open(place->path, held_out ? HELD_OUT_FILE : WINDOWS_FILE, &bytes, err);
	if (w->index_fd < 0)
	{
		g2t_windows_close(w);
		return false;
	}
	w->n = bytes < sizeof(g2t_data_counts) ? 0
		: (bytes - sizeof(g2t_data_counts)) / sizeof(g2t_window);
	return true;
}

void
g2t_windows_close(g2t_windows *w)
{
	if (w->tokens_fd >= 0)
		close(w->tokens_fd);
	if (w->index_fd >= 0)
		close(w->index_fd);
	w->tokens_fd = w->index_fd = -1;
}

uint64_t
g2t_permute(uint64_t seed, uint64_t round, uint64_t i, uint64_t n)
{
	uint32_t	bits = 1;
	uint64_t	half;

	while (bits < 32 && (1ull << (2 * bits)) < n)
		bits++;
	half = (1ull << bits) - 1;
	do
	{
		uint64_t	left = i >> bits,
					right = i & half;

		for (uint32_t f = 0; f < 4; f++)
		{
			g2_philox	r = g2_philox4x32(seed, (uint32_t) right, f, ORDER_PURPOSE,
										  (uint32_t) round);
			uint64_t	next = left ^ (r.word[0] & half);

			left = right;
			right = next;
		}
		i = left << bits | right;
	} while (i >= n);
	return i;
}

static bool
fail_damaged(const char *file, g2_error *err)
{
	g2_fail(err, G2_E_IO, "\"%s\" of the training is damaged", file);
	return g2_fail_hint(err, "Remove the training's directory, or train with another seed.");
}

/* The window that stands there in its epoch. */
static bool
window_at(const g2t_windows *w, uint64_t cursor, g2t_window *window, g2_error *err)
{
	uint64_t	i = g2t_permute(w->seed, cursor / w->n, cursor % w->n, w->n);

	if (!g2_file_pread(w->index_fd, WINDOWS_FILE, window, sizeof *window,
					   sizeof(g2t_data_counts) + i * sizeof *window, err))
		return false;
	return (window->n > 0 && window->n <= w->length) || fail_damaged(WINDOWS_FILE, err);
}

bool
g2t_step_open(uint32_t max_rows, g2t_step *step, g2_error *err)
{
	memset(step, 0, sizeof *step);
	step->max = max_rows;
	step->start = g2_alloc_array((size_t) max_rows + 1, sizeof *step->start);
	step->tokens = g2_alloc_array((size_t) max_rows + 1, sizeof *step->tokens);
	step->targets = g2_alloc_array(max_rows, sizeof *step->targets);
	if (step->start && step->tokens && step->targets)
		return true;
	g2t_step_close(step);
	return g2_fail_memory(err, max_rows * sizeof *step->tokens);
}

void
g2t_step_close(g2t_step *step)
{
	g2_free(step->start);
	g2_free(step->tokens);
	g2_free(step->targets);
	memset(step, 0, sizeof *step);
}

/* One token more than it keeps is read; there is room for it. */
static bool
add_sequence(const g2t_windows *w, const g2t_window *window, g2t_step *step, g2_error *err)
{
	uint32_t   *tokens = step->tokens + step->n,
			   *targets = step->targets + step->n,
				learned = 0;

	if (!g2_file_pread(w->tokens_fd, TOKENS_FILE, tokens,
					   ((size_t) window->n + 1) * sizeof *tokens, window->at * sizeof *tokens,
					   err))
		return false;
	for (uint32_t i = 0; i <= window->n; i++)
		if ((tokens[i] & ~NOT_LEARNED) >= w->n_vocab)
			return fail_damaged(TOKENS_FILE, err);
	for (uint32_t i = 0; i < window->n; i++)
	{
		targets[i] = tokens[i + 1] & NOT_LEARNED ? G2_NO_TOKEN : tokens[i + 1];
		learned += targets[i] != G2_NO_TOKEN;
		tokens[i] &= ~NOT_LEARNED;
	}
	if (learned == 0 || learned != window->learned)
		return fail_damaged(WINDOWS_FILE, err);
	step->n += window->n;
	step->learned += window->learned;
	step->start[++step->n_sequences] = step->n;
	return true;
}

bool
g2t_windows_take(const g2t_windows *w, uint64_t end, uint64_t *cursor, g2t_step *step,
				 g2_error *err)
{
	step->n = step->n_sequences = step->learned = 0;
	while (*cursor < end && step->n < step->max)
	{
		g2t_window	window;

		if (!window_at(w, *cursor, &window, err))
			return false;
		if (window.n > step->max)
			return fail_damaged(WINDOWS_FILE, err);
		if (window.n > step->max - step->n)
			break;
		if (!add_sequence(w, &window, step, err))
			return false;
		++*cursor;
	}
	return true;
}

bool
g2t_windows_steps(const g2t_windows *w, uint32_t max_rows, double epochs, double *steps,
				  g2_error *err)
{
	const double all = ceil(epochs * (double) w->n),
				most = (double) G2_MAX(w->n, (uint64_t) MOST_COUNTED),
				some = fmin(all, most);
	uint64_t	rows = max_rows,
				n = 0;

	for (uint64_t i = 0; i < (uint64_t) some; i++)
	{
		g2t_window	window;

		if (!window_at(w, i, &window, err))
			return false;
		if (rows + window.n > max_rows)
		{
			n++;
			rows = 0;
		}
		rows += window.n;
	}
	*steps = ceil((double) n * (all / some));
	return true;
}

uint32_t
g2t_step_pass(const g2t_step *step, uint32_t first, uint32_t rows, uint32_t *start,
			  g2t_batch *batch)
{
	uint32_t	base = step->start[first],
				s = first;

	while (s < step->n_sequences && step->start[s + 1] - base <= rows)
	{
		start[s - first] = step->start[s] - base;
		s++;
	}
	start[s - first] = step->start[s] - base;
	*batch = (g2t_batch) {
		.n = start[s - first], .n_sequences = s - first, .start = start,
		.tokens = step->tokens + base, .targets = step->targets + base, .first = base,
	};
	return s;
}
