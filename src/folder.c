/*
 * folder.c: model folders as the PostgreSQL side reads them: names, small JSON files, roles.
 *
 * Model folders are untrusted: only regular files of at most 64 kB are read, never through a
 * symbolic link, and what is wrong with one is a text for the caller to show or to raise.
 *
 * Roles: gpt2.json's "roles" names those whose members may use the model, beside its owner and
 * superusers.  Without that key it is for everybody.  Where the file cannot be read, it is for
 * superusers: what it would say is not known.
 */
#include "compat.h"

#include <sys/stat.h>
#include <unistd.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "attempt.h"
#include "encoding.h"
#include "engine/protocol_train.h"
#include "file.h"
#include "folder.h"
#include "guc.h"
#include "owner.h"

#define ADAPTER_FILE "adapter_config.json"

/* ---- folders ---- */

bool
gpt2_is_model_name(const char *name)
{
	return name[0] != '\0' && !gpt2_model_name_problem(name);
}

/* An entry of that name, or one that cannot be looked at. */
static bool
has_file(const char *folder, const char *name)
{
	char		path[MAXPGPATH];
	struct stat st;

	if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int) sizeof path)
		return false;
	return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

bool
gpt2_is_model_folder(const char *folder)
{
	return has_file(folder, "config.json") || has_file(folder, ADAPTER_FILE);
}

bool
gpt2_is_adapter_folder(const char *folder)
{
	return has_file(folder, ADAPTER_FILE) && !has_file(folder, "model.safetensors") &&
		!has_file(folder, "model.safetensors.index.json");
}

bool
gpt2_folder_is_link(const char *folder)
{
	struct stat st;

	return lstat(folder, &st) == 0 && S_ISLNK(st.st_mode);
}

bool
gpt2_folder_is_writable(const char *folder)
{
	return access(folder, W_OK | X_OK) == 0;
}

char *
gpt2_folder_find(const char *name)
{
	char	  **directories = gpt2_model_directories();

	for (int i = 0; directories[i]; i++)
	{
		char	   *folder = psprintf("%s/%s", directories[i], name);

		if (gpt2_is_model_folder(folder))
			return folder;
		pfree(folder);
	}
	return NULL;
}

char *
gpt2_own_folder(const char *name)
{
	return psprintf("%s/%s/%s", DataDir, G2_TRAIN_MODELS, name);
}

char *
gpt2_folder_require(const char *model)
{
	const char *name = gpt2_to_utf8(model, strlen(model), "model name").data;
	char	   *folder;

	if (!gpt2_is_model_name(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("model name \"%s\" is not valid", model),
				 errhint("A model is named by its folder's name, without a slash.")));
	folder = gpt2_folder_find(name);
	if (!folder)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" not found", model),
				 errhint("The view gpt_models lists the names.")));
	if (gpt2_folder_is_link(folder))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the folder of model \"%s\" is a symbolic link", model),
				 errhint("Copy it with cp -rL.")));
	return folder;
}

/* ---- JSON ---- */

char *
gpt2_folder_text(const char *folder, const char *file, char **error)
{
	char		path[MAXPGPATH];
	struct stat st;
	char	   *data;
	size_t		len;

	*error = NULL;
	if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int) sizeof path)
	{
		*error = psprintf("the path of %s is too long", file);
		return NULL;
	}
	data = gpt2_file_read(path, file, G2_MAX_OWN_JSON, &len, error);
	if (!data)
	{
		if (*error && lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
			*error = psprintf("%s; copy the folder with cp -rL", *error);
		return NULL;
	}
	if (strlen(data) != len || !pg_verify_mbstr(PG_UTF8, data, (int) len, true))
		*error = psprintf("%s is not UTF-8 text", file);
	return *error ? NULL : data;
}

typedef struct Parsing
{
	const char *text_utf8;
	Jsonb	   *json;
} Parsing;

static void
parse(void *arg)
{
	Parsing    *parsing = arg;
	char	   *local = gpt2_from_utf8(parsing->text_utf8, strlen(parsing->text_utf8), NULL);

	parsing->json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(local)));
}

/*
 * jsonb_in reports a malformed text by an error, as gpt2_from_utf8 does one that the database's
 * encoding cannot hold.  Lack of memory and the like go on.
 */
static Jsonb *
parse_json(const char *text_utf8, const char *file, char **error)
{
	Parsing		parsing = {text_utf8, NULL};
	ErrorData  *raised = gpt2_attempt(parse, &parsing);
	int			category;

	if (!raised)
		return parsing.json;
	category = ERRCODE_TO_CATEGORY(raised->sqlerrcode);
	if (category != ERRCODE_DATA_EXCEPTION && category != ERRCODE_PROGRAM_LIMIT_EXCEEDED &&
		category != ERRCODE_FEATURE_NOT_SUPPORTED)
		ReThrowError(raised);
	*error = psprintf("%s: %s", file, raised->message);
	return NULL;
}

Jsonb *
gpt2_folder_json(const char *text_utf8, const char *file, char **error)
{
	Jsonb	   *json = parse_json(text_utf8, file, error);

	if (!json || JB_ROOT_IS_OBJECT(json))
		return json;
	*error = psprintf("%s is not a JSON object", file);
	return NULL;
}

