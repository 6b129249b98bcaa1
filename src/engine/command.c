/*
 * command.c: what a program with commands does with its command line.
 */
#include <locale.h>
#include <stdio.h>

#include "command.h"
#include "protocol.h"

static void
print_help(FILE *to, const char *program, const g2_command *commands, size_t n, const char *more)
{
	fprintf(to, "%s %s\nusage: %s COMMAND [options]\n\n", program, G2_VERSION, program);
	for (size_t i = 0; i < n; i++)
		fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].help);
	fputs(more, to);
}

static int
report(const char *program, const g2_error *err)
{
	fprintf(stderr, "%s: %s (%s)\n", program, err->message, g2_sqlstate(err->code));
	if (err->detail[0])
		fprintf(stderr, "%s\n", err->detail);
	if (err->hint[0])
		fprintf(stderr, "Hint: %s\n", err->hint);
	return 1;
}

int
g2_run_command(const char *program, const g2_command *commands, size_t n, const char *more,
			   int argc, char **argv)
{
	const char *name = argc >= 2 ? argv[1] : "";

	setlocale(LC_ALL, "C");
	if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0)
	{
		print_help(stdout, program, commands, n, more);
		return 0;
	}
	if (strcmp(name, "--version") == 0)
	{
		printf("%s %s\n", program, G2_VERSION);
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		if (strcmp(name, commands[i].name) == 0)
		{
			g2_error	err = {.code = G2_OK};

			return commands[i].run(argc - 1, argv + 1, &err) ? 0 : report(program, &err);
		}
	print_help(stderr, program, commands, n, more);
	return 2;
}
