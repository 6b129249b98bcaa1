/*
 * roles.c: gpt_grant_model, gpt_revoke_model, gpt_reassign_model: "roles" and owner in the gpt2.json of
 * a model's folder.
 *
 * The file is the only place where they stand, so that they travel with the folder; the engine
 * reads it when it loads the model, and is made to do that again after a change.  A change is not
 * part of the transaction: ROLLBACK does not undo it.
 *
 * The lock of model folders keeps two changes from overwriting each other.  It is given up before
 * the engine is asked for anything.  A training that replaces a model takes owner and roles over at its
 * end, which no lock of ours is held for: so an owner does not change while there is one.
 */
#include "compat.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "admin.h"
#include "encoding.h"
#include "file.h"
#include "folder.h"
#include "model_locks.h"
#include "owner.h"
#include "trainings.h"

PG_FUNCTION_INFO_V1(gpt2_grant_model);
PG_FUNCTION_INFO_V1(gpt2_revoke_model);
PG_FUNCTION_INFO_V1(gpt2_reassign_model);

#define EVERYBODY "public"		/* no role can have that name */

typedef struct Change
{
	char	   *model;
	char	   *role;
	const char *what;			/* is changed */
	bool		everybody;		/* role is PUBLIC */
	char	   *folder;
	Jsonb	   *json;			/* of gpt2.json; NULL = there is none */
	Gpt2ModelRoles roles;
} Change;

/* ---- reading ---- */

static void
raise_file_error(const Change *c, const char *error)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_JSON_TEXT),
			 errmsg("cannot change the %s of model \"%s\"", c->what, c->model),
			 errdetail_internal("%s", error),
			 errhint("Correct the file, or remove it.")));
}

/* What the database encoding lacks would be lost when the file is written: jsonb has no other, and no
 * escape (\uXXXX) for such a character either. */
static void
check_encoding(const Change *c, const char *text_utf8)
{
	size_t		len;
	char	   *here = gpt2_from_utf8(text_utf8, strlen(text_utf8), &len);
	g2_span		back = gpt2_to_utf8(here, len, GPT2_ROLES_FILE);

	if (back.len != strlen(text_utf8) || memcmp(back.data, text_utf8, back.len) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("cannot change the %s of model \"%s\" in this database", c->what, c->model),
				 errdetail("Its gpt2.json has characters that the database's encoding lacks."),
				 errhint("Do it in a database with encoding UTF8.")));
}

static void
read_file(Change *c)
{
	char	   *error;
	char	   *data = gpt2_folder_text(c->folder, GPT2_ROLES_FILE, &error);

	if (data)
	{
		check_encoding(c, data);
		c->json = gpt2_folder_json(data, GPT2_ROLES_FILE, &error);
	}
	if (error || !gpt2_json_roles(c->json, &c->roles, &error))
		raise_file_error(c, error);
}

/* ---- changing ---- */

static ListCell *
find_name(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp((const char *) lfirst(cell), name) == 0)
			return cell;
	return NULL;
}

/* False: nothing is to be changed. */
static bool
add_role(Change *c)
{
	if (c->everybody)
	{
		bool		restricted = c->roles.restricted;

		c->roles = (Gpt2ModelRoles) {.restricted = false};
		return restricted;
	}
	(void) get_role_oid(c->role, false);
	if (find_name(c->roles.names, c->role))
		return false;
	if (list_length(c->roles.names) >= G2_MAX_ROLES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("model \"%s\" has too many roles", c->model),
				 errdetail("The limit is %d.", G2_MAX_ROLES),
				 errhint("Grant it to one role that the others are members of.")));
	if (!c->roles.restricted)
		ereport(NOTICE,
				(errmsg("model \"%s\" was for everybody and is for members of \"%s\" only now",
						c->model, c->role)));
	c->roles.restricted = true;
	c->roles.names = lappend(c->roles.names, c->role);
	return true;
}

static bool
remove_role(Change *c)
{
	ListCell   *cell = find_name(c->roles.names, c->role);

	if (c->everybody)
	{
		bool		restricted = c->roles.restricted;

		c->roles.restricted = true;
		return !restricted;
	}
	if (!c->roles.restricted)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_GRANT_OPERATION),
				 errmsg("model \"%s\" is for everybody", c->model),
				 errhint("Grant it to the roles that may use it, or revoke it from public.")));
	if (!cell)
	{
		ereport(NOTICE,
				(errmsg("model \"%s\" was not granted to \"%s\"", c->model, c->role)));
		return false;
	}
	c->roles.names = list_delete_cell(c->roles.names, cell);
	return true;
}

/* As with ALTER TABLE OWNER TO, who gives a model away must be able to become its new owner.  A role
 * that has it already, by another name or in another cluster, is no new one: what the file says of it
 * is brought up to date. */
static bool
set_owner(Change *c)
{
	Oid			role = get_role_oid(c->role, false);
	g2_owner	old = c->roles.owner,
				new = gpt2_owner_of_role(role);

	if (role != gpt2_role_of_owner(&old))
		check_can_set_role(GetUserId(), role);
	c->roles.owner = new;
	return old.oid != new.oid || old.cluster != new.cluster ||
		old.name.len != new.name.len || memcmp(old.name.data, new.name.data, new.name.len) != 0;
}

