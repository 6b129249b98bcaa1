/*
 * folder.c: names of models, the search for their folders, and what is wrong with a folder.
 *
 * A model's name is the name of a folder in one of the model directories.  Names come from SQL and
 * folders from whoever filled the directory: neither is trusted, links are not followed.
 */
#include "folder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "adapter.h"
#include "config.h"
#include "file.h"
#include "json.h"
#include "model.h"
#include "model_roles.h"

#define FOLDER_MAX_NAMES 10000	/* models listed per directory */

/* ---------------------------------------------------------------- names */

bool
g2_model_name_check(const char *name, size_t len, g2_error *err)
{
	char		excerpt[G2_JSON_EXCERPT];
	const char *why = NULL;

	if (len == 0)
		return g2_fail(err, G2_E_NAME, "the name of a model must not be empty");
	if (len > G2_MAX_NAME)
		return g2_fail(err, G2_E_NAME, "the name of a model must have at most %d bytes, not %zu",
					   G2_MAX_NAME, len);
	if (name[0] == '.')
		why = "it starts with a dot";
	for (size_t i = 0; !why && i < len; i++)
	{
		unsigned char c = (unsigned char) name[i];

		if (c == '/')
			why = "it holds a slash";
		else if (c < 0x20 || c == 0x7F)
			why = "it holds a control character";
		else if (c == '.' && i + 1 < len && name[i + 1] == '.')
			why = "it holds \"..\"";
	}
	if (!why && g2_utf8_valid_prefix(name, len) != len)
		why = "it is not valid UTF-8";
	if (!why)
		return true;
	g2_fail(err, G2_E_NAME, "invalid model name \"%s\"", g2_json_excerpt(excerpt, name, len));
	g2_fail_detail(err, "A model's name is the name of a folder; %s.", why);
	return false;
}

/* ---------------------------------------------------------------- lists of names */

typedef struct folder_names
{
	char	  **name;
	size_t		n;
	size_t		cap;
} folder_names;

static void
folder_names_free(folder_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		g2_free(names->name[i]);
	g2_free(names->name);
	memset(names, 0, sizeof *names);
}

static int
folder_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static bool
folder_names_add(folder_names *names, const char *name)
{
	char	   *copy;

	if (names->n == names->cap)
	{
		size_t		cap = names->cap ? 2 * names->cap : 16;
		char	  **grown = g2_realloc_array(names->name, cap, sizeof *grown);

		if (!grown)
			return false;
		names->name = grown;
		names->cap = cap;
	}
	copy = g2_strdup(name);
	if (!copy)
		return false;
	names->name[names->n++] = copy;
	return true;
}

/* True when directory/name is a folder itself, no link to one, that holds a config.json, or that of
 * an adapter. */
static bool
folder_is_model(const char *directory, const char *name)
{
	char		path[PATH_MAX];
	struct stat st;
	int			n = snprintf(path, sizeof path, "%s/%s", directory, name);

	return n > 0 && (size_t) n < sizeof path && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
		(g2_file_exists(path, "config.json") || g2_file_exists(path, G2_ADAPTER_CONFIG));
}

/* Names of the models in one directory, sorted; a directory that cannot be read has none. */
static bool
folder_names_read(const char *directory, folder_names *names)
{
	DIR		   *dir = opendir(directory);
	struct dirent *entry;
	bool		ok = true;

	memset(names, 0, sizeof *names);
	if (!dir)
		return true;
	while (ok && names->n < FOLDER_MAX_NAMES && (entry = readdir(dir)) != NULL)
		if (g2_model_name_check(entry->d_name, strlen(entry->d_name), NULL) &&
			folder_is_model(directory, entry->d_name))
			ok = folder_names_add(names, entry->d_name);
	closedir(dir);
	if (!ok)
		folder_names_free(names);
	else if (names->n > 1)
		qsort(names->name, names->n, sizeof *names->name, folder_compare);
	return ok;
}

