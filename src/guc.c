/*
 * guc.c: the settings gpt2.* of a session.
 *
 * USERSET: defaults of arguments and how calls are treated, read by call.c.  SUSET: what only
 * superusers (or whom they permit) set for others: the limits of roles and the log of slow calls.
 * The engine's own settings are in guc_engine.c.
 *
 * A limit is not read from its variable alone, see role_limits.c; the hooks here remember whether
 * the value was SET in this very session.  PostgreSQL checks the privilege for that before it calls
 * them, also for a SET that came before the library was loaded.
 */
#include "compat.h"

#include <limits.h>

#include "utils/guc.h"

#include "guc.h"

#define MAX_MODEL_NAME 255		/* of a file name */

char	   *gpt2_model;
int			gpt2_max_len;
double		gpt2_temperature;
int			gpt2_top_k;
double		gpt2_top_p;
int			gpt2_on_error;
int			gpt2_truncate;
int			gpt2_queue_timeout;
int			gpt2_batch_rows;
bool		gpt2_batch_everything;
char	   *gpt2_prefix_cache_salt;
int			gpt2_log_min_duration;

Gpt2LimitSetting gpt2_limit_settings[G2_N_LIMITS] = {
	[G2_LIMIT_CALL] = {.name = "gpt2.max_tokens_per_call"},
	[G2_LIMIT_SEQUENCES] = {.name = "gpt2.max_concurrent_sequences"},
	[G2_LIMIT_MINUTE] = {.name = "gpt2.max_tokens_per_minute"},
};

const struct config_enum_entry gpt2_on_error_names[] = {
	{"error", GPT2_ON_ERROR_RAISE, false},
	{"null", GPT2_ON_ERROR_NULL, false},
	{NULL, 0, false}
};

const struct config_enum_entry gpt2_truncate_names[] = {
	{"error", GPT2_TRUNCATE_NOT, false},
	{"left", GPT2_TRUNCATE_LEFT, false},
	{"right", GPT2_TRUNCATE_RIGHT, false},
	{NULL, 0, false}
};

/* ---- hooks ---- */

const char *
gpt2_model_name_problem(const char *name)
{
	if (strlen(name) > MAX_MODEL_NAME)
		return "A model's name has at most 255 bytes.";
	if (name[0] == '.' || strstr(name, ".."))
		return "A model's name does not start with a dot and has no \"..\" in it.";
	if (strchr(name, '/'))
		return "A model is named by its folder's name, without a slash; "
			"gpt2.model_path names the directories.";
	for (const char *c = name; *c; c++)
		if ((unsigned char) *c < 0x20 || *c == 0x7f)
			return "A model's name has no control characters in it.";
	return NULL;
}

static bool
check_model(char **value, void **extra, GucSource source)
{
	const char *why = gpt2_model_name_problem(*value);

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
check_salt(char **value, void **extra, GucSource source)
{
	if (strlen(*value) <= GPT2_MAX_SALT)
		return true;
	GUC_check_errdetail("It has %zu bytes; the limit is %d.", strlen(*value), GPT2_MAX_SALT);
	return false;
}

static bool
check_limit(int *value, void **extra, GucSource source)
{
	bool	   *here = gpt2_guc_malloc(sizeof *here);

	if (!here)
		return false;
	*here = source >= PGC_S_SESSION;
	*extra = here;
	return true;
}

static void
assign_limit(g2_limit limit, const void *extra)
{
	gpt2_limit_settings[limit].here = extra && *(const bool *) extra;
}

static void
assign_call_limit(int value, void *extra)
{
	assign_limit(G2_LIMIT_CALL, extra);
}

static void
assign_sequences_limit(int value, void *extra)
{
	assign_limit(G2_LIMIT_SEQUENCES, extra);
}

static void
assign_minute_limit(int value, void *extra)
{
	assign_limit(G2_LIMIT_MINUTE, extra);
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
define_call_settings(void)
{
	DefineCustomEnumVariable("gpt2.on_error",
							 "What a call gives that fails because of its row.",
							 "error ends the statement; null gives NULL, and one warning when the "
							 "statement ends.",
							 &gpt2_on_error, GPT2_ON_ERROR_RAISE, gpt2_on_error_names,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("gpt2.truncate",
							 "Which end of a text is cut off that does not fit into the context.",
							 "error cuts nothing and raises an error. Functions that can do with "
							 "long texts do not ask this setting.",
							 &gpt2_truncate, GPT2_TRUNCATE_NOT, gpt2_truncate_names,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.queue_timeout",
							"Longest time that a call waits to be started.",
							"0 means without a limit; statement_timeout holds in any case.",
							&gpt2_queue_timeout, 0, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("gpt2.batch_rows",
							"Rows of a query whose calls are in flight at once.",
							"1 calls row by row.",
							&gpt2_batch_rows, 64, 1, GPT2_MAX_BATCH_ROWS, PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("gpt2.batch_everything",
							 "Reads ahead for the calls of all functions, for tests.",
							 "Their arguments are evaluated ahead, and nothing is sent.",
							 &gpt2_batch_everything, false, PGC_SUSET,
							 GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("gpt2.prefix_cache_salt",
							   "Who shares the cache of prompts' beginnings and of results.",
							   "Calls share them when database, role and this text are the same.",
							   &gpt2_prefix_cache_salt, "", PGC_USERSET, 0,
							   check_salt, NULL, NULL);
	DefineCustomIntVariable("gpt2.log_min_duration",
							"Logs calls that take at least so long.",
							"The line has figures, never a text. 0 logs all calls, -1 none.",
							&gpt2_log_min_duration, -1, -1, INT_MAX, PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
}

static void
define_limit(g2_limit limit, const char *what, const char *detail, GucIntAssignHook assign)
{
	Gpt2LimitSetting *setting = &gpt2_limit_settings[limit];

	DefineCustomIntVariable(setting->name, what, detail, &setting->value, G2_UNLIMITED,
							G2_UNLIMITED, INT_MAX, PGC_SUSET, 0, check_limit, assign, NULL);
}

static void
define_limits(void)
{
	define_limit(G2_LIMIT_CALL,
				 "Most tokens of one call, prompt and new ones of all its sequences.",
				 "For the session's user, by ALTER ROLE ... SET. -1 means unlimited, 0 not "
				 "allowed.", assign_call_limit);
	define_limit(G2_LIMIT_SEQUENCES,
				 "Most sequences of a role at a time; further ones wait.",
				 "For the session's user, by ALTER ROLE ... SET. -1 means unlimited, 0 not "
				 "allowed.", assign_sequences_limit);
	define_limit(G2_LIMIT_MINUTE,
				 "Most tokens of a role in a minute; further calls wait.",
				 "For the session's user, by ALTER ROLE ... SET. -1 means unlimited, 0 not "
				 "allowed.", assign_minute_limit);
}

void
gpt2_set(const char *name, const char *value, GucAction action)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, action, true, 0, false);
}

void
gpt2_define_settings(void)
{
	define_session_settings();
	define_call_settings();
	define_limits();
	gpt2_define_engine_settings();
	MarkGUCPrefixReserved("gpt2");
}
