/*
 * own_json.h: a model's gpt2.json: templates, stop strings, special tokens, the roles that may use
 * the model (model_roles.h), and the role that it belongs to:
 *
 *     owner           its name
 *     owner_oid       its OID in the cluster
 *     owner_cluster   of this system identifier, a string of digits
 *
 * All but these roles has a say in results: that is the model's content, and what its pack keeps.
 */
#ifndef G2_OWN_JSON_H
#define G2_OWN_JSON_H

#include "json.h"
#include "model.h"
#include "protocol.h"

#define G2_OWN_JSON "gpt2.json"

/* The file of the folder; *json stays NULL where there is none, *state (may be NULL) is what it was
 * before it was read.  22032 for what is not one JSON object of at most G2_MAX_OWN_JSON bytes. */
extern bool g2_own_json_read(const char *folder, cJSON **json, g2_file_state *state,
							 g2_error *err);

/* The names of its keys that say whom the model is for and whom it belongs to. */
#define G2_OWN_ROLE_KEYS "roles", "owner", "owner_oid", "owner_cluster"

/* The role that the model belongs to; its name points into json (NULL = no file).  22032 for what is
 * none of the above. */
extern bool g2_own_json_owner(const cJSON *json, const char *path, g2_owner *owner, g2_error *err);

/* Its part in the content, as text in one spelling: without G2_OWN_ROLE_KEYS, keys in order, no
 * white space.  Changes json.  *content is g2_free'd by the caller; NULL: nothing is left, as
 * without the file. */
extern bool g2_own_json_content(cJSON *json, char **content, g2_error *err);

/* The folder's content is this one (NULL = none); false also where it cannot be read. */
extern bool g2_own_json_is(const char *folder, const char *content);

#endif							/* G2_OWN_JSON_H */
