/*
 * guc_engine.c: the settings gpt2.* of the engine.
 *
 * Only the supervisor's values count, which come from the configuration files; it sends them on.
 *
 * gpt2.model_path is a list in the way of PostgreSQL's other lists of directories: separated by
 * commas, an element with a comma or outer spaces in double quotes.  A relative directory is one
 * in the data directory; $sharedir at an element's start is the installation's.
 */
#include "compat.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "guc.h"

#define SHAREDIR "$sharedir"
#define DEFAULT_MODEL_PATH "gpt2_models," SHAREDIR "/gpt2/models"
#define DEFAULT_PACK_DIRECTORY "base/pgsql_tmp_gpt2"
#define MAX_THREADS 1024
#define MIN_STEP_TOKENS 16
#define MAX_STEP_TOKENS 512
#define MAX_PRICE 1e9

bool		gpt2_enabled;
int			gpt2_nice;
int			gpt2_train_threads;
int			gpt2_train_checkpoint_interval;
double		gpt2_price_per_hour;

static char *model_path;
static char *preload_models;
static char *weight_format;
static char *device;
static int	device_memory;		/* kB; 0 = automatic */
static char *cpu;
static int	threads;			/* 0 = automatic */
static int	step_tokens;		/* 0 = automatic */
static bool speculation;
static int	kv_cache_size;		/* kB; 0 = automatic */
static int	result_cache_size;	/* kB; 0 = none */
static int	model_memory;		/* kB; 0 = no limit */
static char *pack_directory;
static int	pack_cache_size;	/* kB; 0 = no limit */
static int	engine_idle_timeout;	/* s; 0 = never ends */

/* ---- directories ---- */

/* Splits a list of directories; NULL with a detail for check hooks when it is malformed. */
static List *
split_directories(const char *value, bool *ok)
{
	char	   *raw = pstrdup(value);
	List	   *list = NIL;
	ListCell   *cell;

	*ok = SplitDirectoriesString(raw, ',', &list);
	pfree(raw);
	if (!*ok)
	{
		GUC_check_errdetail("List syntax is invalid.");
		return NIL;
	}
	if (list_length(list) > G2_MAX_DIRECTORIES)
	{
		GUC_check_errdetail("The list has %d directories; the limit is %d.",
							list_length(list), G2_MAX_DIRECTORIES);
		*ok = false;
	}
	foreach(cell, list)
	{
		const char *directory = (const char *) lfirst(cell);
		size_t		len = strlen(SHAREDIR);

		if (directory[0] == '$' && (strncmp(directory, SHAREDIR, len) != 0 ||
									(directory[len] != '/' && directory[len] != '\0')))
		{
			GUC_check_errdetail("The macro in \"%s\" is unknown; %s is the only one.",
								directory, SHAREDIR);
			*ok = false;
		}
	}
	return list;
}

static char *
absolute_path(const char *path)
{
	if (strncmp(path, SHAREDIR, strlen(SHAREDIR)) == 0)
	{
		char		share[MAXPGPATH];

		get_share_path(my_exec_path, share);
		return psprintf("%s%s", share, path + strlen(SHAREDIR));
	}
	return is_absolute_path(path) ? pstrdup(path) : psprintf("%s/%s", DataDir, path);
}

char	  **
gpt2_model_directories(void)
{
	bool		ok;
	List	   *list = split_directories(model_path, &ok);
	char	  **directories = palloc0(sizeof(char *) * (list_length(list) + 1));
	ListCell   *cell;
	int			n = 0;

	foreach(cell, list)
		directories[n++] = absolute_path((const char *) lfirst(cell));
	list_free_deep(list);
	return directories;
}

/* ---- names of models ---- */

/* Splits a list of models' names; NIL with a detail for check hooks when it is not valid. */
static List *
split_models(const char *value, bool *ok)
{
	char	   *raw = pstrdup(value);
	List	   *parts = NIL,
			   *list = NIL;
	const char *why = NULL;
	ListCell   *cell;

	/* The parts point into raw. */
	if (!SplitGUCList(raw, ',', &parts))
		why = "List syntax is invalid.";
	foreach(cell, parts)
	{
		const char *name = (const char *) lfirst(cell);

		if (!why)
			why = *name ? gpt2_model_name_problem(name) : "A model's name is not empty.";
		list = lappend(list, pstrdup(name));
	}
	if (!why && list_length(list) > G2_MAX_PRELOAD)
		why = psprintf("The list has %d models; the limit is %d.", list_length(list),
					   G2_MAX_PRELOAD);
	list_free(parts);
	pfree(raw);
	*ok = !why;
	if (*ok)
		return list;
	GUC_check_errdetail("%s", why);
	list_free_deep(list);
	return NIL;
}

