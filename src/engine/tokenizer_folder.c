/*
 * tokenizer_folder.c: which of a model folder's files are its tokenizer, and what
 * tokenizer_config.json adds to a vocab.txt.
 */
#include "tokenizer_folder.h"

#include "file.h"
#include "json.h"

#define MAX_FILE (16u << 20)

typedef struct folder_file
{
	g2_buf		text;
	char	   *path;
} folder_file;

/* An optional file; to->data stays NULL when it is absent. */
static bool
read_file(const char *folder, const char *name, folder_file *file, g2_tokenizer_file *to,
		  g2_error *err)
{
	file->path = g2_file_path(folder, name);
	if (!file->path)
		return g2_fail_memory(err, strlen(folder));
	to->path = g2_file_tail(file->path);
	if (!g2_file_exists(folder, name))
		return true;
	if (!g2_file_read(folder, name, MAX_FILE, &file->text, err))
		return false;
	to->data = file->text.data;
	to->len = file->text.len;
	return true;
}

/* BERT's tokenizers share the file vocab.txt with others that cut words in ways of their own. */
static bool
check_class(const char *folder, const char *name, g2_error *err)
{
	static const char *const known[] = {"BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer",
		"DistilBertTokenizerFast", "ElectraTokenizer", "ElectraTokenizerFast",
	"PreTrainedTokenizerFast"};
	char		excerpt[G2_JSON_EXCERPT];

	if (!name)
		return true;
	for (size_t i = 0; i < G2_LENGTH(known); i++)
		if (strcmp(name, known[i]) == 0)
			return true;
	g2_fail(err, G2_E_UNSUPPORTED, "the tokenizer in \"%s\" is not supported: its class is \"%s\"",
			g2_file_tail(folder), g2_json_excerpt(excerpt, name, strlen(name)));
	return g2_fail_hint(err, "A vocab.txt is read as BertTokenizer does.");
}

/* As transformers' BertTokenizer: lower case and single CJK characters unless it says otherwise,
 * accents as the case. */
static bool
wordpiece_options(const char *folder, const cJSON *config, g2_wordpiece_options *o, g2_error *err)
{
	static const char path[] = "tokenizer_config.json";
	const char *class = NULL;

	*o = (g2_wordpiece_options) {true, true, true};
	if (!config)
		return true;
	return g2_json_string(config, path, "tokenizer_class", &class, err) &&
		check_class(folder, class, err) &&
		g2_json_bool(config, path, "do_lower_case", true, &o->lower, err) &&
		g2_json_bool(config, path, "strip_accents", o->lower, &o->strip_accents, err) &&
		g2_json_bool(config, path, "tokenize_chinese_chars", true, &o->part_cjk, err);
}

static bool
refuse_others(const char *folder, g2_error *err)
{
	static const char *const others[] = {"tokenizer.model", "spiece.model",
	"sentencepiece.bpe.model"};

	for (size_t i = 0; i < G2_LENGTH(others); i++)
		if (g2_file_exists(folder, others[i]))
		{
			g2_fail(err, G2_E_UNSUPPORTED, "the tokenizer in \"%s\" is not supported: only \"%s\" "
					"is there", g2_file_tail(folder), others[i]);
			return g2_fail_hint(err, "Supported: tokenizer.json, vocab.json with merges.txt, "
								"vocab.txt, and a vocab.json of characters.");
		}
	return true;
}

bool
g2_tokenizer_of_folder(const char *folder, const cJSON *config, uint32_t n_vocab, g2_buf *blob,
					   g2_tokenizer **out, uint32_t *ignored, g2_error *err)
{
	static const char *const names[] = {"tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"};
	g2_tokenizer_files f = {.ignored = ignored};
	g2_tokenizer_file *const to[] = {&f.json, &f.vocab, &f.merges, &f.words};
	folder_file read[G2_LENGTH(names)] = {0};
	size_t		start = blob->len;
	bool		ok = true,
				found = false;

	*ignored = G2_NO_TOKEN;
	/* what a file before it decides is not even read */
	for (size_t i = 0; ok && i < G2_LENGTH(names); i++)
		if (!f.json.data && (i < 3 || !found))
		{
			ok = read_file(folder, names[i], &read[i], to[i], err);
			found |= to[i]->data != NULL;
		}
	if (ok && found)
	{
		ok = (!f.words.data || wordpiece_options(folder, config, &f.wordpiece, err)) &&
			g2_tokenizer_compile(&f, n_vocab, blob, err) &&
			g2_tokenizer_open(blob->data + start, blob->len - start, out, err);
		if (!ok && err->code == G2_E_NO_FILE)
			g2_fail_hint(err, "vocab.json and merges.txt belong together.");
	}
	else if (ok)
		ok = refuse_others(folder, err);
	for (size_t i = 0; i < G2_LENGTH(names); i++)
	{
		g2_buf_free(&read[i].text);
		g2_free(read[i].path);
	}
	return ok;
}
