/*
 * models.c: the rows of the view gpt_models.
 *
 * Two sources: folders that hold a config.json (or an adapter's) in the directories of
 * gpt2.model_path, read here (so that the view works without an engine and never starts one), and
 * what a running engine has loaded, is loading or failed to load, which goes over a folder's row of
 * the same name.
 *
 * What is wrong with one folder is a text in its row.  A model that the current user may not use
 * has no row; of one that is loaded the engine knows for whom it is, of another its gpt2.json.
 */
#include "compat.h"

#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "client.h"
#include "encoding.h"
#include "folder.h"
#include "guc.h"
#include "models.h"
#include "owner.h"
#include "result.h"

PG_FUNCTION_INFO_V1(gpt2_models);

/* Columns in the order of the function's OUT parameters. */
enum
{
	COL_NAME, COL_ARCHITECTURE, COL_PARAMETERS, COL_CONTEXT, COL_VOCAB, COL_TOKENIZER, COL_FORMAT,
	COL_DEVICE, COL_STATE, COL_BYTES, COL_HASH, COL_ERROR, COL_LOADED_AT, COL_USED_AT,
	COL_PERCENT, COL_BASE, COL_OWNER, N_COLUMNS
};

typedef struct ModelRow
{
	char	   *name;			/* as the file system and the engine spell it */
	bool		hidden;			/* from the current user */
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

/* By its name now; NULL where the model is nobody's. */
static void
set_owner(ModelRow *row, const g2_owner *owner)
{
	Oid			role = gpt2_role_of_owner(owner);
	char	   *name = OidIsValid(role) ? GetUserNameFromId(role, true) : NULL;

	row->nulls[COL_OWNER] = true;
	if (name)
		set_string(row, COL_OWNER, name);
}

/* ---- config.json ---- */

static void
set_number(ModelRow *row, int column, Jsonb *json, const char *name, char **error)
{
	JsonbValue *v = gpt2_json_field(json, name);
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
	JsonbValue *type = gpt2_json_field(json, "model_type");

	if (type && type->type == jbvString)
		set_string(row, COL_ARCHITECTURE,
				   pnstrdup(type->val.string.val, pg_mbcliplen(type->val.string.val,
															   type->val.string.len, 64)));
	set_number(row, COL_CONTEXT, json,
			   gpt2_json_field(json, "n_positions") ? "n_positions" : "n_ctx", error);
	set_number(row, COL_VOCAB, json, "vocab_size", error);
}

/* ---- folders ---- */

/* The folder whose config.json the model has: its own, or its base's, which the row names.  NULL with
 * the cause in *error. */
static const char *
config_folder(ModelRow *row, const char *folder, char **error)
{
	char	   *base;

	if (!gpt2_is_adapter_folder(folder))
		return folder;
	base = gpt2_adapter_base(folder, error);
	if (!base)
		return NULL;
	set_string(row, COL_BASE, base);
	folder = gpt2_is_model_name(base) ? gpt2_folder_find(base) : NULL;
	if (!folder)
		*error = psprintf("the base model \"%s\" is not there", base);
	return folder;
}

/* What cannot be said of a folder is in *error. */
static void
describe_folder(ModelRow *row, const char *folder, char **error)
{
	Gpt2ModelRoles roles;
	char	   *data;
	Jsonb	   *json;

	if (!gpt2_folder_roles(folder, &roles, error))
		roles = (Gpt2ModelRoles) {.restricted = true};
	row->hidden = !gpt2_roles_permit(&roles);
	set_owner(row, &roles.owner);
	if (*error)
		return;
	folder = config_folder(row, folder, error);
	data = folder ? gpt2_folder_text(folder, "config.json", error) : NULL;
	json = data ? gpt2_folder_json(data, "config.json", error) : NULL;
	if (json)
		set_config(row, json, error);
}

static void
add_folder(List **rows, const char *directory, const char *name)
{
	char		folder[MAXPGPATH];
	ModelRow   *row;
	char	   *error = NULL;

	if (snprintf(folder, sizeof folder, "%s/%s", directory, name) >= (int) sizeof folder ||
		!gpt2_is_model_folder(folder))
		return;
	row = new_row(name, strlen(name));
	set_string(row, COL_STATE, "on disk");
	*rows = lappend(*rows, row);
	if (gpt2_folder_is_link(folder))
		error = pstrdup("the folder is a symbolic link; copy it with cp -rL");
	else
		describe_folder(row, folder, &error);
	if (error)
		set_string(row, COL_ERROR, error);
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
		if (gpt2_is_model_name(entry->d_name) &&
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

bool
gpt2_model_is_visible(const g2_model_row *m)
{
	Gpt2ModelRoles roles = {.restricted = m->restricted != 0 || m->n_roles > 0,
	.owner = m->owner};

	for (uint32 i = 0; i < m->n_roles; i++)
		roles.names = lappend(roles.names, gpt2_from_utf8(m->roles[i].data, m->roles[i].len,
														  NULL));
	return gpt2_roles_permit(&roles);
}

static void
overlay(ModelRow *row, const g2_model_row *m)
{
	/* Before it has loaded a model, the engine may not know. */
	if (m->state == G2_MODEL_LOADED)
	{
		row->hidden = !gpt2_model_is_visible(m);
		set_owner(row, &m->owner);
	}
	else
		row->hidden |= !gpt2_model_is_visible(m);
	set_string(row, COL_STATE, state_name(m->state));
	overlay_text(row, COL_ARCHITECTURE, m->architecture);
	overlay_text(row, COL_TOKENIZER, m->tokenizer);
	overlay_text(row, COL_FORMAT, m->format);
	overlay_text(row, COL_DEVICE, m->device);
	overlay_text(row, COL_HASH, m->content_hash);
	overlay_text(row, COL_ERROR, m->error);
	overlay_text(row, COL_BASE, m->base);
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

bool
gpt2_for_each_model(void (*take) (const g2_model_row *m, void *arg), void *arg)
{
	size_t		len;
	bool		silent;
	char	   *payload = gpt2_ask_running(G2_MSG_MODELS, G2_MSG_MODEL_LIST, &len, &silent);
	g2_model_row *m = palloc(sizeof *m);
	g2_reader	reader;
	uint32		count;

	if (!payload)
		return !silent;
	reader = g2_read(payload, len);
	count = g2_get_u32(&reader);
	if (reader.failed)
		gpt2_malformed_answer();
	for (uint32 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		g2_model_row_get(&reader, m);
		if (reader.failed || m->name.len == 0)
			gpt2_malformed_answer();
		take(m, arg);
	}
	return true;
}

/* What a running engine knows goes over the folders' rows. */
static void
add_engine_row(const g2_model_row *m, void *arg)
{
	List	  **rows = arg;
	ModelRow   *row = find_row(*rows, m->name.data, m->name.len);

	if (!row)
	{
		/* What was wrong with a folder that is a model's no more is of no use to anybody. */
		if (m->state == G2_MODEL_FAILED &&
			!gpt2_folder_find(pnstrdup(m->name.data, m->name.len)))
			return;
		row = new_row(m->name.data, m->name.len);
		*rows = lappend(*rows, row);
	}
	overlay(row, m);
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
	(void) gpt2_for_each_model(add_engine_row, &rows);
	list_sort(rows, by_name);
	foreach(cell, rows)
	{
		ModelRow   *row = (ModelRow *) lfirst(cell);

		if (!row->hidden)
			tuplestore_putvalues(store, tupdesc, row->values, row->nulls);
	}
	return (Datum) 0;
}
