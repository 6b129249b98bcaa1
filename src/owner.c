/*
 * owner.c: the role that a model belongs to.
 */
#include "compat.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "encoding.h"
#include "folder.h"
#include "owner.h"

Oid
gpt2_role_of_name(g2_span name)
{
	char	   *local;
	size_t		len;
	g2_span		back;
	Oid			role;

	if (name.len == 0 || name.len >= NAMEDATALEN * 4)
		return InvalidOid;
	local = gpt2_from_utf8(name.data, name.len, &len);
	/* Characters that the encoding lacks would make it another name. */
	back = gpt2_to_utf8(local, len, "role name");
	if (len >= NAMEDATALEN || back.len != name.len || memcmp(back.data, name.data, back.len) != 0)
		return InvalidOid;
	role = get_role_oid(local, true);
	pfree(local);
	return role;
}

Oid
gpt2_role_of_owner(const g2_owner *owner)
{
	if (owner->name.len == 0)
		return InvalidOid;
	if (owner->oid == 0 || owner->cluster == 0 || owner->cluster != GetSystemIdentifier())
		return gpt2_role_of_name(owner->name);
	return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner->oid)) ? owner->oid : InvalidOid;
}

bool
gpt2_has_privs_of(Oid member, Oid role)
{
	return OidIsValid(role) && has_privs_of_role(member, role);
}

g2_owner
gpt2_owner_of_role(Oid role)
{
	const char *name = GetUserNameFromId(role, false);

	return (g2_owner) {
		.name = gpt2_to_utf8(name, strlen(name), "role name"), .oid = role,
		.cluster = GetSystemIdentifier(),
	};
}

g2_owner
gpt2_folder_owner(const char *folder)
{
	char	   *error,
			   *data = gpt2_folder_text(folder, GPT2_ROLES_FILE, &error);
	Jsonb	   *json = data ? gpt2_folder_json(data, GPT2_ROLES_FILE, &error) : NULL;
	g2_owner	owner = {.oid = 0};

	if (!json || !gpt2_json_owner(json, &owner, &error))
		owner = (g2_owner) {.oid = 0};
	return owner;
}

g2_owner
gpt2_check_owner(const char *model, const char *folder)
{
	g2_owner	owner = gpt2_folder_owner(folder);

	if (!superuser() && !gpt2_has_privs_of(GetUserId(), gpt2_role_of_owner(&owner)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser or owner of model \"%s\"", model),
				 errhint("The owner of a model is the role that has trained it, or that it was given "
						 "to with gpt_reassign_model.")));
	return owner;
}

void
gpt2_raise_model_denied(const char *model, Oid user)
{
	char	   *name = GetUserNameFromId(user, true);

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for model \"%s\"", model),
			 errhint("A superuser or its owner can permit it with SELECT gpt_grant_model(%s, %s).",
					 quote_literal_cstr(model), quote_literal_cstr(name ? name : "..."))));
}
