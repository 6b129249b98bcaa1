/*
 * models.c: the rows of the view gpt_models.
 *
 * Two sources: folders that hold a config.json in the directories of gpt2.model_path, read here
 * (so that the view works without an engine and never starts one), and what a running engine has
 * loaded, is loading or failed to load, which goes over a folder's row of the same name.
 *
 * Model folders are untrusted: only regular files of at most 64 kB are read, never through a
 * symbolic link, and what is wrong with one folder is a text in its row.
 */
#include "compat.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/resowner.h"

#include "client.h"
#include "encoding.h"
#include "guc.h"
#include "result.h"

PG_FUNCTION_INFO_V1(gpt2_models);

#define MAX_CONFIG_BYTES 65536

/* Columns in the order of the function's OUT parameters. */
enum
{
	COL_NAME, COL_ARCHITECTURE, COL_PARAMETERS, COL_CONTEXT, COL_VOCAB, COL_TOKENIZER, COL_FORMAT,
	COL_DEVICE, COL_STATE, COL_BYTES, COL_HASH, COL_ERROR, COL_LOADED_AT, COL_USED_AT,
	COL_PERCENT, N_COLUMNS
};

typedef struct ModelRow
{
	char	   *name;			/* as the file system and the engine spell it */
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS];
} ModelRow;

static void
set_string(ModelRow *row, int column, const char *s)
{
	row->values[column] = CStringGetTextDatum(s);
	row->nulls[column] = false;
}

static ModelRow *
new_row(const char *name, size_t len)
{
	ModelRow   *row = palloc0(sizeof(ModelRow));

	row->name = pnstrdup(name, len);
	memset(row->nulls, true, sizeof row->nulls);
	set_string(row, COL_NAME, gpt2_from_utf8(name, len, NULL));
	return row;
}

static ModelRow *
find_row(List *rows, const char *name, size_t len)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		ModelRow   *row = (ModelRow *) lfirst(cell);

		if (strlen(row->name) == len && memcmp(row->name, name, len) == 0)
			return row;
	}
	return NULL;
}

/* ---- config.json ---- */

/* The contents, NUL-terminated; NULL with the cause in *error. */
static char *
read_config(const char *path, char **error)
{
	int			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	char	   *data;
	size_t		got = 0;

	if (fd < 0)
	{
		*error = errno == ELOOP ?
			pstrdup("config.json is a symbolic link; copy the folder with cp -rL") :
			psprintf("could not open config.json: %s", strerror(errno));
		return NULL;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		*error = pstrdup("config.json is not a regular file");
	else if (st.st_size > MAX_CONFIG_BYTES)
		*error = psprintf("config.json has %lld bytes, more than %d",
						  (long long) st.st_size, MAX_CONFIG_BYTES);
	if (*error)
	{
		CloseTransientFile(fd);
		return NULL;
	}
	data = palloc(MAX_CONFIG_BYTES + 1);
	while (got < MAX_CONFIG_BYTES)
	{
		ssize_t		n = read(fd, data + got, MAX_CONFIG_BYTES - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			*error = psprintf("could not read config.json: %s", strerror(errno));
		if (n <= 0)
			break;
		got += (size_t) n;
	}
	CloseTransientFile(fd);
	data[got] = '\0';
	if (!*error && (strlen(data) != got || !pg_verify_mbstr(PG_UTF8, data, (int) got, true)))
		*error = pstrdup("config.json is not UTF-8 text");
	return *error ? NULL : data;
}

/*
 * jsonb_in reports a malformed text by an error, caught here in a subtransaction, as is a text that
 * the database's encoding cannot hold.  A cancel, lack of memory and the like go on.
 */
static Jsonb *
parse_json(const char *text_utf8, char **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Jsonb	   *volatile json = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		char	   *in_database_encoding = gpt2_from_utf8(text_utf8, strlen(text_utf8), NULL);

		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
												  CStringGetDatum(in_database_encoding)));
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *edata;
		int			category;

		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		category = ERRCODE_TO_CATEGORY(edata->sqlerrcode);
		if (category != ERRCODE_DATA_EXCEPTION && category != ERRCODE_PROGRAM_LIMIT_EXCEEDED &&
			category != ERRCODE_FEATURE_NOT_SUPPORTED)
			ReThrowError(edata);
		*error = psprintf("config.json: %s", edata->message);
		json = NULL;
	}
	PG_END_TRY();
	return json;
}

