/*
 * verify.c: gpt2_engine verify: is a model what it should be, in every format?
 *
 * The payload of each pack is compared with its checksum.  Then a text is read in every format:
 * perplexity, distance from f32, agreement on the next token.  With a folder of reference logits,
 * those are compared too: N_reference.json, an array of objects with "ids" (a prompt's), and for
 * its i-th one N_i.logits.f32, the n_vocab logits behind the prompt, in little-endian floats.
 */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "accuracy.h"
#include "cli.h"
#include "config.h"
#include "file.h"
#include "json.h"

#define TEXT_FILE "held_out.txt"	/* of the model's folder */
#define TEXT_BYTES (64u << 20)
#define REFERENCE_TAIL "_reference.json"
#define REFERENCE_TOLERANCE 0.05	/* of a logit in f32: references come from other software */

typedef struct verify
{
	g2_cli		cli;
	const char *text;			/* NULL: that of the model's folder */
	const char *reference;		/* NULL: none */
	uint64_t	max_tokens;
	g2_pack    *packs[G2_FORMATS];
	uint32_t	n;
	g2_accuracy *accuracy;
} verify;

/* ---- packs ---- */

/* f32 first, and where a format was asked for, only that one beside it. */
static bool
open_packs(verify *v, bool one, g2_error *err)
{
	static const g2_format formats[] = {
		G2_FORMAT_F32, G2_FORMAT_BF16, G2_FORMAT_Q8, G2_FORMAT_Q4,
	};
	const g2_model_paths paths = g2_cli_paths(&v->cli);

	for (size_t i = 0; i < G2_LENGTH(formats); i++)
	{
		if (i > 0 && one && formats[i] != v->cli.format)
			continue;
		if (!g2_pack_open(&paths, v->cli.model, formats[i], NULL, NULL, &v->packs[v->n], err))
			return false;
		if (!g2_pack_verify(v->packs[v->n++], err))
			return false;
	}
	return true;
}

/* ---- a text ---- */

/* folder/name of a path, which is cut in two. */
static bool
read_path(const char *path, g2_buf *text, g2_error *err)
{
	const char *slash = strrchr(path, '/');
	char		folder[4096];

	if (!slash)
		return g2_file_read(".", path, TEXT_BYTES, text, err);
	if ((size_t) (slash - path) >= sizeof folder)
		return g2_fail(err, G2_E_NAME, "the path of the text is too long");
	snprintf(folder, sizeof folder, "%.*s", (int) (slash - path), path);
	return g2_file_read(slash == path ? "/" : folder, slash + 1, TEXT_BYTES, text, err);
}

/* *found: there is a text.  A model's folder needs none where there is a reference. */
static bool
read_text(verify *v, g2_buf *text, bool *found, g2_error *err)
{
	const g2_model_paths paths = g2_cli_paths(&v->cli);
	char	   *folder;
	bool		ok;

	*found = true;
	if (v->text)
		return read_path(v->text, text, err);
	if (!g2_model_find(&paths, v->cli.model, &folder, err))
		return false;
	*found = g2_file_exists(folder, TEXT_FILE);
	if (*found)
		ok = g2_file_read(folder, TEXT_FILE, TEXT_BYTES, text, err);
	else
	{
		ok = v->reference || g2_fail(err, G2_E_PARAM, "the model's folder has no " TEXT_FILE);
		if (!ok)
			g2_fail_hint(err, "Name a text with --text.");
	}
	g2_free(folder);
	return ok;
}

/* One text: as many windows of a whole context as it takes. */
static bool
read_windows(verify *v, const g2_ids *ids, g2_error *err)
{
	uint32_t	n_ctx = v->packs[0]->weights.arch.n_ctx;

	for (size_t at = 0; at + 1 < ids->len; at += n_ctx)
	{
		uint64_t	left = v->max_tokens - g2_accuracy_of(v->accuracy, 0)->tokens;
		uint32_t	n = (uint32_t) G2_MIN(ids->len - at, n_ctx);

		if (left == 0)
			break;
		n = (uint32_t) G2_MIN(n, left + 1);
		if (n > 1 && !g2_accuracy_add(v->accuracy, ids->data + at, n, err))
			return false;
	}
	return true;
}

/* Texts end at the literal name of the end token, which counts as their last token; new lines
 * behind it do not. */
