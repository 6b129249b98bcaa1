/*
 * guc.h: the settings gpt2.*, defined in guc.c (the session's) and guc_engine.c (the engine's).
 */
#ifndef GPT2_GUC_H
#define GPT2_GUC_H

#include "postgres.h"

#include "utils/guc.h"

#include "engine/protocol_watch.h"

/* USERSET: the session's defaults of arguments. */
extern char *gpt2_model;			/* gpt2.model; "" = never set: the demonstration model */
extern int	gpt2_max_len;			/* gpt2.max_len, new tokens */
extern double gpt2_temperature;		/* -1 = automatic */
#define GPT2_MAX_TEMPERATURE 100
extern int	gpt2_top_k;				/* -1 = automatic */
extern double gpt2_top_p;			/* -1 = automatic */

/* USERSET: how the session's calls are treated. */
typedef enum Gpt2OnError
{
	GPT2_ON_ERROR_RAISE, GPT2_ON_ERROR_NULL
} Gpt2OnError;

typedef enum Gpt2Truncate
{
	GPT2_TRUNCATE_NOT, GPT2_TRUNCATE_LEFT, GPT2_TRUNCATE_RIGHT
} Gpt2Truncate;

extern int	gpt2_on_error;			/* Gpt2OnError */
extern int	gpt2_truncate;			/* Gpt2Truncate */
/* What they are called there and as options; end with a NULL. */
extern const struct config_enum_entry gpt2_on_error_names[];
extern const struct config_enum_entry gpt2_truncate_names[];
extern int	gpt2_queue_timeout;		/* ms; 0 = waits as long as it takes */
extern int	gpt2_batch_rows;		/* rows in flight; 1 = row by row */
#define GPT2_MAX_BATCH_ROWS 1024
extern bool gpt2_batch_everything;	/* for tests: other functions' calls count as ours */
extern char *gpt2_prefix_cache_salt;
#define GPT2_MAX_SALT 256			/* bytes, also in UTF-8 */

/* SUSET. */
extern int	gpt2_log_min_duration;	/* ms; -1 = logs no call */

/*
 * SUSET: the limits of roles.  The values here are not what holds (role_limits.c has that), with
 * one exception: `here` says that the value was SET in this session, which takes the privilege.
 */
typedef struct Gpt2LimitSetting
{
	const char *name;
	int			value;			/* -1 = unlimited */
	bool		here;
} Gpt2LimitSetting;

extern Gpt2LimitSetting gpt2_limit_settings[G2_N_LIMITS];

/* SIGHUP: the engine's, sent by the supervisor (gpt2_engine_settings); those that others read too. */
extern bool gpt2_enabled;
extern int	gpt2_nice;				/* 0 .. 19 */
extern int	gpt2_train_threads;	/* of a training; 0 = half of the cores */
extern int	gpt2_train_checkpoint_interval; /* s; 0 = after each step */
extern double gpt2_price_per_hour;

extern void gpt2_define_settings(void);
extern void gpt2_define_engine_settings(void);	/* called by the former */

/* Sets it until the end of the transaction (GUC_ACTION_LOCAL), or of the level of settings that was
 * begun last (GUC_ACTION_SAVE), whatever the caller's rights are. */
extern void gpt2_set(const char *name, const char *value, GucAction action);

/* What is wrong with a model's name, for a detail; NULL = nothing. */
extern const char *gpt2_model_name_problem(const char *name);

/* The directories of gpt2.model_path as absolute paths; palloc'd, ends with NULL. */
extern char **gpt2_model_directories(void);

/* What the engine is to know (spans are palloc'd), but for keep_free, system_identifier and
 * timeline, which are the supervisor's. */
extern void gpt2_engine_settings(g2_settings *settings);

#endif							/* GPT2_GUC_H */