static JsonbValue *
field(Jsonb *json, const char *name)
{
	JsonbValue	key;

	key.type = jbvString;
	key.val.string.val = unconstify(char *, name);
	key.val.string.len = (int) strlen(name);
	return findJsonbValueFromContainer(&json->root, JB_FOBJECT, &key);
}

static void
set_number(ModelRow *row, int column, Jsonb *json, const char *name, char **error)
{
	JsonbValue *v = field(json, name);
	double		d = 0;

	if (!v)
		return;
	if (v->type == jbvNumeric)
		d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
											   NumericGetDatum(v->val.numeric)));
	if (!(d >= 1 && d <= PG_INT32_MAX) || d != (double) (int32) d)
	{
		*error = psprintf("config.json: %s is not a positive integer", name);
		return;
	}
	row->values[column] = Int32GetDatum((int32) d);
	row->nulls[column] = false;
}

static void
set_config(ModelRow *row, Jsonb *json, char **error)
{
	JsonbValue *type;

	if (!JB_ROOT_IS_OBJECT(json))
	{
		*error = pstrdup("config.json is not a JSON object");
		return;
	}
	type = field(json, "model_type");
	if (type && type->type == jbvString)
		set_string(row, COL_ARCHITECTURE,
				   pnstrdup(type->val.string.val, pg_mbcliplen(type->val.string.val,
															   type->val.string.len, 64)));
	set_number(row, COL_CONTEXT, json, field(json, "n_positions") ? "n_positions" : "n_ctx",
			   error);
	set_number(row, COL_VOCAB, json, "vocab_size", error);
}

/* ---- folders ---- */

static void
add_folder(List **rows, const char *directory, const char *name)
{
	char		folder[MAXPGPATH],
				path[MAXPGPATH];
	struct stat st;
	ModelRow   *row;
	char	   *error = NULL,
			   *config;
	Jsonb	   *json;

	if (snprintf(folder, sizeof folder, "%s/%s", directory, name) >= (int) sizeof folder ||
		snprintf(path, sizeof path, "%s/config.json", folder) >= (int) sizeof path)
		return;
	if (lstat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR))
		return;
	row = new_row(name, strlen(name));
	set_string(row, COL_STATE, "on disk");
	*rows = lappend(*rows, row);
	if (lstat(folder, &st) == 0 && S_ISLNK(st.st_mode))
	{
		set_string(row, COL_ERROR, "the folder is a symbolic link; copy it with cp -rL");
		return;
	}
	config = read_config(path, &error);
	json = config ? parse_json(config, &error) : NULL;
	if (json)
		set_config(row, json, &error);
	if (error)
		set_string(row, COL_ERROR, error);
}

/* The engine refuses such names, so they are not shown. */
static bool
is_model_name(const char *name)
{
	if (name[0] == '.' || strstr(name, ".."))
		return false;
	for (const char *c = name; *c; c++)
		if ((unsigned char) *c < 0x20 || *c == 0x7f)
			return false;
	return true;
}