bool
g2_model_list(const g2_model_paths *paths, g2_model_list_fn fn, void *arg, g2_error *err)
{
	for (uint32_t d = 0; d < paths->n_directories; d++)
	{
		folder_names names;

		if (!folder_names_read(paths->directories[d], &names))
			return g2_fail_memory(err, FOLDER_MAX_NAMES);
		for (size_t i = 0; i < names.n; i++)
		{
			bool		hidden = false;
			char	   *path;

			/* whatever has that name in an earlier directory is what g2_model_find finds */
			for (uint32_t e = 0; !hidden && e < d; e++)
				hidden = g2_file_exists(paths->directories[e], names.name[i]);
			if (hidden)
				continue;
			path = g2_file_path(paths->directories[d], names.name[i]);
			if (!path)
			{
				folder_names_free(&names);
				return g2_fail_memory(err, strlen(paths->directories[d]) + G2_MAX_NAME);
			}
			fn(arg, names.name[i], path);
			g2_free(path);
		}
		folder_names_free(&names);
	}
	return true;
}

/* ---------------------------------------------------------------- search */

typedef struct folder_hint
{
	char		text[400];
	size_t		len;
	bool		full;
} folder_hint;

static void
folder_hint_add(folder_hint *hint, const char *name)
{
	size_t		n = strlen(name);

	if (hint->full)
		return;
	if (hint->len + n + 10 > sizeof hint->text)
	{
		hint->full = true;
		memcpy(hint->text + hint->len, ", ...", sizeof ", ...");
		return;
	}
	hint->len += (size_t) snprintf(hint->text + hint->len, sizeof hint->text - hint->len,
								   "%s\"%s\"", hint->len ? ", " : "", name);
}

/* Also not where nobody can say. */
static bool
folder_is_for_everybody(const char *name, const char *path)
{
	g2_role_list roles;
	bool		everybody;

	if (!g2_role_list_read(name, path, &roles, NULL))
		return false;
	everybody = !roles.restricted;
	g2_role_list_free(&roles);
	return everybody;
}

/* The hint goes to whoever has made a mistake in a name: no model of others' is in it. */
static void
folder_hint_name(void *arg, const char *name, const char *path)
{
	folder_hint *hint = arg;

	if (!hint->full && folder_is_for_everybody(name, path))
		folder_hint_add(hint, name);
}

static bool
folder_not_found(const g2_model_paths *paths, const char *name, g2_error *err)
{
	folder_hint directories = {0},
				models = {0};
	bool		digits = name[0] != '\0';
	g2_error	ignored;

	for (const char *p = name; *p; p++)
		digits = digits && isdigit((unsigned char) *p);
	for (uint32_t d = 0; d < paths->n_directories; d++)
		folder_hint_add(&directories, paths->directories[d]);
	g2_fail(err, G2_E_NOT_FOUND, "model \"%s\" not found", name);
	g2_fail_detail(err, "Directories searched: %s.", directories.len ? directories.text : "none");
	if (digits)
		return g2_fail_hint(err, "An untyped third argument is the model; for %s sequences write "
							"n => %s.", name, name);
	if (!g2_model_list(paths, folder_hint_name, &models, &ignored))
		return false;
	if (!models.len)
		return g2_fail_hint(err, "There is no model in them that is for everybody.");
	return g2_fail_hint(err, "Models there: %s.", models.text);
}

