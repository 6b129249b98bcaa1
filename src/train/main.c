/*
 * main.c: gpt2_train COMMAND: the program that trains models.
 *
 * A program of its own, and not a command of gpt2_engine: the program that serves does not carry
 * what trains.
 */
#include "command.h"
#include "commands.h"

static const g2_command commands[] = {
	{"serve", g2t_cmd_serve, "trains for a backend; started by PostgreSQL, with descriptor 3"},
	{"bench", g2t_cmd_bench, "[--layer N] [--embd N] [--head N] [--vocab N] [--tokens N]\n"
		"            [--sequences N] [--threads N] [--steps N]: speed and memory of a step of\n"
		"            training; without options GPT-2's 124M shape and 256 tokens in one sequence"},
};

int
main(int argc, char **argv)
{
	return g2_run_command("gpt2_train", commands, G2_LENGTH(commands), "", argc, argv);
}