static bool
read_texts(verify *v, const g2_buf *text, g2_error *err)
{
	const g2_tokenizer *tokenizer = v->packs[0]->tokenizer;
	uint32_t	end_token = v->packs[0]->description.end_token;
	const char *at = text->data,
			   *end = text->data + text->len,
			   *mark = NULL;
	size_t		mark_len = 0;
	bool		ok = true;

	if (!tokenizer)
		return g2_fail(err, G2_E_UNSUPPORTED, "the model has no tokenizer to read a text with");
	if (end_token != G2_NO_TOKEN)
		mark = g2_tokenizer_piece(tokenizer, end_token, &mark_len);
	while (ok && at < end)
	{
		const char *stop = mark ? memmem(at, (size_t) (end - at), mark, mark_len) : NULL;
		g2_ids		ids = {0};

		ok = g2_tokenizer_encode(tokenizer, at, (size_t) ((stop ? stop : end) - at), 0, NULL,
								 &ids, err);
		if (ok && stop && !g2_ids_push(&ids, end_token))
			ok = g2_fail_memory(err, ids.len);
		ok = ok && read_windows(v, &ids, err);
		g2_free(ids.data);
		for (at = stop ? stop + mark_len : end; at < end && *at == '\n';)
			at++;
	}
	return ok;
}

static bool
verify_text(verify *v, g2_error *err)
{
	g2_buf		text = {0};
	bool		found,
				ok = read_text(v, &text, &found, err) &&
		(!found || read_texts(v, &text, err));

	g2_buf_free(&text);
	if (!ok || !found)
		return ok;
	if (g2_accuracy_of(v->accuracy, 0)->tokens == 0)
		return g2_fail(err, G2_E_PARAM, "the text is too short");
	printf("%llu tokens, next ones clear in f32: %llu\n"
		   "format         bytes  perplexity  KL to f32  same next token\n",
		   (unsigned long long) g2_accuracy_of(v->accuracy, 0)->tokens,
		   (unsigned long long) g2_accuracy_of(v->accuracy, 0)->clear);
	for (uint32_t i = 0; i < v->n; i++)
	{
		const g2_accuracy_sums *s = g2_accuracy_of(v->accuracy, i);

		printf("%-6s %13llu  %10.5f  %9.2e  %8.3f %%\n",
			   g2_format_name(v->packs[i]->weights.format),
			   (unsigned long long) v->packs[i]->bytes, exp(s->loss / (double) s->tokens),
			   s->divergence / (double) s->tokens,
			   s->clear ? 100.0 * (double) s->same / (double) s->clear : 100.0);
	}
	return true;
}

/* ---- reference logits ---- */

/* The only file of the folder that is named so. */
static bool
find_reference(const char *folder, char name[256], g2_error *err)
{
	const size_t tail = strlen(REFERENCE_TAIL);
	DIR		   *dir = opendir(folder);
	struct dirent *entry;

	if (!dir)
		return g2_fail_errno(err, errno, "open directory", g2_file_tail(folder));
	name[0] = '\0';
	while ((entry = readdir(dir)) != NULL)
	{
		size_t		len = strlen(entry->d_name);

		if (len > tail && len < 256 && strcmp(entry->d_name + len - tail, REFERENCE_TAIL) == 0)
			memcpy(name, entry->d_name, len + 1);
	}
	closedir(dir);
	return name[0] || g2_fail(err, G2_E_NO_FILE, "no file *" REFERENCE_TAIL " in \"%s\"",
							  g2_file_tail(folder));
}

static bool
prompt_ids(const cJSON *prompt, const char *path, g2_ids *ids, g2_error *err)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(prompt, "ids"),
			   *item;

	ids->len = 0;
	if (!cJSON_IsArray(list))
		return g2_fail(err, G2_E_BAD_JSON, "\"ids\" in \"%s\" must be an array", path);
	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble < UINT32_MAX))
			return g2_fail(err, G2_E_BAD_JSON, "\"ids\" in \"%s\" must hold token ids", path);
		if (!g2_ids_push(ids, (uint32_t) item->valuedouble))
			return g2_fail_memory(err, ids->len);
	}
	return true;
}