bool
g2_model_find(const g2_model_paths *paths, const char *name, char **path, g2_error *err)
{
	if (!g2_model_name_check(name, strlen(name), err))
		return false;
	for (uint32_t d = 0; d < paths->n_directories; d++)
	{
		char	   *at = g2_file_path(paths->directories[d], name);
		struct stat st;
		int			failed;

		if (!at)
			return g2_fail_memory(err, strlen(paths->directories[d]) + strlen(name));
		failed = lstat(at, &st) == 0 ? 0 : errno;
		if (failed == 0 && S_ISDIR(st.st_mode))
		{
			*path = at;
			return true;
		}
		if (failed == 0)
		{
			g2_fail(err, G2_E_PERMISSION, S_ISLNK(st.st_mode) ? "\"%s\" is a symbolic link"
					: "\"%s\" is not a folder", g2_file_tail(at));
			if (S_ISLNK(st.st_mode))
				g2_fail_hint(err, "Links are not followed; copy the folder with `cp -rL`.");
		}
		else if (failed != ENOENT && failed != ENOTDIR && failed != ENAMETOOLONG)
		{
			g2_fail_errno(err, failed, "look for", g2_file_tail(at));
			if (failed == EACCES)
				g2_fail_hint(err, "The operating-system user of the server must be able to search "
							 "the directory.");
		}
		g2_free(at);
		if (failed != ENOENT && failed != ENOTDIR && failed != ENAMETOOLONG)
			return false;
	}
	return folder_not_found(paths, name, err);
}

/* ---------------------------------------------------------------- what is wrong with a folder */

/* Weights in formats that are not read, by how their names start or end. */
static bool
folder_is_foreign(const char *name)
{
	static const char *const start[] = {
		"pytorch_model", "tf_model", "flax_model", "rust_model",
	},
			   *const end[] = {".gguf", ".ggml", ".h5", ".msgpack", ".ckpt", ".pt", ".pth", ".ot",
		".onnx"};
	size_t		len = strlen(name);

	for (size_t i = 0; i < G2_LENGTH(start); i++)
		if (strncmp(name, start[i], strlen(start[i])) == 0)
			return true;
	for (size_t i = 0; i < G2_LENGTH(end); i++)
		if (len > strlen(end[i]) && strcmp(name + len - strlen(end[i]), end[i]) == 0)
			return true;
	return false;
}

/* Fills err when the folder cannot be listed; found = its first foreign file by name, or "". */
static bool
folder_look(const char *folder, char found[256], g2_error *err)
{
	DIR		   *dir = opendir(folder);
	struct dirent *entry;

	found[0] = '\0';
	if (!dir)
	{
		g2_fail_errno(err, errno, "read folder", g2_file_tail(folder));
		if (err && err->code == G2_E_PERMISSION)
			g2_fail_hint(err, "The operating-system user of the server must be able to read the "
						 "folder.");
		return false;
	}
	while ((entry = readdir(dir)) != NULL)
		if (folder_is_foreign(entry->d_name) && strlen(entry->d_name) < 256 &&
			(!found[0] || strcmp(entry->d_name, found) < 0))
			strcpy(found, entry->d_name);
	closedir(dir);
	return true;
}

bool
g2_folder_fail_weights(const char *folder, g2_error *err)
{
	char		found[256],
				excerpt[G2_JSON_EXCERPT];

	if (!folder_look(folder, found, err))
		return false;
	if (!found[0])
		return g2_fail(err, G2_E_NO_FILE, "\"model.safetensors\" is missing in \"%s\"",
					   g2_file_tail(folder));
	g2_fail(err, G2_E_UNSUPPORTED, "\"%s\" has no weights in the safetensors format, only \"%s\"",
			g2_file_tail(folder), g2_json_excerpt(excerpt, found, strlen(found)));
	if (strcmp(found, "pytorch_model.bin") == 0)
		return g2_fail_hint(err, "Convert it: gpt2_engine import %s", g2_file_tail(folder));
	return g2_fail_hint(err, "Convert it with transformers: "
						"AutoModelForCausalLM.from_pretrained(...)."
						"save_pretrained(..., safe_serialization=True).");
}

bool
g2_folder_check(const char *folder, g2_error *err)
{
	char		found[256];

	if (!folder_look(folder, found, err))
		return false;
	if (g2_file_exists(folder, "config.json"))
		return true;
	if (found[0] && !g2_file_exists(folder, "model.safetensors"))
		return g2_folder_fail_weights(folder, err);
	g2_fail(err, G2_E_NO_FILE, "\"config.json\" is missing in \"%s\"", g2_file_tail(folder));
	return g2_fail_hint(err, "A model's folder holds config.json, model.safetensors and the files of "
						"its tokenizer, and not another folder with them.");
}
