/*
 * guc.c: the settings gpt2.*.
 *
 * Two kinds.  USERSET: the defaults of arguments, read by call.c.  SIGHUP: the engine's; only the
 * supervisor's values count, which come from the configuration files, and it sends them on.
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
#define MAX_MODEL_NAME 255		/* of a file name */
#define MAX_THREADS 1024

char	   *gpt2_model;
int			gpt2_max_len;
double		gpt2_temperature;
int			gpt2_top_k;
double		gpt2_top_p;
char	   *gpt2_model_path;
char	   *gpt2_weight_format;
char	   *gpt2_device;
char	   *gpt2_cpu;
int			gpt2_threads;
int			gpt2_kv_cache_size;
char	   *gpt2_pack_directory;
bool		gpt2_enabled;

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
	List	   *list = split_directories(gpt2_model_path, &ok);
	char	  **directories = palloc0(sizeof(char *) * (list_length(list) + 1));
	ListCell   *cell;
	int			n = 0;

	foreach(cell, list)
		directories[n++] = absolute_path((const char *) lfirst(cell));
	list_free_deep(list);
	return directories;
}

void
gpt2_engine_settings(g2_settings *settings)
{
	char	  **directories = gpt2_model_directories();

	memset(settings, 0, sizeof *settings);
	for (int i = 0; directories[i] && i < G2_MAX_DIRECTORIES; i++)
		settings->directories[settings->n_directories++] = g2_span_of(directories[i]);
	settings->pack_directory = g2_span_of(absolute_path(*gpt2_pack_directory ?
														gpt2_pack_directory :
														DEFAULT_PACK_DIRECTORY));
	settings->weight_format = g2_span_of(gpt2_weight_format);
	settings->device = g2_span_of(gpt2_device);
	settings->cpu = g2_span_of(gpt2_cpu);
	settings->threads = (uint32) gpt2_threads;
	settings->kv_cache_size = (uint64) gpt2_kv_cache_size * 1024;
}

/* ---- check hooks ---- */

static bool
check_model(char **value, void **extra, GucSource source)
{
	const char *name = *value;
	const char *why = NULL;

	if (!*name)
		return true;
	if (strlen(name) > MAX_MODEL_NAME)
		why = "A model's name has at most 255 bytes.";
	else if (name[0] == '.' || strstr(name, ".."))
		why = "A model's name does not start with a dot and has no \"..\" in it.";
	else if (strchr(name, '/'))
		why = "A model is named by its folder's name, without a slash; "
			"gpt2.model_path names the directories.";
	for (const char *c = name; *c && !why; c++)
		if ((unsigned char) *c < 0x20 || *c == 0x7f)
			why = "A model's name has no control characters in it.";
	if (!why)
		return true;
	GUC_check_errcode(ERRCODE_INVALID_NAME);
	GUC_check_errdetail("%s", why);
	return false;
}

static bool
check_temperature(double *value, void **extra, GucSource source)
{
	if (*value == -1 || *value >= 0)
		return true;
	GUC_check_errdetail("A temperature is 0 or a positive number; -1 means automatic.");
	return false;
}

static bool
check_top_p(double *value, void **extra, GucSource source)
{
	if (*value == -1 || *value > 0)
		return true;
	GUC_check_errdetail("top_p is greater than 0 and at most 1; -1 means automatic.");
	return false;
}

static bool
check_model_path(char **value, void **extra, GucSource source)
{
	bool		ok;

	list_free_deep(split_directories(*value, &ok));
	return ok;
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
	static const char *const choices[] = {"f32", NULL};

	return check_choice(*value, choices);
}

static bool
check_device(char **value, void **extra, GucSource source)
{
	static const char *const choices[] = {"auto", "cpu", NULL};

	return check_choice(*value, choices);
}

static bool
check_cpu(char **value, void **extra, GucSource source)
{
	static const char *const choices[] = {"auto", "portable", "avx2", "avx512", NULL};

	return check_choice(*value, choices);
}

/* ---- definitions ---- */

