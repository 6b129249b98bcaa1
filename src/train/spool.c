/*
 * spool.c: the query's rows on disk.
 */
#include "spool.h"

#include "protocol.h"

static bool
write_text(g2t_writer *w, const char *text, size_t len, g2_error *err)
{
	uint32_t	n = (uint32_t) len;

	return g2t_write(w, &n, sizeof n, err) && g2t_write(w, text, len, err);
}

bool
g2t_spool_write(g2t_writer *w, bool has_prompt, const char *prompt, size_t prompt_len,
				const char *text, size_t len, g2_error *err)
{
	uint32_t	flag = has_prompt;

	if (prompt_len > G2_MAX_TEXT || len > G2_MAX_TEXT)
		return g2_fail(err, G2_E_TOO_LONG, "a row's text is longer than %u bytes", G2_MAX_TEXT);
	return g2t_write(w, &flag, sizeof flag, err) &&
		(!has_prompt || write_text(w, prompt, prompt_len, err)) &&
		write_text(w, text, len, err);
}

static bool
read_text(g2t_reader *r, g2_buf *text, g2_error *err)
{
	uint32_t	len;

	text->len = 0;
	if (!g2t_read(r, &len, sizeof len, err))
		return false;
	if (len > G2_MAX_TEXT)
		return g2_fail(err, G2_E_IO, "\"%s\" is damaged", r->path);
	if (!g2_buf_reserve(text, len))
		return g2_fail_memory(err, len);
	text->len = len;
	return g2t_read(r, text->data, len, err);
}

bool
g2t_spool_each(const g2t_place *place, g2t_row_fn fn, void *arg, g2_error *err)
{
	g2t_reader	r;
	g2t_row		row = {0};
	bool		ok;

	if (!g2t_reader_open(place, G2T_ROWS_FILE, &r, err))
		return false;
	ok = true;
	while (ok && !g2t_reader_ended(&r))
	{
		uint32_t	flag;

		ok = g2t_read(&r, &flag, sizeof flag, err);
		row.has_prompt = ok && flag != 0;
		row.prompt.len = 0;
		ok = ok && (!row.has_prompt || read_text(&r, &row.prompt, err)) &&
			read_text(&r, &row.text, err) && fn(arg, &row, err);
	}
	g2_buf_free(&row.prompt);
	g2_buf_free(&row.text);
	g2t_reader_close(&r);
	return ok;
}