/* ---- what the engine is told ---- */

void
gpt2_engine_settings(g2_settings *settings)
{
	char	  **directories = gpt2_model_directories();
	bool		ok;
	ListCell   *cell;

	memset(settings, 0, sizeof *settings);
	for (int i = 0; directories[i] && i < G2_MAX_DIRECTORIES; i++)
		settings->directories[settings->n_directories++] = g2_span_of(directories[i]);
	settings->pack_directory = g2_span_of(absolute_path(*pack_directory ?
														pack_directory :
														DEFAULT_PACK_DIRECTORY));
	settings->weight_format = g2_span_of(weight_format);
	settings->device = g2_span_of(device);
	settings->device_memory = (uint64) device_memory * 1024;
	settings->cpu = g2_span_of(cpu);
	settings->threads = (uint32) threads;
	settings->kv_cache_size = (uint64) kv_cache_size * 1024;
	settings->disabled = !gpt2_enabled;
	settings->nice = (uint32) gpt2_nice;
	settings->step_tokens = (uint32) step_tokens;
	settings->no_speculation = !speculation;
	settings->model_memory = (uint64) model_memory * 1024;
	settings->result_cache_size = result_cache_size == 0 ? G2_NO_RESULT_CACHE :
		(uint64) result_cache_size * 1024;
	settings->idle_timeout_s = (uint32) engine_idle_timeout;
	settings->price_per_hour = gpt2_price_per_hour;
	foreach(cell, split_models(preload_models, &ok))
		settings->preload[settings->n_preload++] = g2_span_of((const char *) lfirst(cell));
	for (int i = 0; i < G2_N_LIMITS; i++)
		settings->limits[i] = gpt2_limit_settings[i].value;
	settings->has_limits = 1;
	settings->pack_cache_size = (uint64) pack_cache_size * 1024;
}

/* ---- check hooks ---- */

static bool
check_model_path(char **value, void **extra, GucSource source)
{
	bool		ok;

	list_free_deep(split_directories(*value, &ok));
	return ok;
}

static bool
check_preload_models(char **value, void **extra, GucSource source)
{
	bool		ok;

	list_free_deep(split_models(*value, &ok));
	return ok;
}

static bool
check_step_tokens(int *value, void **extra, GucSource source)
{
	if (*value == 0 || *value >= MIN_STEP_TOKENS)
		return true;
	GUC_check_errdetail("It is between %d and %d; 0 means automatic.",
						MIN_STEP_TOKENS, MAX_STEP_TOKENS);
	return false;
}

/* The range is checked already, but a NaN is in every range. */
static bool
check_price(double *value, void **extra, GucSource source)
{
	return *value >= 0;
}

/* Is the value one of a NULL-terminated list?  A detail names the choices where it is not. */
static bool
check_choice(const char *value, const char *const *choices)
{
	char		list[256] = "";

	for (int i = 0; choices[i]; i++)
	{
		if (strcmp(value, choices[i]) == 0)
			return true;
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "",
				 choices[i]);
	}
	GUC_check_errdetail("Valid values are: %s.", list);
	return false;
}

static bool
check_weight_format(char **value, void **extra, GucSource source)
{
	static const char *const choices[] = {G2_FORMAT_NAMES, NULL};

	return check_choice(*value, choices);
}

static bool
check_device(char **value, void **extra, GucSource source)
{
	static const char *const choices[] = {"auto", "cpu", "cuda", "cuda:0", NULL};
	const char *number = strncmp(*value, "cuda:", 5) == 0 ? *value + 5 : "";
	size_t		len = strlen(number);

	/* cuda:0 .. cuda:63 */
	return (len > 0 && len <= 2 && strspn(number, "0123456789") == len && atoi(number) < 64) ||
		check_choice(*value, choices);
}

static bool
check_cpu(char **value, void **extra, GucSource source)
{
	static const char *const choices[] = {G2_CPU_NAMES, NULL};

	return check_choice(*value, choices);
}

/* ---- definitions ---- */