/* ---- writing ---- */

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *s)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, s);
	v.val.string.len = (int) strlen(s);
	pushJsonbValue(state, token, &v);
}

/* {"roles": [...]} */
static Datum
roles_object(const Change *c)
{
	JsonbParseState *state = NULL;
	ListCell   *cell;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_string(&state, WJB_KEY, "roles");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(cell, c->roles.names)
		push_string(&state, WJB_ELEM, (const char *) lfirst(cell));
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* {"owner": ..., "owner_oid": ..., "owner_cluster": "..."} */
static Datum
owner_object(const Change *c)
{
	const g2_owner *owner = &c->roles.owner;
	JsonbParseState *state = NULL;
	JsonbValue	oid;

	oid.type = jbvNumeric;
	oid.val.numeric = DatumGetNumeric(DirectFunctionCall1(int8_numeric, Int64GetDatum(owner->oid)));
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_string(&state, WJB_KEY, "owner");
	push_string(&state, WJB_VALUE, c->role);
	push_string(&state, WJB_KEY, "owner_oid");
	pushJsonbValue(&state, WJB_VALUE, &oid);
	push_string(&state, WJB_KEY, "owner_cluster");
	push_string(&state, WJB_VALUE, psprintf(UINT64_FORMAT, owner->cluster));
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* gpt2.json with these keys. */
static Datum
with_keys(const Change *c, Datum keys)
{
	return c->json ? DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(c->json), keys) : keys;
}

/* gpt2.json with these roles. */
static Datum
with_roles(const Change *c)
{
	return c->roles.restricted ? with_keys(c, roles_object(c)) :
		DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(c->json), CStringGetTextDatum("roles"));
}

/* The folder may be the installation's, which belongs to root. */
static void
write_file(const Change *c, Datum json)
{
	char	   *path = psprintf("%s/%s", c->folder, GPT2_ROLES_FILE);
	Jsonb	   *contents = DatumGetJsonbP(json);
	char	   *data = psprintf("%s\n", JsonbToCStringIndent(NULL, &contents->root, VARSIZE(contents)));
	g2_span		new = gpt2_to_utf8(data, strlen(data), GPT2_ROLES_FILE);

	if (new.len > G2_MAX_OWN_JSON)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("file \"%s\" would be too long", path),
				 errdetail("The limit is %d bytes.", G2_MAX_OWN_JSON),
				 errhint("Grant the model to one role that the others are members of.")));
	if (!gpt2_folder_is_writable(c->folder))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write to model folder \"%s\": %m", c->folder),
				 errhint("Let the server's user write there, or copy the folder to gpt2_models in "
						 "the data directory, where it is found first.")));
	gpt2_file_replace(path, new.data, new.len);
}

/* ---- SQL ---- */

static Change
begin_change(FunctionCallInfo fcinfo, const char *what)
{
	Change		c = {.what = what};

	gpt2_require_name(fcinfo);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("role name must not be null")));
	c.model = text_to_cstring(PG_GETARG_TEXT_PP(0));
	c.role = text_to_cstring(PG_GETARG_TEXT_PP(1));
	c.everybody = strcmp(c.role, EVERYBODY) == 0;
	gpt2_lock_folders();
	c.folder = gpt2_folder_require(c.model);
	(void) gpt2_check_owner(c.model, c.folder);
	return c;
}

static void
end_change(const Change *c, bool changed)
{
	gpt2_unlock_folders();
	if (changed)
		gpt2_unload_if_loaded(c->model);
}

static void
change_roles(FunctionCallInfo fcinfo, bool (*change) (Change *c))
{
	Change		c = begin_change(fcinfo, "roles");
	bool		changed;

	read_file(&c);
	changed = change(&c);
	if (changed)
		write_file(&c, with_roles(&c));
	end_change(&c, changed);
}

Datum
gpt2_grant_model(PG_FUNCTION_ARGS)
{
	change_roles(fcinfo, add_role);
	PG_RETURN_VOID();
}

Datum
gpt2_revoke_model(PG_FUNCTION_ARGS)
{
	change_roles(fcinfo, remove_role);
	PG_RETURN_VOID();
}

Datum
gpt2_reassign_model(PG_FUNCTION_ARGS)
{
	Change		c = begin_change(fcinfo, "owner");
	const char *name = last_dir_separator(c.folder) + 1;
	bool		changed;

	if (!gpt2_lock_model(name, GPT2_MODEL_CHANGED))
		gpt2_raise_in_training(psprintf("cannot change the owner of model \"%s\" while it is trained",
										c.model), name, GPT2_MODEL_CHANGED);
	read_file(&c);
	changed = set_owner(&c);
	if (changed)
		write_file(&c, with_keys(&c, owner_object(&c)));
	gpt2_unlock_model(name, GPT2_MODEL_CHANGED);
	end_change(&c, changed);
	PG_RETURN_VOID();
}
