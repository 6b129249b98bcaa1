/*
 * pack_content.c: the content hash of a model's folder, without packing it.
 */
#include "own_json.h"
#include "pack.h"
#include "weights_source.h"

static bool
hash_own(const char *folder, g2_hash *hash, g2_error *err)
{
	cJSON	   *json = NULL;
	char	   *content = NULL;
	bool		ok = g2_own_json_read(folder, &json, NULL, err) &&
	g2_own_json_content(json, &content, err);

	if (ok && content)
	{
		g2_hash_name(hash, G2_OWN_JSON, strlen(content));
		g2_hash_add(hash, content, strlen(content));
	}
	g2_free(content);
	cJSON_Delete(json);
	return ok;
}

static bool
hash_files(const char *folder, const g2_pack_files *files, g2_hash *hash, g2_error *err)
{
	for (uint32_t i = 0; i < files->n; i++)
	{
		const char *name = files->file[i].name;

		if (strcmp(name, G2_OWN_JSON) == 0 ? !hash_own(folder, hash, err)
			: !g2_hash_file(hash, folder, name, err))
			return false;
	}
	return true;
}

bool
g2_model_content_hash(const char *folder, char hex[65], g2_error *err)
{
	g2_source	list;
	g2_pack_files *files = g2_alloc(sizeof *files);
	const char **shards = NULL;
	g2_hash    *hash = files ? g2_hash_new(err) : NULL;
	uint8_t		digest[G2_HASH];
	bool		ok = hash != NULL;

	if (!files)
		return g2_fail_memory(err, sizeof *files);
	if (ok && (ok = g2_source_list(folder, &list, err)))
	{
		shards = g2_alloc_array(list.n, sizeof *shards);
		for (uint32_t i = 0; shards && i < list.n; i++)
			shards[i] = list.file[i].name;
		ok = (shards || g2_fail_memory(err, list.n * sizeof *shards)) &&
			g2_pack_files_read(folder, shards, list.n, files, err) &&
			hash_files(folder, files, hash, err) && g2_hash_end(hash, digest, err);
		g2_source_close(&list);
	}
	if (ok)
		g2_hash_hex(digest, G2_HASH, hex);
	g2_free(shards);
	g2_hash_free(hash);
	g2_free(files);
	return ok;
}