static void
define_model_settings(void)
{
	DefineCustomStringVariable("gpt2.model_path",
							   "Directories that hold model folders, separated by commas.",
							   "The first directory that has a name wins. A relative directory is "
							   "one in the data directory; $sharedir is the installation's "
							   "directory of architecture-independent files.",
							   &model_path, DEFAULT_MODEL_PATH, PGC_SIGHUP, GUC_LIST_INPUT,
							   check_model_path, NULL, NULL);
	DefineCustomStringVariable("gpt2.preload_models",
							   "Models that the engine loads when it starts, separated by commas.",
							   "Names of folders in gpt2.model_path's directories.",
							   &preload_models, "", PGC_SIGHUP, GUC_LIST_INPUT,
							   check_preload_models, NULL, NULL);
	DefineCustomIntVariable("gpt2.model_memory",
							"Memory for loaded models; those not used for longest are unloaded.",
							"0 means without a limit.",
							&model_memory, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomStringVariable("gpt2.weight_format",
							   "Number format that models are converted to.",
							   "It is part of what decides a result. Models that are loaded "
							   "already keep theirs.",
							   &weight_format, "q8", PGC_SIGHUP, 0,
							   check_weight_format, NULL, NULL);
	DefineCustomStringVariable("gpt2.pack_directory",
							   "Directory for converted models.",
							   "Empty: a directory for temporary files in the data directory, "
							   "which backups leave out.",
							   &pack_directory, "", PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.pack_cache_size",
							"Disk space for converted models; those not used for longest are "
							"removed.",
							"0 means without a limit. What a loaded model needs is kept.",
							&pack_cache_size, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
}

static void
define_machine_settings(void)
{
	DefineCustomStringVariable("gpt2.device",
							   "Device that the engine computes on.",
							   "\"auto\" takes a CUDA device if there is one and else the CPU, "
							   "\"cuda\" insists on the first CUDA device, \"cuda:1\" on the "
							   "second. A change restarts the engine; running queries go on.",
							   &device, "auto", PGC_SIGHUP, 0,
							   check_device, NULL, NULL);
	DefineCustomIntVariable("gpt2.device_memory",
							"Memory of the CUDA device that the engine takes.",
							"0 means four fifths of what is free when the engine starts. A change "
							"restarts the engine; running queries go on.",
							&device_memory, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomStringVariable("gpt2.cpu",
							   "Instruction set of the engine's kernels.",
							   "Results are the same with all. A change restarts the engine; "
							   "running queries go on.",
							   &cpu, "auto", PGC_SIGHUP, 0,
							   check_cpu, NULL, NULL);
	DefineCustomIntVariable("gpt2.threads",
							"Number of the engine's compute threads.",
							"0 means one for each physical core that the server may use. A change "
							"restarts the engine; running queries go on.",
							&threads, 0, 0, MAX_THREADS, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.train_threads",
							"Number of threads that a training may use at most.",
							"0 means half of the processors.",
							&gpt2_train_threads, 0, 0, MAX_THREADS, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.train_checkpoint_interval",
							"Time between two checkpoints of a training.",
							"It is longer where writing them would take more than a twentieth of the "
							"time. 0 means one after each step, whatever that takes.",
							&gpt2_train_checkpoint_interval, 20, 0, 86400, PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.kv_cache_size",
							"Memory for the keys and values of running sequences.",
							"0 means 1 GB, or an eighth of the machine's memory if that is less; "
							"on a CUDA device, three quarters of gpt2.device_memory. A change "
							"restarts the engine; running queries go on.",
							&kv_cache_size, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
}

static void
define_service_settings(void)
{
	DefineCustomBoolVariable("gpt2.enabled",
							 "Lets the engine run.",
							 "Off ends running calls and the engine, which gives its memory back, "
							 "and refuses new calls.",
							 &gpt2_enabled, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.nice",
							"How far the engine's computation stands back behind other processes.",
							"0 is like any process; 19 takes what nobody else wants.",
							&gpt2_nice, 10, 0, 19, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.step_tokens",
							"Tokens that the engine computes in one step at most.",
							"Lower: running texts go on more evenly while a long prompt is read. "
							"0 means automatic. Results do not depend on it.",
							&step_tokens, 0, 0, MAX_STEP_TOKENS, PGC_SIGHUP, 0,
							check_step_tokens, NULL, NULL);
	DefineCustomBoolVariable("gpt2.speculation",
							 "Lets the engine try what a text may repeat of its prompt or itself.",
							 "Faster where texts quote. Results do not depend on it.",
							 &speculation, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.result_cache_size",
							"Memory for answers that are given again to the same call.",
							"0 means none.",
							&result_cache_size, 64 * 1024, 0, INT_MAX, PGC_SIGHUP,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.engine_idle_timeout",
							"Time without a call after which the engine ends.",
							"The next call starts it again. 0 means never.",
							&engine_idle_timeout, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomRealVariable("gpt2.price_per_hour",
							 "Price of an hour of computation, for the cost in gpt_stat_usage.",
							 NULL,
							 &gpt2_price_per_hour, 0, 0, MAX_PRICE, PGC_SIGHUP, 0,
							 check_price, NULL, NULL);
}

void
gpt2_define_engine_settings(void)
{
	define_model_settings();
	define_machine_settings();
	define_service_settings();
}
