/*
 * fuzz_json.c: any bytes through json.c.  What is accepted must survive printing and parsing
 * again, and the two ways to read a flat object must agree on what is JSON.
 */
#include <stdlib.h>

#include "json.h"

static bool
count_entry(void *arg, const char *key, size_t key_len, int64_t value, size_t offset,
			g2_error *err)
{
	(void) value;
	(void) offset;
	(void) err;
	if (g2_utf8_valid_prefix(key, key_len) != key_len)
		abort();
	++*(int *) arg;
	return true;
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *) data;
	g2_error	err;
	cJSON	   *tree,
			   *unique;
	int			n = 0;
	bool		flat;

	tree = g2_json_parse("fuzz", text, size, false, &err);
	unique = g2_json_parse("fuzz", text, size, true, &err);
	flat = g2_json_each_int("fuzz", text, size, count_entry, &n, &err);
	if ((unique || flat) && !tree)
		abort();
	if (flat && (!cJSON_IsObject(tree) || cJSON_GetArraySize(tree) != n))
		abort();
	if (tree)
	{
		char	   *printed = cJSON_PrintUnformatted(tree);
		cJSON	   *again = printed ? g2_json_parse("again", printed, strlen(printed), false, &err)
			: NULL;
		const char *s;
		int64_t		i;
		double		d;
		bool		b;

		if (!again)
			abort();
		g2_json_int(tree, "fuzz", "i", -5, 1000, false, 0, &i, &err);
		g2_json_double(tree, "fuzz", "d", -5, 1000, true, 0, &d, &err);
		g2_json_bool(tree, "fuzz", "b", true, &b, &err);
		g2_json_string(tree, "fuzz", "s", &s, &err);
		cJSON_Delete(again);
		cJSON_free(printed);
	}
	cJSON_Delete(tree);
	cJSON_Delete(unique);
	return 0;
}
