/*
 * model_roles.c: the roles in a model's gpt2.json.
 */
#include "model_roles.h"

#include "json.h"
#include "own_json.h"

/* FNV-1a, 64 bit (Fowler, Noll, Vo). */
static uint64_t
hash_bytes(uint64_t hash, const void *data, size_t n)
{
	const unsigned char *byte = data;

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ byte[i]) * 1099511628211u;
	return hash;
}

/* The NUL after each name keeps "ab", "c" from "a", "bc". */
static uint64_t
list_token(const g2_role_list *list)
{
	const g2_owner *owner = &list->owner;
	uint64_t	hash = hash_bytes(14695981039346656037u, &list->restricted, 1);

	for (uint32_t i = 0; i < list->n; i++)
		hash = hash_bytes(hash, list->names[i], strlen(list->names[i]) + 1);
	hash = hash_bytes(hash, &owner->cluster, sizeof owner->cluster);
	hash = hash_bytes(hash, &owner->oid, sizeof owner->oid);
	hash = hash_bytes(hash, owner->name.data, owner->name.len);
	return hash ? hash : 1;
}

static bool
list_copy(const char *model, const cJSON *roles, g2_role_list *list, g2_error *err)
{
	const int	n = cJSON_GetArraySize(roles);
	const cJSON *role;

	if (!cJSON_IsArray(roles))
		return g2_fail(err, G2_E_BAD_JSON, "\"roles\" in \"gpt2.json\" of \"%s\" must be an array "
					   "of names", model);
	if (n > G2_MAX_ROLES)
		return g2_fail(err, G2_E_BAD_JSON, "\"roles\" in \"gpt2.json\" of \"%s\" must have at "
					   "most %d names, not %d", model, G2_MAX_ROLES, n);
	list->names = g2_alloc_array((size_t) n, sizeof *list->names);
	if (!list->names)
		return g2_fail_memory(err, (unsigned long long) n * sizeof *list->names);
	cJSON_ArrayForEach(role, roles)
	{
		char		excerpt[G2_JSON_EXCERPT];
		const char *name = cJSON_IsString(role) ? role->valuestring : "";
		size_t		len = strlen(name);

		if (len == 0 || len > G2_MAX_ROLE_NAME)
			return g2_fail(err, G2_E_BAD_JSON, "role \"%s\" in \"gpt2.json\" of \"%s\" must have "
						   "1 to %d bytes, not %zu", g2_json_excerpt(excerpt, name, len), model,
						   G2_MAX_ROLE_NAME, len);
		if (!(list->names[list->n] = g2_strdup(name)))
			return g2_fail_memory(err, len);
		list->n++;
	}
	return true;
}

static bool
owner_copy(const char *model, const cJSON *json, g2_role_list *list, g2_error *err)
{
	g2_owner	owner;

	if (!g2_own_json_owner(json, G2_OWN_JSON, &owner, err))
		return false;
	if (owner.name.len > G2_MAX_ROLE_NAME)
		return g2_fail(err, G2_E_BAD_JSON, "\"owner\" in \"gpt2.json\" of \"%s\" must have at "
					   "most %d bytes, not %u", model, G2_MAX_ROLE_NAME, owner.name.len);
	if (owner.name.len > 0 && !(list->owner_name = g2_strdup(owner.name.data)))
		return g2_fail_memory(err, owner.name.len);
	list->owner = owner;
	list->owner.name = g2_span_of(list->owner_name ? list->owner_name : "");
	return true;
}

bool
g2_role_list_read(const char *model, const char *folder, g2_role_list *list, g2_error *err)
{
	cJSON	   *json = NULL;
	const cJSON *roles;
	bool		ok;

	memset(list, 0, sizeof *list);
	if (!g2_own_json_read(folder, &json, &list->source, err))
		return false;
	roles = cJSON_GetObjectItemCaseSensitive(json, "roles");
	list->restricted = roles != NULL;
	ok = owner_copy(model, json, list, err) && (!roles || list_copy(model, roles, list, err));
	cJSON_Delete(json);
	if (ok)
		list->token = list_token(list);
	else
		g2_role_list_free(list);
	return ok;
}

void
g2_role_list_free(g2_role_list *list)
{
	for (uint32_t i = 0; i < list->n; i++)
		g2_free(list->names[i]);
	g2_free(list->names);
	g2_free(list->owner_name);
	memset(list, 0, sizeof *list);
}
