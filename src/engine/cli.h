/*
 * cli.h: what the commands of gpt2_engine share.
 */
#ifndef G2_CLI_H
#define G2_CLI_H

#include "engine.h"
#include "model.h"
#include "util.h"

/* Options that every command with a model takes; strings point into argv. */
typedef struct g2_cli
{
	g2_settings settings;
	g2_format	format;			/* of the weights; default q8 */
	const char *model;			/* a name in one of the directories */
	char		folder_of_model[4096];	/* when --model was a path */
	const char *directories[G2_MAX_DIRECTORIES];	/* of the settings, for g2_cli_paths */
} g2_cli;

/* Takes --models, --packs, --format, --threads, --cpu, --kv-cache-mb or --model with its value;
 * false when the option is none of these. */
extern bool g2_cli_option(g2_cli *cli, const char *option, const char *value, g2_error *err);

/* Before the options. */
extern void g2_cli_init(g2_cli *cli);

/* Fills defaults: the folder gpt2_models and packs in a folder below the system's temporary one. */
extern bool g2_cli_finish(g2_cli *cli, g2_error *err);

/* Where models and packs are, after g2_cli_finish; points into cli. */
extern g2_model_paths g2_cli_paths(g2_cli *cli);

/* Sends one request and runs the engine until it is answered.  The answer's payload is appended to
 * reply; an ERROR answer becomes *err. */
extern bool g2_cli_call(g2_engine *engine, g2_message type, const g2_writer *payload,
						g2_buf *reply, g2_error *err);

/* Waits until the engine has something to do. */
extern void g2_cli_wait(g2_engine *engine);

/* Log lines go to standard error. */
extern void g2_cli_log(void *arg, g2_level level, const char *message);

/* Numbers from the command line, with range; 22023 naming the option. */
extern bool g2_cli_int(const char *option, const char *value, int64_t lo, int64_t hi,
					   int64_t *out, g2_error *err);
extern bool g2_cli_double(const char *option, const char *value, double *out, g2_error *err);

/* The commands; argv[0] is the command's name. */
extern bool g2_cmd_generate(int argc, char **argv, g2_error *err);
extern bool g2_cmd_pack(int argc, char **argv, g2_error *err);
extern bool g2_cmd_info(int argc, char **argv, g2_error *err);
extern bool g2_cmd_synth(int argc, char **argv, g2_error *err);
extern bool g2_cmd_serve(int argc, char **argv, g2_error *err);
extern bool g2_cmd_verify(int argc, char **argv, g2_error *err);
extern bool g2_cmd_import(int argc, char **argv, g2_error *err);
extern bool g2_cmd_bench(int argc, char **argv, g2_error *err);

#endif							/* G2_CLI_H */