static void
define_session_settings(void)
{
	DefineCustomStringVariable("gpt2.model",
							   "Model that is used where a call names none.",
							   "The name of a folder in one of gpt2.model_path's directories. "
							   "Empty: the demonstration model, with a notice.",
							   &gpt2_model, "", PGC_USERSET, 0,
							   check_model, NULL, NULL);
	DefineCustomIntVariable("gpt2.max_len",
							"Number of new tokens at most, where a call gives no max_len.",
							NULL,
							&gpt2_max_len, 50, 1, G2_MAX_NEW_TOKENS, PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomRealVariable("gpt2.temperature",
							 "Sampling temperature, where a call gives none.",
							 "0 always takes the most likely token. -1 means 0 for one sequence "
							 "and 1 for several.",
							 &gpt2_temperature, -1, -1, GPT2_MAX_TEMPERATURE, PGC_USERSET, 0,
							 check_temperature, NULL, NULL);
	DefineCustomIntVariable("gpt2.top_k",
							"Samples from this many most likely tokens, where a call gives none.",
							"0 means from all. -1 means 50 for several sequences at an automatic "
							"temperature, otherwise all.",
							&gpt2_top_k, -1, -1, INT_MAX, PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomRealVariable("gpt2.top_p",
							 "Samples from the most likely tokens that have this probability "
							 "together, where a call gives none.",
							 "1 means from all, and so does -1.",
							 &gpt2_top_p, -1, -1, 1, PGC_USERSET, 0,
							 check_top_p, NULL, NULL);
}

static void
define_model_settings(void)
{
	DefineCustomStringVariable("gpt2.model_path",
							   "Directories that hold model folders, separated by commas.",
							   "The first directory that has a name wins. A relative directory is "
							   "one in the data directory; $sharedir is the installation's "
							   "directory of architecture-independent files.",
							   &gpt2_model_path, DEFAULT_MODEL_PATH, PGC_SIGHUP, GUC_LIST_INPUT,
							   check_model_path, NULL, NULL);
	DefineCustomStringVariable("gpt2.weight_format",
							   "Number format that models are converted to.",
							   "It is part of what decides a result. Models that are loaded "
							   "already keep theirs.",
							   &gpt2_weight_format, "f32", PGC_SIGHUP, 0,
							   check_weight_format, NULL, NULL);
	DefineCustomStringVariable("gpt2.pack_directory",
							   "Directory for converted models.",
							   "Empty: a directory for temporary files in the data directory, "
							   "which backups leave out.",
							   &gpt2_pack_directory, "", PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
}

static void
define_machine_settings(void)
{
	DefineCustomStringVariable("gpt2.device",
							   "Device that the engine computes on.",
							   "A change restarts the engine; running queries go on.",
							   &gpt2_device, "auto", PGC_SIGHUP, 0,
							   check_device, NULL, NULL);
	DefineCustomStringVariable("gpt2.cpu",
							   "Instruction set of the engine's kernels.",
							   "Results are the same with all. A change restarts the engine; "
							   "running queries go on.",
							   &gpt2_cpu, "auto", PGC_SIGHUP, 0,
							   check_cpu, NULL, NULL);
	DefineCustomIntVariable("gpt2.threads",
							"Number of the engine's compute threads.",
							"0 means one for each physical core that the server may use. A change "
							"restarts the engine; running queries go on.",
							&gpt2_threads, 0, 0, MAX_THREADS, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.kv_cache_size",
							"Memory for the keys and values of running sequences.",
							"0 means 1 GB, or an eighth of the machine's memory if that is less. "
							"A change restarts the engine; running queries go on.",
							&gpt2_kv_cache_size, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("gpt2.enabled",
							 "Lets the engine run.",
							 "off ends it and what it is doing; its memory is given back.",
							 &gpt2_enabled, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
}

void
gpt2_define_settings(void)
{
	define_session_settings();
	define_model_settings();
	define_machine_settings();
	MarkGUCPrefixReserved("gpt2");
}