static void
add_directory(List **rows, const char *directory)
{
	DIR		   *dir = AllocateDir(directory);
	struct dirent *entry;

	if (!dir)
	{
		if (errno != ENOENT)
			ereport(WARNING,
					(errcode_for_file_access(),
					 errmsg("could not open directory \"%s\": %m", directory)));
		return;
	}
	while ((entry = ReadDirExtended(dir, directory, LOG)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		/* The first directory that has a name wins, as for the engine. */
		if (is_model_name(entry->d_name) &&
			!find_row(*rows, entry->d_name, strlen(entry->d_name)))
			add_folder(rows, directory, entry->d_name);
	}
	FreeDir(dir);
}

/* ---- the engine's rows ---- */

static const char *
state_name(uint32 state)
{
	switch (state)
	{
		case G2_MODEL_LOADING:
			return "loading";
		case G2_MODEL_LOADED:
			return "loaded";
		default:
			return "failed";
	}
}

/* What the engine does not know stays as the folder says. */
static void
overlay_text(ModelRow *row, int column, g2_span s)
{
	if (s.len > 0)
		gpt2_set_text(s, &row->values[column], &row->nulls[column]);
}

static void
overlay(ModelRow *row, const g2_model_row *m)
{
	set_string(row, COL_STATE, state_name(m->state));
	overlay_text(row, COL_ARCHITECTURE, m->architecture);
	overlay_text(row, COL_TOKENIZER, m->tokenizer);
	overlay_text(row, COL_FORMAT, m->format);
	overlay_text(row, COL_DEVICE, m->device);
	overlay_text(row, COL_HASH, m->content_hash);
	overlay_text(row, COL_ERROR, m->error);
	gpt2_set_int8(m->parameters, &row->values[COL_PARAMETERS], &row->nulls[COL_PARAMETERS]);
	if (m->context_length > 0)
		gpt2_set_int4(m->context_length, &row->values[COL_CONTEXT], &row->nulls[COL_CONTEXT]);
	if (m->vocab_size > 0)
		gpt2_set_int4(m->vocab_size, &row->values[COL_VOCAB], &row->nulls[COL_VOCAB]);
	gpt2_set_int8(m->bytes, &row->values[COL_BYTES], &row->nulls[COL_BYTES]);
	gpt2_set_time(m->loaded_at, &row->values[COL_LOADED_AT], &row->nulls[COL_LOADED_AT]);
	gpt2_set_time(m->last_used_at, &row->values[COL_USED_AT], &row->nulls[COL_USED_AT]);
	if (m->state == G2_MODEL_LOADING)
	{
		row->values[COL_PERCENT] = Int32GetDatum((int32) Min(m->percent, 100));
		row->nulls[COL_PERCENT] = false;
	}
}

/* What a running engine knows goes over the folders' rows. */
static void
add_engine_rows(List **rows)
{
	size_t		len;
	char	   *payload = gpt2_ask_running(G2_MSG_MODELS, G2_MSG_MODEL_LIST, &len);
	g2_reader	reader;
	uint32		count;

	if (!payload)
		return;
	reader = g2_read(payload, len);
	count = g2_get_u32(&reader);
	for (uint32 i = 0; i < count; i++)
	{
		g2_model_row m;
		ModelRow   *row;

		g2_model_row_get(&reader, &m);
		if (reader.failed || m.name.len == 0)
			gpt2_malformed_answer();
		row = find_row(*rows, m.name.data, m.name.len);
		if (!row)
		{
			row = new_row(m.name.data, m.name.len);
			*rows = lappend(*rows, row);
		}
		overlay(row, &m);
	}
}

static int
by_name(const ListCell *a, const ListCell *b)
{
	return strcmp(((ModelRow *) lfirst(a))->name, ((ModelRow *) lfirst(b))->name);
}

Datum
gpt2_models(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Tuplestorestate *store = gpt2_begin_rows(fcinfo, &tupdesc);
	List	   *rows = NIL;
	ListCell   *cell;
	char	  **directories = gpt2_model_directories();

	for (int i = 0; directories[i]; i++)
		add_directory(&rows, directories[i]);
	add_engine_rows(&rows);
	list_sort(rows, by_name);
	foreach(cell, rows)
	{
		ModelRow   *row = (ModelRow *) lfirst(cell);

		tuplestore_putvalues(store, tupdesc, row->values, row->nulls);
	}
	return (Datum) 0;
}
