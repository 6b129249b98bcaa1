/*
 * folder.c: model folders as the PostgreSQL side reads them: names, small JSON files, roles.
 *
 * Model folders are untrusted: only regular files of at most 64 kB are read, never through a
 * symbolic link, and what is wrong with one is a text for the caller to show or to raise.
 *
 * Roles: gpt2.json's "roles" names those whose members may use the model.  Without that key it is
 * for everybody; an empty array leaves superusers, who may use any.  Where the file cannot be read,
 * nobody else may: what it would say is not known.
 */
#include "compat.h"

#include <sys/stat.h>
#include <unistd.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "attempt.h"
#include "encoding.h"
#include "file.h"
#include "folder.h"
#include "guc.h"

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

	*roles = (Gpt2ModelRoles) {.restricted = array != NULL, .names = NIL};
	if (!array || read_names(array, &roles->names))
		return true;
	roles->names = NIL;
	*error = psprintf("%s: roles is not an array of at most %d names", GPT2_ROLES_FILE,
					  G2_MAX_ROLES);
	return false;
}

char *
gpt2_json_owner(Jsonb *object)
{
	JsonbValue *owner = gpt2_json_field(object, "owner");

	if (!owner || owner->type != jbvString)
		return NULL;
	return pnstrdup(owner->val.string.val, owner->val.string.len);
}

bool
gpt2_json_is_owner(Jsonb *object)
{
	char	   *owner = gpt2_json_owner(object);
	Oid			role = owner ? get_role_oid(owner, true) : InvalidOid;

	return OidIsValid(role) && has_privs_of_role(GetUserId(), role);
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

	if (!roles->restricted || superuser())
		return true;
	foreach(cell, roles->names)
	{
		Oid			role = get_role_oid((const char *) lfirst(cell), true);

		/* As for any privilege: a member that does not inherit has to SET ROLE. */
		if (OidIsValid(role) && has_privs_of_role(GetUserId(), role))
			return true;
	}
	return false;
}
