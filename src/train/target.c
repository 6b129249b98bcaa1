/*
 * target.c: the directory that finished models go to.
 *
 * A model's folder is moved there whole.  One of the same name gives way only where the CALL says
 * so and its owner is the new one's, or a superuser asks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file.h"
#include "job.h"
#include "json.h"
#include "own_json.h"

#define EXCHANGE 2				/* RENAME_EXCHANGE of renameat2(2) */
#define REPLACED "replaced"		/* in the training's directory: the old model, on its way out */

static bool
fail_exists(const char *name, g2_error *err)
{
	g2_fail(err, G2_E_VERSION, "model \"%s\" exists already", name);
	return g2_fail_hint(err, "The training is kept: the same CALL with replace => true "
						"puts it in the old one's place.");
}

/* Does the model whose gpt2.json this is belong to the owner that the backend has seen, or to the new
 * one's?  Another may have come since. */
static bool
is_owners(const g2_train *o, const cJSON *json)
{
	g2_owner	owner;

	return g2_own_json_owner(json, G2_OWN_JSON, &owner, NULL) &&
		(g2_owner_same(&owner, &o->owner) || g2_owner_same(&owner, &o->replaced));
}

/* As with CREATE OR REPLACE: the new one belongs to whom the old one does, and is for the same
 * roles. */
static bool
keep_roles(cJSON *old, const char *folder, g2_error *err)
{
	static const char *const keys[] = {G2_OWN_ROLE_KEYS};
	cJSON	   *json = NULL;
	bool		complete = true,
				ok = g2_own_json_read(folder, &json, NULL, err);

	for (size_t i = 0; ok && i < G2_LENGTH(keys); i++)
	{
		cJSON	   *item = cJSON_DetachItemFromObjectCaseSensitive(old, keys[i]);

		cJSON_DeleteItemFromObjectCaseSensitive(json, keys[i]);
		if (item && !cJSON_AddItemToObject(json, keys[i], item))
		{
			cJSON_Delete(item);
			complete = false;
		}
	}
	ok = ok && g2t_write_json(folder, G2_OWN_JSON, json, complete, err);
	cJSON_Delete(json);
	return ok;
}

/* May the model that is there give way? */
static bool
give_way(const g2_train *o, const char *from, const char *to, g2_error *err)
{
	cJSON	   *old = NULL;
	bool		known = g2_own_json_read(to, &old, NULL, NULL) && old && is_owners(o, old),
				ok;

	if (o->replace == G2_TRAIN_REPLACE_NONE || (o->replace == G2_TRAIN_REPLACE_OWN && !known))
		ok = fail_exists(g2t_text(o->model), err);
	else
		ok = !known || keep_roles(old, from, err);
	cJSON_Delete(old);
	return ok;
}

bool
g2t_target_check(const g2t_place *place, const char *models, g2_error *err)
{
	struct stat to,
				from;

	if (mkdir(models, G2_DIRECTORY_MODE) == 0)
	{
		if (!g2_file_sync_directory(models, err))
			return false;
	}
	else if (errno != EEXIST)
		return g2_fail_errno(err, errno, "create directory", models);
	if (stat(models, &to) != 0 || stat(place->path, &from) != 0)
		return g2_fail_errno(err, errno, "stat", models);
	if (to.st_dev == from.st_dev)
		return access(models, W_OK | X_OK) == 0 ||
			g2_fail_errno(err, errno, "write to directory", models);
	g2_fail(err, G2_E_VERSION, "directory \"%s\" is on another file system than the data directory",
			g2_file_tail(models));
	return g2_fail_hint(err, "A finished model is moved there in one step. Make it a directory of "
						"its own; gpt2.model_path can name others beside it.");
}

/* The old one goes with the training's directory.  Where the file system cannot exchange two names
 * (NFS, ZFS before 2.2), none is there for a moment. */
static bool
exchange(const g2t_job *job, const char *from, const char *to, g2_error *err)
{
	char		old[G2T_MAX_PATH];
	int			errnum;

	if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, EXCHANGE) == 0)
		return true;
	if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
		return g2_fail_errno(err, errno, "rename", from);
	g2t_place_path(&job->place, REPLACED, old);
	g2t_remove_tree(old);
	if (rename(to, old) != 0)
		return g2_fail_errno(err, errno, "rename", to);
	if (rename(from, to) == 0)
		return true;
	errnum = errno;
	(void) rename(old, to);
	return g2_fail_errno(err, errnum, "rename", from);
}

bool
g2t_target_move(const g2t_job *job, const char *from, const char *models, g2_error *err)
{
	char		to[G2T_MAX_PATH];
	struct stat st;

	if (snprintf(to, sizeof to, "%s/%s", models, g2t_text(job->options->model)) >= (int) sizeof to)
		return g2_fail(err, G2_E_NAME, "the new model's name is too long");
	if (lstat(to, &st) != 0)
	{
		if (rename(from, to) != 0)
			return g2_fail_errno(err, errno, "rename", from);
	}
	else if (!give_way(job->options, from, to, err) || !exchange(job, from, to, err))
		return false;
	return g2_file_sync_directory(to, err);
}
