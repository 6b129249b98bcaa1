/*
 * tokenizer_golden.h: texts with the ids that a reference gives them, one JSON object a line.
 */
#ifndef TOKENIZER_GOLDEN_H
#define TOKENIZER_GOLDEN_H

#include "json.h"
#include "tokenizer_fixture.h"

/* A whole file; false where it is not there. */
static inline bool
golden_read_from(const char *directory, const char *name, g2_buf *out)
{
	char		path[4096];
	FILE	   *file;
	size_t		n;

	if (!directory)
		return false;
	snprintf(path, sizeof path, "%s/%s", directory, name);
	file = fopen(path, "rb");
	if (!file)
		return false;
	while (g2_buf_reserve(out, 65536) && (n = fread(out->data + out->len, 1, 65536, file)) > 0)
		out->len += n;
	fclose(file);
	return !out->failed;
}

/* A file below GPT2_SHARED_MODELS. */
static inline bool
golden_read(const char *name, g2_buf *out)
{
	return golden_read_from(getenv("GPT2_SHARED_MODELS"), name, out);
}

static inline bool
golden_same(const g2_tokenizer *tok, const char *text, const uint32_t *wanted, size_t n)
{
	g2_ids		ids = {0};
	bool		same;

	encode(tok, text, strlen(text), &ids);
	same = ids.len == n && (n == 0 || memcmp(ids.data, wanted, n * sizeof *wanted) == 0);
	if (!same)
		print_error("differs: \"%s\"\n", text);
	g2_free(ids.data);
	return same;
}

/* Every line {"text": …, key: [ids]} must agree, and there must be so many; what gives every text
 * back must do so. */
static inline void
golden_check(const g2_tokenizer *tok, const g2_buf *lines, const char *key, int at_least)
{
	int			n = 0,
				right = 0;

	for (char *p = lines->data, *end = p + lines->len, *lf; p < end; p = lf + 1, n++)
	{
		g2_error	err;
		cJSON	   *line,
				   *id;
		g2_ids		wanted = {0};

		lf = memchr(p, '\n', (size_t) (end - p));
		assert_non_null(lf);
		line = g2_json_parse("vectors", p, (size_t) (lf - p), true, &err);
		assert_non_null(line);
		cJSON_ArrayForEach(id, cJSON_GetObjectItem(line, key))
			assert_true(g2_ids_push(&wanted, (uint32_t) id->valueint));
		right += golden_same(tok, cJSON_GetObjectItem(line, "text")->valuestring, wanted.data,
							 wanted.len);
		if (strcmp(g2_tokenizer_name(tok), "gpt2-bpe") == 0 && strcmp(key, "ids") == 0)
			check_round_trip(tok, cJSON_GetObjectItem(line, "text")->valuestring,
							 strlen(cJSON_GetObjectItem(line, "text")->valuestring));
		g2_free(wanted.data);
		cJSON_Delete(line);
	}
	print_message("vectors %s: %d of %d\n", key, right, n);
	assert_true(n >= at_least);
	assert_int_equal(right, n);
}

#endif							/* TOKENIZER_GOLDEN_H */
