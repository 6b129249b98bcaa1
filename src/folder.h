/*
 * folder.h: model folders as the PostgreSQL side reads them: names, small JSON files, roles.
 */
#ifndef GPT2_FOLDER_H
#define GPT2_FOLDER_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "engine/protocol.h"

#define GPT2_ROLES_FILE "gpt2.json"

/* Others are refused by the engine, so they are not shown. */
extern bool gpt2_is_model_name(const char *name);

/* Is there a config.json, or that of an adapter, of whatever kind?  Otherwise the folder is none of
 * ours. */
extern bool gpt2_is_model_folder(const char *folder);

/* The model is an adapter beside its base: it has no weights of a whole model. */
extern bool gpt2_is_adapter_folder(const char *folder);

/* The name of an adapter's base; palloc'd.  NULL with the cause in *error. */
extern char *gpt2_adapter_base(const char *folder, char **error);

/* The folder is itself a symbolic link; the engine does not follow it. */
extern bool gpt2_folder_is_link(const char *folder);

/* A file can be made in it; otherwise errno says why not. */
extern bool gpt2_folder_is_writable(const char *folder);

/* The folder of a model: the first directory of gpt2.model_path that has it; palloc'd, NULL when
 * none has. */
extern char *gpt2_folder_find(const char *name);

/* The folder that a model of this name has among those that are the server's own, gpt2_models in the
 * data directory, whether it is there or not; palloc'd. */
extern char *gpt2_own_folder(const char *name);

/* gpt2_folder_find for a name in the database's encoding, as a user gives it: 42602, 42704, and 42501
 * for a symbolic link. */
extern char *gpt2_folder_require(const char *model);

/* A file of a folder as UTF-8 text; NULL with the cause in *error, or without where there is none.
 * At most G2_MAX_OWN_JSON bytes. */
extern char *gpt2_folder_text(const char *folder, const char *file, char **error);

/* That text as a JSON object; NULL with the cause in *error.  Uses a subtransaction. */
extern Jsonb *gpt2_folder_json(const char *text_utf8, const char *file, char **error);

/* A key of the object; NULL when it is not there. */
extern JsonbValue *gpt2_json_field(Jsonb *object, const char *key);

/* Who may use a model. */
typedef struct Gpt2ModelRoles
{
	bool		restricted;		/* false: everybody */
	List	   *names;			/* of roles, char * */
	g2_owner	owner;			/* who may use it too */
} Gpt2ModelRoles;

/* What a gpt2.json says about it (NULL = there is no such file).  False with the cause in *error
 * where it cannot be understood; it is for superusers only then. */
extern bool gpt2_json_roles(Jsonb *object, Gpt2ModelRoles *roles, char **error);

/* The role that the model belongs to, as the gpt2.json says; its name is palloc'd.  False with the
 * cause in *error. */
extern bool gpt2_json_owner(Jsonb *object, g2_owner *owner, char **error);

/* The same roles of a folder. */
extern bool gpt2_folder_roles(const char *folder, Gpt2ModelRoles *roles, char **error);

/* May the current user use the model? */
extern bool gpt2_roles_permit(const Gpt2ModelRoles *roles);

/* 42501 where the current user may not use the model of this folder. */
extern void gpt2_folder_check_use(const char *model, const char *folder);

#endif							/* GPT2_FOLDER_H */
