/*
 * own_json.c: a model's gpt2.json, and its part in the model's content.
 */
#include "own_json.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "file.h"

bool
g2_own_json_read(const char *folder, cJSON **json, g2_file_state *state, g2_error *err)
{
	/* Before the file is read: a change after that shows. */
	if (state)
		*state = g2_file_state_at(folder, G2_OWN_JSON);
	return g2_json_read(folder, G2_OWN_JSON, G2_MAX_OWN_JSON, json, err);
}

/* ---- the owner ---- */

/* Digits alone; strtoull takes signs and white space too. */
static bool
parse_cluster(const char *text, uint64_t *cluster)
{
	errno = 0;
	*cluster = strtoull(text, NULL, 10);
	return text[0] && strspn(text, "0123456789") == strlen(text) && errno == 0;
}

bool
g2_own_json_owner(const cJSON *json, const char *path, g2_owner *owner, g2_error *err)
{
	const char *name,
			   *cluster;
	int64_t		oid;

	memset(owner, 0, sizeof *owner);
	if (!json)
		return true;
	if (!g2_json_string(json, path, "owner", &name, err) ||
		!g2_json_int(json, path, "owner_oid", 1, UINT32_MAX, true, 0, &oid, err) ||
		!g2_json_string(json, path, "owner_cluster", &cluster, err))
		return false;
	if (cluster && !parse_cluster(cluster, &owner->cluster))
		return g2_fail(err, G2_E_BAD_JSON, "\"owner_cluster\" in \"%s\" must be a system "
					   "identifier, digits in a string", path);
	owner->name = g2_span_of(name ? name : "");
	owner->oid = (uint32_t) oid;
	return true;
}

/* ---- the content ---- */

static int
compare_keys(const void *a, const void *b)
{
	return strcmp((*(cJSON *const *) a)->string, (*(cJSON *const *) b)->string);
}

/* cJSON's lists: the first member's prev is the last one, the last one's next NULL. */
static bool
sort_members(cJSON *object, g2_error *err)
{
	size_t		n = (size_t) cJSON_GetArraySize(object);
	cJSON	  **members = g2_alloc_array(n, sizeof(cJSON *));
	cJSON	   *member = object->child;

	if (!members)
		return g2_fail_memory(err, n * sizeof(cJSON *));
	for (size_t i = 0; i < n; i++, member = member->next)
		members[i] = member;
	qsort(members, n, sizeof(cJSON *), compare_keys);
	for (size_t i = 0; i < n; i++)
	{
		members[i]->prev = members[i > 0 ? i - 1 : n - 1];
		members[i]->next = i + 1 < n ? members[i + 1] : NULL;
	}
	object->child = members[0];
	g2_free(members);
	return true;
}

/* Recursive: g2_json_parse has bounded the depth. */
static bool
sort_keys(cJSON *json, g2_error *err)
{
	cJSON	   *member;

	cJSON_ArrayForEach(member, json)
		if (!sort_keys(member, err))
			return false;
	return !cJSON_IsObject(json) || !json->child || sort_members(json, err);
}

bool
g2_own_json_content(cJSON *json, char **content, g2_error *err)
{
	static const char *const not_content[] = {G2_OWN_ROLE_KEYS};
	char	   *text;

	*content = NULL;
	for (size_t i = 0; i < G2_LENGTH(not_content); i++)
		cJSON_DeleteItemFromObjectCaseSensitive(json, not_content[i]);
	if (!json || !json->child)
		return true;
	if (!sort_keys(json, err))
		return false;
	text = cJSON_PrintUnformatted(json);
	*content = text ? g2_strdup(text) : NULL;
	cJSON_free(text);
	return *content || g2_fail_memory(err, G2_MAX_OWN_JSON);
}

bool
g2_own_json_is(const char *folder, const char *content)
{
	cJSON	   *json = NULL;
	char	   *now = NULL;
	bool		same = g2_own_json_read(folder, &json, NULL, NULL) &&
		g2_own_json_content(json, &now, NULL) &&
		(content && now ? strcmp(content, now) == 0 : content == now);

	g2_free(now);
	cJSON_Delete(json);
	return same;
}
