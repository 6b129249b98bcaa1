/*
 * trainings.c: the directories of trainings, as backends see them, and gpt_drop_training.
 *
 * Each training has a directory with a file that says how far it is, and a lock file that the process
 * that trains holds with flock.  Nobody is asked and nothing is started.  Who removes a directory
 * holds that lock and gives the directory another name first: a process that waits for the lock sees
 * that its file is there no more.
 */
#include "compat.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "admin.h"
#include "encoding.h"
#include "file.h"
#include "link.h"
#include "model_locks.h"
#include "trainings.h"

PG_FUNCTION_INFO_V1(gpt2_drop_training);

#define TRIES 3					/* to read a file that is being written */
#define LOCK_WAIT_MS 10000		/* for a process that writes its last checkpoint */
#define LOCK_PAUSE_MS 10

/* ---- looking ---- */

static bool
read_progress(const char *directory, g2_train_progress *p)
{
	char	   *path = psprintf("%s/%s", directory, G2_TRAIN_PROGRESS_FILE);
	bool		ok = false;

	for (int i = 0; i < TRIES && !ok; i++)
	{
		size_t		len;
		char	   *error,
				   *data = gpt2_file_read(path, G2_TRAIN_PROGRESS_FILE, sizeof *p, &len, &error);

		if (!data || len != sizeof *p)
			return false;
		memcpy(p, data, sizeof *p);
		ok = g2_train_progress_is_whole(p);
		pfree(data);
	}
	return ok;
}

void
gpt2_for_each_training(bool all_of_them,
					   void (*take) (const char *directory, const g2_train_progress *p, void *arg),
					   void *arg)
{
	DIR		   *dir = AllocateDir(G2_TRAIN_DIRECTORY);
	struct dirent *entry;
	g2_train_progress p;

	/* Nobody has trained yet. */
	if (!dir && errno == ENOENT)
		return;
	while ((entry = ReadDir(dir, G2_TRAIN_DIRECTORY)) != NULL)
	{
		char	   *directory;

		CHECK_FOR_INTERRUPTS();
		if (entry->d_name[0] == '.')
			continue;
		directory = psprintf("%s/%s", G2_TRAIN_DIRECTORY, entry->d_name);
		if (read_progress(directory, &p) && !g2_train_is_done(directory, &p) &&
			(all_of_them || has_privs_of_role(GetUserId(), p.owner_oid)))
			take(directory, &p, arg);
		pfree(directory);
	}
	FreeDir(dir);
}

/* Its lock file, open; -1. */
static int
open_lock(const char *directory)
{
	char	   *path = psprintf("%s/%s", directory, G2_TRAIN_LOCK_FILE);
	int			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY | O_NOFOLLOW);

	pfree(path);
	return fd;
}

bool
gpt2_training_is_running(const char *directory)
{
	int			fd = open_lock(directory);
	bool		locked = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0;

	if (fd >= 0)
		CloseTransientFile(fd);
	return locked;
}

/* ---- in the way ---- */

typedef struct InTheWay
{
	int			pid;			/* of its backend */
	bool		found;
	char	   *model;			/* that it makes; NULL = the user may not see it */
} InTheWay;

static void
look_whose(const char *directory, const g2_train_progress *p, void *arg)
{
	InTheWay   *w = arg;

	if ((int) p->pid != w->pid || !gpt2_training_is_running(directory))
		return;
	w->found = true;
	if (superuser() || has_privs_of_role(GetUserId(), p->owner_oid))
		w->model = pstrdup(p->model);
}

void
gpt2_raise_in_training(const char *message, const char *name, LOCKMODE mode)
{
	InTheWay	w = {.pid = gpt2_model_lock_holder(name, mode)};

	gpt2_for_each_training(true, look_whose, &w);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg_internal("%s", message),
			 w.model && strcmp(w.model, name) != 0 ?
			 errdetail("Model \"%s\" is being trained.",
					   gpt2_from_utf8(w.model, strlen(w.model), NULL)) : 0,
			 w.model ? errhint("End it first: SELECT pg_cancel_backend(%d);", w.pid) :
			 w.found ? errhint("It is another role's. Try again when it has ended.") :
			 errhint("Try again.")));
}

/* ---- removing ---- */

typedef struct Drop
{
	char	   *model;			/* as the user spells it */
	g2_span		name;			/* as the file system does */
	int			n;				/* found */
} Drop;

static void
look(const char *directory, const g2_train_progress *p, void *arg)
{
	Drop	   *d = arg;

	if (g2_span_is(d->name, p->model))
		d->n++;
}

/* No session trains the name, but a process whose session has gone may still write what it has. */
static void
lock(int fd, const char *model)
{
	for (int ms = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; ms += LOCK_PAUSE_MS)
	{
		if (ms >= LOCK_WAIT_MS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("the process that has trained model \"%s\" has not ended yet", model),
					 errhint("Try again.")));
		gpt2_pause(LOCK_PAUSE_MS, gpt2_wait_event("Gpt2Train"));
	}
}

/* Somebody else may have removed it. */
static bool
is_there(int fd, const char *directory)
{
	char	   *path = psprintf("%s/%s", directory, G2_TRAIN_LOCK_FILE);
	struct stat locked,
				there;

	return fstat(fd, &locked) == 0 && lstat(path, &there) == 0 && locked.st_ino == there.st_ino;
}

static void
drop(const char *directory, const g2_train_progress *p, void *arg)
{
	const Drop *d = arg;
	char	   *gone;
	int			fd;

	if (!g2_span_is(d->name, p->model) || (fd = open_lock(directory)) < 0)
		return;
	lock(fd, d->model);
	gone = psprintf("%s/" G2_TRAIN_GONE "%d.%s", G2_TRAIN_DIRECTORY, MyProcPid,
					last_dir_separator(directory) + 1);
	if (is_there(fd, directory))
	{
		if (rename(directory, gone) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not rename directory \"%s\" to \"%s\": %m", directory, gone)));
		(void) rmtree(gone, true);
	}
	CloseTransientFile(fd);
}

/* The lock of the name keeps it from being trained meanwhile. */
Datum
gpt2_drop_training(PG_FUNCTION_ARGS)
{
	Drop		d = {.n = 0};

	gpt2_require_name(fcinfo);
	d.model = text_to_cstring(PG_GETARG_TEXT_PP(0));
	d.name = gpt2_to_utf8(d.model, strlen(d.model), "model name");
	gpt2_for_each_training(superuser(), look, &d);
	if (d.n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no stopped training of model \"%s\" found", d.model),
				 errhint("The view gpt_stat_progress_train shows them.")));
	if (!gpt2_lock_model(d.name.data, GPT2_MODEL_CHANGED))
		gpt2_raise_in_training(psprintf("a training of model \"%s\" is running", d.model),
							   d.name.data, GPT2_MODEL_CHANGED);
	gpt2_for_each_training(superuser(), drop, &d);
	gpt2_unlock_model(d.name.data, GPT2_MODEL_CHANGED);
	PG_RETURN_VOID();
}
