/*
 * main.c: gpt2_train COMMAND: the program that trains models.
 *
 * A program of its own, and not a command of gpt2_engine: it alone is linked with OpenBLAS, whose
 * library starts threads as it is loaded, and the engine starts without either.
 */
#include <locale.h>
#include <stdio.h>

#include "commands.h"
#include "protocol.h"

static const struct
{
	const char *name;
	bool		(*run) (int argc, char **argv, g2_error *err);
	const char *help;
}			commands[] = {
	{"serve", g2t_cmd_serve, "trains for a backend; started by PostgreSQL, with descriptor 3"},
	{"bench", g2t_cmd_bench, "[--layer N] [--embd N] [--head N] [--vocab N] [--tokens N]\n"
		"            [--threads N] [--steps N]: speed and memory of a step of training; without\n"
		"            options GPT-2's 124M shape and 256 tokens"},
};

static int
usage(FILE *to)
{
	fprintf(to, "gpt2_train %s\nusage: gpt2_train COMMAND [options]\n\n", G2_VERSION);
	for (size_t i = 0; i < G2_LENGTH(commands); i++)
		fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].help);
	return to == stderr ? 2 : 0;
}

int
main(int argc, char **argv)
{
	g2_error	err = {.code = G2_OK};

	setlocale(LC_ALL, "C");
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0))
		return usage(stdout);
	for (size_t i = 0; argc >= 2 && i < G2_LENGTH(commands); i++)
	{
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		if (commands[i].run(argc - 1, argv + 1, &err))
			return 0;
		fprintf(stderr, "gpt2_train: %s (%s)\n", err.message, g2_sqlstate(err.code));
		if (err.detail[0])
			fprintf(stderr, "%s\n", err.detail);
		if (err.hint[0])
			fprintf(stderr, "Hint: %s\n", err.hint);
		return 1;
	}
	return usage(stderr);
}