JsonbValue *
gpt2_json_field(Jsonb *object, const char *key)
{
	JsonbValue	k;

	k.type = jbvString;
	k.val.string.val = unconstify(char *, key);
	k.val.string.len = (int) strlen(key);
	return findJsonbValueFromContainer(&object->root, JB_FOBJECT, &k);
}

char *
gpt2_adapter_base(const char *folder, char **error)
{
	char	   *data = gpt2_folder_text(folder, ADAPTER_FILE, error),
			   *base,
			   *slash;
	Jsonb	   *json = data ? gpt2_folder_json(data, ADAPTER_FILE, error) : NULL;
	JsonbValue *v = json ? gpt2_json_field(json, "base_model_name_or_path") : NULL;

	if (!v || v->type != jbvString)
	{
		if (!*error)
			*error = psprintf("%s does not name a base", ADAPTER_FILE);
		return NULL;
	}
	base = pnstrdup(v->val.string.val, v->val.string.len);
	slash = strrchr(base, '/');
	return slash ? slash + 1 : base;
}

/* ---- roles ---- */

/* The elements of an array of strings; false when it is something else. */
static bool
read_names(JsonbValue *array, List **names)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (array->type != jbvBinary || !JsonContainerIsArray(array->val.binary.data) ||
		JsonContainerIsScalar(array->val.binary.data) ||
		JsonContainerSize(array->val.binary.data) > G2_MAX_ROLES)
		return false;
	it = JsonbIteratorInit(array->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (v.type != jbvString)
			return false;
		*names = lappend(*names, pnstrdup(v.val.string.val, v.val.string.len));
	}
	return true;
}

bool
gpt2_json_roles(Jsonb *object, Gpt2ModelRoles *roles, char **error)
{
	JsonbValue *array = object ? gpt2_json_field(object, "roles") : NULL;

	*roles = (Gpt2ModelRoles) {.restricted = true, .names = NIL};
	if (object && !gpt2_json_owner(object, &roles->owner, error))
		return false;
	roles->restricted = array != NULL;
	if (!array || read_names(array, &roles->names))
		return true;
	roles->names = NIL;
	*error = psprintf("%s: roles is not an array of at most %d names", GPT2_ROLES_FILE,
					  G2_MAX_ROLES);
	return false;
}

static bool
fail_owner(const char *key, const char *what, char **error)
{
	*error = psprintf("%s: %s is not %s", GPT2_ROLES_FILE, key, what);
	return false;
}

/* A string of the object in UTF-8, palloc'd; empty where it is not there. */
static bool
read_string(Jsonb *object, const char *key, g2_span *s, char **error)
{
	JsonbValue *v = gpt2_json_field(object, key);

	*s = g2_span_of("");
	if (!v || v->type == jbvNull)
		return true;
	if (v->type != jbvString)
		return fail_owner(key, "a string", error);
	*s = gpt2_to_utf8(pnstrdup(v->val.string.val, v->val.string.len), v->val.string.len, key);
	return true;
}

static bool
read_oid(Jsonb *object, const char *key, uint32 *oid, char **error)
{
	JsonbValue *v = gpt2_json_field(object, key);
	double		d = 0;

	*oid = 0;
	if (!v || v->type == jbvNull)
		return true;
	if (v->type == jbvNumeric)
		d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
											   NumericGetDatum(v->val.numeric)));
	if (!(d >= 1 && d <= PG_UINT32_MAX) || d != (double) (uint32) d)
		return fail_owner(key, "an OID", error);
	*oid = (uint32) d;
	return true;
}

bool
gpt2_json_owner(Jsonb *object, g2_owner *owner, char **error)
{
	g2_span		cluster;

	memset(owner, 0, sizeof *owner);
	if (!read_string(object, "owner", &owner->name, error) ||
		!read_oid(object, "owner_oid", &owner->oid, error) ||
		!read_string(object, "owner_cluster", &cluster, error))
		return false;
	if (cluster.len == 0)
		return true;
	errno = 0;
	owner->cluster = strtoull(cluster.data, NULL, 10);
	if (strspn(cluster.data, "0123456789") != cluster.len || errno != 0)
		return fail_owner("owner_cluster", "a system identifier", error);
	return true;
}

bool
gpt2_folder_roles(const char *folder, Gpt2ModelRoles *roles, char **error)
{
	char	   *data = gpt2_folder_text(folder, GPT2_ROLES_FILE, error);
	Jsonb	   *json = data ? gpt2_folder_json(data, GPT2_ROLES_FILE, error) : NULL;

	*roles = (Gpt2ModelRoles) {.restricted = true, .names = NIL};
	return *error == NULL && gpt2_json_roles(json, roles, error);
}

bool
gpt2_roles_permit(const Gpt2ModelRoles *roles)
{
	ListCell   *cell;

	if (!roles->restricted || superuser() ||
		gpt2_has_privs_of(GetUserId(), gpt2_role_of_owner(&roles->owner)))
		return true;
	foreach(cell, roles->names)
		if (gpt2_has_privs_of(GetUserId(), get_role_oid((const char *) lfirst(cell), true)))
			return true;
	return false;
}

/* What cannot be understood is for superusers. */
void
gpt2_folder_check_use(const char *model, const char *folder)
{
	Gpt2ModelRoles roles;
	char	   *error;

	(void) gpt2_folder_roles(folder, &roles, &error);
	if (!gpt2_roles_permit(&roles))
		gpt2_raise_model_denied(model, GetUserId());
}
