/*
 * command.h: what a program with commands does with its command line: gpt2_engine and gpt2_train.
 */
#ifndef G2_COMMAND_H
#define G2_COMMAND_H

#include "util.h"

typedef struct g2_command
{
	const char *name;
	bool		(*run) (int argc, char **argv, g2_error *err);	/* argv[0] is the name */
	const char *help;			/* its options, and what it does */
} g2_command;

/* Runs the one of n commands that argv[1] names, or prints help (which `more` ends) or the version;
 * returns the process's exit status.  0: done; 1: the command's error is on standard error; 2: there
 * is no such command. */
extern int	g2_run_command(const char *program, const g2_command *commands, size_t n,
						   const char *more, int argc, char **argv);

#endif							/* G2_COMMAND_H */