/* Prints a line for each format; f32 must be near the reference. */
static bool
compare_logits(verify *v, uint32_t number, const g2_ids *ids, const float *want, g2_error *err)
{
	uint32_t	n_vocab = v->packs[0]->weights.arch.n_vocab;
	float	   *logits = g2_alloc_array(n_vocab, sizeof *logits);
	bool		ok = logits || g2_fail_memory(err, n_vocab * sizeof *logits);

	for (uint32_t i = 0; ok && i < v->n; i++)
	{
		double		worst = 0;
		bool		same;

		ok = g2_accuracy_logits(v->accuracy, i, ids->data, (uint32_t) ids->len, logits, err);
		if (!ok)
			break;
		for (uint32_t t = 0; t < n_vocab; t++)
			worst = fmax(worst, fabs((double) logits[t] - want[t]));
		same = g2_accuracy_best(logits, n_vocab) == g2_accuracy_best(want, n_vocab);
		printf("reference %u  %-4s  logits within %.2e, %s next token\n", number,
			   g2_format_name(v->packs[i]->weights.format), worst, same ? "same" : "another");
		if (i == 0 && !(same && worst <= REFERENCE_TOLERANCE))
			ok = g2_fail(err, G2_E_BAD_FILE, "the logits of prompt %u are not the reference's",
						 number);
	}
	g2_free(logits);
	return ok;
}

static bool
verify_prompt(verify *v, const cJSON *prompt, const char *name, uint32_t number, g2_error *err)
{
	size_t		bytes = (size_t) v->packs[0]->weights.arch.n_vocab * sizeof(float);
	char		file[320];
	g2_ids		ids = {0};
	g2_buf		want = {0};
	bool		ok;

	snprintf(file, sizeof file, "%.*s_%u.logits.f32",
			 (int) (strlen(name) - strlen(REFERENCE_TAIL)), name, number);
	ok = prompt_ids(prompt, name, &ids, err) &&
		g2_file_read(v->reference, file, bytes, &want, err);
	if (ok && want.len != bytes)
		ok = g2_fail(err, G2_E_BAD_FILE, "\"%s\" has %zu bytes, not one logit for each token", file,
					 want.len);
	ok = ok && compare_logits(v, number, &ids, (const float *) (const void *) want.data, err);
	g2_buf_free(&want);
	g2_free(ids.data);
	return ok;
}

static bool
verify_reference(verify *v, g2_error *err)
{
	char		name[256];
	g2_buf		text = {0};
	cJSON	   *json = NULL;
	bool		ok = find_reference(v->reference, name, err) &&
		g2_file_read(v->reference, name, 4 * G2_MAX_JSON_FILE, &text, err);

	if (ok)
		json = g2_json_parse(name, text.data, text.len, true, err);
	ok = json != NULL;
	if (ok && !cJSON_IsArray(json))
		ok = g2_fail(err, G2_E_BAD_JSON, "\"%s\" must be an array", name);
	for (int i = 0; ok && i < cJSON_GetArraySize(json); i++)
		ok = verify_prompt(v, cJSON_GetArrayItem(json, i), name, (uint32_t) i, err);
	cJSON_Delete(json);
	g2_buf_free(&text);
	return ok;
}

/* ---- the command ---- */

static bool
verify_options(int argc, char **argv, verify *v, bool *one, g2_error *err)
{
	int64_t		number;

	g2_cli_init(&v->cli);
	if (argc < 2 || argv[1][0] == '-')
		return g2_fail(err, G2_E_PARAM, "verify needs a model's folder as its first argument");
	v->cli.model = argv[1];
	for (int i = 2; i < argc; i += 2)
	{
		if (i + 1 == argc)
			return g2_fail(err, G2_E_PARAM, "option %s needs a value", argv[i]);
		if (strcmp(argv[i], "--text") == 0)
			v->text = argv[i + 1];
		else if (strcmp(argv[i], "--reference") == 0)
			v->reference = argv[i + 1];
		else if (strcmp(argv[i], "--max-tokens") == 0)
		{
			if (!g2_cli_int(argv[i], argv[i + 1], 1, INT64_MAX, &number, err))
				return false;
			v->max_tokens = (uint64_t) number;
		}
		else if (!g2_cli_option(&v->cli, argv[i], argv[i + 1], err))
			return false;
		*one = *one || strcmp(argv[i], "--format") == 0;
	}
	return g2_cli_finish(&v->cli, err);
}

bool
g2_cmd_verify(int argc, char **argv, g2_error *err)
{
	verify		v = {.max_tokens = 20000};
	bool		one = false,
				ok = verify_options(argc, argv, &v, &one, err) && open_packs(&v, one, err) &&
		g2_accuracy_open(v.packs, v.n, v.cli.settings.threads,
						 v.cli.settings.cpu.len ? v.cli.settings.cpu.data : "auto", &v.accuracy,
						 err) &&
		verify_text(&v, err) && (!v.reference || verify_reference(&v, err));

	g2_accuracy_close(v.accuracy);
	for (uint32_t i = 0; i < v.n; i++)
		g2_pack_close(v.packs[i]);
	return ok;
}
