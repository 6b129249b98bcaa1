/*
 * drop_model.c: gpt_drop_model: removes a model's folder, and its packs.
 *
 * The folder gets another name first, in the same directory, ".gone.<pid>", which no model has: so
 * after a crash the model is there whole, or is none any more.  What is left under such a name goes
 * with the next gpt_drop_model or training.  Nothing of it is part of the transaction.
 *
 * The engine is asked to unload the model before anything is done, so that one that does not answer
 * leaves all as it is, and once more when the folder is gone: a call may have loaded it meanwhile.
 *
 * The lock of the name is held all the time: no training needs the model or replaces it.
 */
#include "compat.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#include "adapters.h"
#include "admin.h"
#include "drop_model.h"
#include "encoding.h"
#include "engine/protocol_train.h"
#include "file.h"
#include "folder.h"
#include "model_locks.h"
#include "owner.h"
#include "pack_purge.h"
#include "trainings.h"

PG_FUNCTION_INFO_V1(gpt2_drop_model);

static bool
is_gone(const char *name)
{
	return strncmp(name, G2_TRAIN_GONE, strlen(G2_TRAIN_GONE)) == 0;
}

/* The lock of folders is held: nobody else removes the same. */
static void
purge_dropped(void)
{
	DIR		   *dir = AllocateDir(G2_TRAIN_MODELS);
	struct dirent *entry;

	while (dir && (entry = ReadDirExtended(dir, G2_TRAIN_MODELS, LOG)) != NULL)
		if (is_gone(entry->d_name))
			(void) rmtree(psprintf("%s/%s", G2_TRAIN_MODELS, entry->d_name), true);
	if (dir)
		FreeDir(dir);
}

void
gpt2_purge_dropped_models(void)
{
	gpt2_lock_folders();
	purge_dropped();
	gpt2_unlock_folders();
}

/* The model's folder; raises what forbids to remove it. */
static char *
check(const char *model)
{
	char	   *folder = gpt2_folder_require(model);
	const char *name = last_dir_separator(folder) + 1;
	Gpt2Adapters adapters;

	(void) gpt2_check_owner(model, folder);
	if (strcmp(folder, gpt2_own_folder(name)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("model \"%s\" is not in %s of the data directory", model, G2_TRAIN_MODELS),
				 errdetail("It is in \"%s\", and kept by whoever has put it there.",
						   gpt2_from_utf8(folder, strlen(folder), NULL)),
				 errhint("Remove that folder as it came there, by hand or with the package that it "
						 "belongs to, then unload the model.")));
	adapters = gpt2_adapters_of(name);
	if (adapters.n > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg_plural("cannot drop model \"%s\" because %d adapter stands on it",
							   "cannot drop model \"%s\" because %d adapters stand on it",
							   adapters.n, model, adapters.n),
				 errhint("Drop them first: %s.", adapters.names)));
	if (!gpt2_folder_is_writable(folder))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not remove model folder \"%s\": %m", folder),
				 errhint("Let the server's user write there, or remove it by hand.")));
	return folder;
}

static void
remove_folder(const char *folder)
{
	char	   *gone = psprintf("%s/" G2_TRAIN_GONE "%d", G2_TRAIN_MODELS, MyProcPid);

	if (rename(folder, gone) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename directory \"%s\" to \"%s\": %m", folder, gone)));
	/* Otherwise a half might come back with a crash of the machine. */
	if (!gpt2_sync_parent(gone))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync directory \"%s\": %m", G2_TRAIN_MODELS),
				 errdetail("The model is gone; its files go with the next gpt_drop_model.")));
	(void) rmtree(gone, true);
}

Datum
gpt2_drop_model(PG_FUNCTION_ARGS)
{
	char	   *model,
			   *folder;
	const char *name;
	char		real[PATH_MAX];

	gpt2_require_name(fcinfo);
	model = text_to_cstring(PG_GETARG_TEXT_PP(0));
	name = last_dir_separator(check(model)) + 1;
	if (!gpt2_lock_model(name, GPT2_MODEL_GOES))
		gpt2_raise_in_training(psprintf("cannot drop model \"%s\" while a training needs or replaces "
										"it", model), name, GPT2_MODEL_GOES);
	gpt2_unload_if_loaded(model);
	gpt2_lock_folders();
	purge_dropped();
	folder = check(model);
	if (!realpath(folder, real))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not resolve path \"%s\": %m", folder)));
	remove_folder(folder);
	gpt2_unlock_folders();
	gpt2_unload_if_loaded(model);
	gpt2_purge_packs_of(real);
	gpt2_unlock_model(name, GPT2_MODEL_GOES);
	PG_RETURN_VOID();
}
